"""Reading features from where they are: Kaldi archives, Fairseq's zips, `.npy` files.

`FeatureTable` is a loader for ESPnet (`feats.scp,speech,fairseq_zip`).
"""

import os
from collections.abc import Iterator, Mapping

import numpy as np

from mtla_espnet.data.archives.ark import is_ark_place, read_ark_matrix
from mtla_espnet.data.archives.fairseq_zip import PlaceReader, features_from_bytes, parse_place
from mtla_espnet.data.kaldi.tables import read_table
from mtla_espnet.files import UserError, open_file, reading


def is_features_entry(entry: str) -> bool:
    """Tell whether an entry names features, and not audio.

    Example:
        >>> [is_features_entry(e) for e in ("a.ark:5", "a.zip:40:99", "a.npy", "a.wav")]
        [True, True, True, False]
    """
    return is_ark_place(entry) or parse_place(entry) is not None or entry.endswith(".npy")


class FeatureReader:
    """Reads features; keeps the zip files that it read from open, as `PlaceReader` does."""

    def __init__(self):
        self._places = PlaceReader()

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
            features = features_from_bytes(self._places.read(place), entry)
        elif is_ark_place(entry):
            features = read_ark_matrix(entry)
        else:
            features = _read_npy(entry)
        if not np.isfinite(features).all():
            raise UserError(f"{entry}: has features that are not finite numbers")
        return features


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
    """Read the features of one utterance, (N, D) float32, where its entry says they are."""
    return FeatureReader().read(entry)


def _read_npy(path: str) -> np.ndarray:
    with open_file(path) as stream, reading(path):
        content = bytearray(stream.read())
    return features_from_bytes(content, path)
