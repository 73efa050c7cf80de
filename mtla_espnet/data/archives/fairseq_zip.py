"""Features or sound in a zip file, as Fairseq S2T stores them, and the manifests of them.

The zip stores an array an utterance, `<id>.npy`, uncompressed, so that a part of the file
is an array: `fbank80.zip:<offset>:<bytes>`; or a sound file an utterance, `flac80.zip`, as its
`--use-audio-input` makes. A manifest is a TSV with the columns `id audio
n_frames tgt_text speaker` and maybe others. Source: `examples/speech_to_text` of Fairseq.
"""

import collections
import io
import math
import os
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from mtla_espnet.data.kaldi.tables import problem_of_id
from mtla_espnet.files import (
    UserError,
    atomic_path,
    open_file,
    read_text,
    reading,
    write_text,
)

COLUMNS = ("id", "audio", "n_frames", "tgt_text", "speaker")
_REQUIRED = COLUMNS[:4]
_TEXTS = {"tgt_text", "src_text"}
_LOCAL_HEADER_BYTES = 30
_PLACE = re.compile(r"(.+\.zip):(\d+):(\d+)")
_MOST_HEADER_BYTES = 1024
_MOST_OPEN_FILES = 64
_HEADER_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
ARRAY_MARK_BYTES = np.lib.format.MAGIC_LEN
# Fixed, so that equal features give equal files.
_DATE = (1980, 1, 1, 0, 0, 0)


class ZipPlace(NamedTuple):
    """Where an array is in a zip file."""

    path: str
    offset: int
    num_bytes: int

    def __str__(self) -> str:
        return f"{self.path}:{self.offset}:{self.num_bytes}"


def parse_place(entry: str) -> ZipPlace | None:
    """Return the place that an entry names; None where it is none.

    Example:
        >>> parse_place("a/fbank80.zip:40:1728")
        ZipPlace(path='a/fbank80.zip', offset=40, num_bytes=1728)
        >>> parse_place("a/b.npy")
    """
    match = _PLACE.fullmatch(entry)
    return ZipPlace(match[1], int(match[2]), int(match[3])) if match else None


class PlaceReader:
    """Reads places in zip files; keeps the files that it read from open.

    A copy in another process is safe: reading does not move a position that a forked process
    shares, and what is pickled has no open files.
    """

    def __init__(self):
        self._streams: collections.OrderedDict[str, BinaryIO] = collections.OrderedDict()

    def read(self, place: ZipPlace, num_bytes: int | None = None) -> bytearray:
        """Return what is at a place.

        Args:
            place: it must lie in the file as a whole.
            num_bytes: of its beginning; None: all.

        Raises:
            UserError: the file cannot be read, or has no such place; begins with the place.
        """
        descriptor = self._stream(place).fileno()
        size = os.fstat(descriptor).st_size
        if place.offset + place.num_bytes > size:
            raise UserError(f"{place}: is out of range, the file has {size} bytes")
        content = bytearray(place.num_bytes if num_bytes is None else num_bytes)
        with reading(place):
            count = os.preadv(descriptor, [content], place.offset)
        if count != len(content):
            raise UserError(f"{place}: cannot be read in full")
        return content

    def close(self) -> None:
        """Close the files that are open."""
        while self._streams:
            self._streams.popitem()[1].close()

    def __del__(self):
        self.close()

    def __getstate__(self):
        return {}

    def __setstate__(self, state):
        self.__init__()

    def _stream(self, place: ZipPlace) -> BinaryIO:
        stream = self._streams.get(place.path)
        if stream is None:
            if len(self._streams) == _MOST_OPEN_FILES:
                self._streams.popitem(last=False)[1].close()
            stream = self._streams[place.path] = open_file(place.path, f"{place}")
        self._streams.move_to_end(place.path)
        return stream


class FeatureZip:
    """A zip file of features that is being written; a context.

    Args:
        path: the file.
    """

    def __init__(self, path: Path):
        self._zip = zipfile.ZipFile(path, "w", zipfile.ZIP_STORED)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._zip.close()

    def add(self, utterance: str, features: np.ndarray) -> tuple[int, int]:
        """Append an array.

        Args:
            utterance: its id; any text that a file name in a zip can be.
            features: (T, D); stored as float32.

        Returns:
            Offset and length of the `.npy` in the file, in bytes.
        """
        stream = io.BytesIO()
        array = np.ascontiguousarray(features, dtype=np.float32)
        np.lib.format.write_array(stream, array, allow_pickle=False)
        return self.add_bytes(f"{utterance}.npy", stream.getvalue())

    def add_bytes(self, name: str, content: bytes) -> tuple[int, int]:
        """Append a file; returns offset and length of its content."""
        info = zipfile.ZipInfo(name, _DATE)
        info.external_attr = 0o644 << 16
        self._zip.writestr(info, content)
        # In bytes of UTF-8: with the number of characters, other ids than ASCII would break.
        header_bytes = _LOCAL_HEADER_BYTES + len(name.encode()) + len(info.extra)
        return info.header_offset + header_bytes, len(content)


