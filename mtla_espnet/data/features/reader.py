"""Reading features from where they are: Kaldi archives, Fairseq's zips, `.npy` files.

`FeatureTable` is a loader for ESPnet (`feats.scp,speech,fairseq_zip`).
"""

import collections
import os
from collections.abc import Iterator, Mapping

import numpy as np

from mtla_espnet.data.archives.ark import is_ark_place, read_ark_matrix
from mtla_espnet.data.archives.fairseq_zip import Place, features_from_bytes, parse_place
from mtla_espnet.data.kaldi.tables import read_table
from mtla_espnet.files import UserError

_MOST_OPEN_FILES = 64


def is_features_entry(entry: str) -> bool:
    """Tell whether an entry names features, and not audio.

    Example:
        >>> [is_features_entry(e) for e in ("a.ark:5", "a.zip:40:99", "a.npy", "a.wav")]
        [True, True, True, False]
    """
    return is_ark_place(entry) or parse_place(entry) is not None or entry.endswith(".npy")


class FeatureReader:
    """Reads features; keeps the zip files that it read from open.

    A copy in another process is safe: reading does not move a position that a forked process
    shares, and what is pickled has no open files.
    """

    def __init__(self):
        self._descriptors: collections.OrderedDict[str, int] = collections.OrderedDict()

    def read(self, entry: str) -> np.ndarray:
        """Read the features of an utterance.

        Args:
            entry: `a.ark:25`, `a.zip:<offset>:<bytes>` or `a.npy`.

        Returns:
            (T, D) float32.

        Raises:
            UserError: they cannot be read, or are not finite; the message starts with the
                entry.
        """
        place = parse_place(entry)
        if place:
            features = features_from_bytes(self._zipped(place), entry)
        elif is_ark_place(entry):
            features = read_ark_matrix(entry)
        else:
            features = _read_npy(entry)
        if not np.isfinite(features).all():
            raise UserError(f"{entry}: has features that are not finite numbers")
        return features

    def close(self) -> None:
        """Close the files that are open."""
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])

    def __del__(self):
        self.close()

    def __getstate__(self):
        return {}

    def __setstate__(self, state):
        self.__init__()

    def _zipped(self, place: Place) -> bytearray:
        try:
            descriptor = self._descriptor(place.path)
            size = os.fstat(descriptor).st_size
            if place.offset + place.num_bytes > size:
                raise UserError(f"{place}: is out of range, the file has {size} bytes")
            content = bytearray(place.num_bytes)
            if os.preadv(descriptor, [content], place.offset) != place.num_bytes:
                raise UserError(f"{place}: cannot be read in full")
        except FileNotFoundError:
            raise UserError(f"{place}: no such file") from None
        except OSError as error:
            raise UserError(f"{place}: cannot be read: {error.strerror}") from None
        return content

    def _descriptor(self, path: str) -> int:
        descriptor = self._descriptors.get(path)
        if descriptor is None:
            if len(self._descriptors) == _MOST_OPEN_FILES:
                os.close(self._descriptors.popitem(last=False)[1])
            descriptor = self._descriptors[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._descriptors.move_to_end(path)
        return descriptor


class FeatureTable(Mapping):
    """Utterance -> features, for a `feats.scp`; what ESPnet calls a loader.

    Args:
        path: the table.

    Raises:
        UserError: it is malformed.
    """

    def __init__(self, path: str | os.PathLike):
        self._path = path
        self._entries = read_table(path)
        self._reader = FeatureReader()

    def __getitem__(self, utterance: str) -> np.ndarray:
        entry = self._entries[utterance]
        try:
            return self._reader.read(entry)
        except UserError as error:
            raise UserError(f"{self._path}: {utterance!r}: {error}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def read_features(entry: str) -> np.ndarray:
    """Read the features of one utterance; see `FeatureReader.read`."""
    return FeatureReader().read(entry)


def _read_npy(path: str) -> np.ndarray:
    try:
        with open(path, "rb") as stream:
            return features_from_bytes(bytearray(stream.read()), path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