def merge_zips(shards: Sequence[Path], path: Path) -> dict[str, ZipPlace]:
    """Join zip files of features to one, which appears whole.

    Args:
        shards: the files, in order.
        path: the new file.

    Returns:
        Utterance -> its place in the new file.
    """
    places = {}
    with atomic_path(path) as temporary:
        with FeatureZip(temporary) as target:
            for shard in shards:
                with zipfile.ZipFile(shard) as source:
                    for name in source.namelist():
                        offset, size = target.add_bytes(name, source.read(name))
                        places[name.removesuffix(".npy")] = ZipPlace(str(path), offset, size)
    return places


def is_array(content: bytes | bytearray) -> bool:
    """Tell whether bytes begin as an `.npy` file does, and not as a sound file."""
    return content.startswith(np.lib.format.MAGIC_PREFIX)


def features_from_bytes(content: bytearray, where: str) -> np.ndarray:
    """Read an `.npy` of features.

    Args:
        content: all of it; the array is a view of it where it can be.
        where: for messages.

    Returns:
        (T, D) float32.

    Raises:
        UserError: it is not one array of floats of two dimensions, whole.
    """
    head = io.BytesIO(content[:_MOST_HEADER_BYTES])
    with reading(where, "is not an array in numpy's format"):
        version = np.lib.format.read_magic(head)
        if version not in _HEADER_READERS:
            raise ValueError(f"version {version}")
        shape, fortran_order, dtype = _HEADER_READERS[version](head)
    if dtype.kind != "f":
        raise UserError(f"{where}: holds {dtype}, not float32")
    size = math.prod(shape)
    if len(shape) != 2 or min(shape) < 1:
        raise UserError(f"{where}: has the shape {shape}, not (frames, features)")
    whole = head.tell() + size * dtype.itemsize
    if whole != len(content):
        raise UserError(f"{where}: has {len(content)} bytes, its array {whole}")
    array = np.frombuffer(content, dtype, size, head.tell())
    array = array.reshape(shape, order="F" if fortran_order else "C")
    return array.astype(np.float32, copy=False)


class ManifestRow(NamedTuple):
    """A line of a manifest, with its number in the file."""

    line: int
    fields: Mapping[str, str]


def read_manifest(path: str | os.PathLike) -> list[ManifestRow]:
    """Read a manifest of Fairseq S2T.

    Args:
        path: the TSV file; quotes have no meaning in it, as for Fairseq.

    Returns:
        Its lines, each with a field for every column.

    Raises:
        UserError: a column is missing, a line has another number of fields than the head,
            an id is empty or there twice, or `n_frames` is not a number.
    """
    lines = read_text(path).removeprefix("\ufeff").split("\n")  # spreadsheets begin with a mark
    header = lines[0].rstrip("\r").split("\t")
    missing = [name for name in _REQUIRED if name not in header]
    if missing:
        raise UserError(
            f"{path}:1: lacks the columns {', '.join(missing)} (there are {', '.join(header)})"
        )
    rows, seen = [], {}
    for number, line in enumerate(lines[1:], 2):
        if not line.strip() and number == len(lines):
            continue
        fields = line.rstrip("\r").split("\t")
        if len(fields) != len(header):
            raise UserError(f"{path}:{number}: has {len(fields)} fields, the head {len(header)}")
        row = dict(zip(header, fields, strict=True))
        if not row["id"] or row["id"] in seen:
            problem = f"id {row['id']!r} is in line {seen[row['id']]} too" if row["id"] else "no id"
            raise UserError(f"{path}:{number}: {problem}")
        if problem_of_id(row["id"]):
            raise UserError(f"{path}:{number}: id {row['id']!r} {problem_of_id(row['id'])}")
        if not row["n_frames"].isdecimal():
            raise UserError(f"{path}:{number}: n_frames {row['n_frames']!r} is not a whole number")
        seen[row["id"]] = number
        rows.append(ManifestRow(number, row))
    if not rows:
        raise UserError(f"{path}: has no line but the head")
    return rows


def write_manifest(
    path: str | os.PathLike, rows: Iterable[Mapping[str, object]], more: Sequence[str] = ()
) -> None:
    """Write a manifest as a whole.

    Args:
        path: the TSV file.
        rows: column -> value, for `COLUMNS` and `more`.
        more: columns beside `COLUMNS`, such as `src_text`.

    A tab, which separates columns, becomes a blank in a text.

    Raises:
        UserError: another value has a tab, or any has a line end.
    """
    names = (*COLUMNS, *more)
    lines = ["\t".join(names)]
    for row in rows:
        values = {name: str(row[name]) for name in names}
        for name in values.keys() & _TEXTS:
            values[name] = values[name].replace("\t", " ")
        for name, value in values.items():
            if set(value) & set("\t\n\r"):
                raise UserError(
                    f"{path}: {name} of {row['id']!r} has a tab or a line end: {value!r}"
                )
        lines.append("\t".join(values.values()))
    write_text(path, "\n".join(lines) + "\n")
