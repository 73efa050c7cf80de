"""Kaldi archives of waveforms and of matrices of features, at a place `file.ark:25`.

A part of a matrix is `file.ark:25[0:9]` or `file.ark:25[0:9,0:39]`: first and last row, and
column. The places are opened as plain files: nothing in them is ever taken for a command.
"""

import os
import re
from collections.abc import Iterable
from typing import BinaryIO

import numpy as np
from omniio import kaldi

from mtla_espnet.files import UserError, open_file, reading
from mtla_espnet.signals import signals_held

COMPRESSION = kaldi.kSpeechFeature  # Kaldi's own choice for features: a byte a value

_PLACE = re.compile(r"(.+\.ark):(\d+)(\[.*\])?")
_SPAN = r"(?:(\d*):(\d*))"
_RANGE = re.compile(rf"\[{_SPAN}(?:,\s*{_SPAN})?\]")
# Rows that a range may go beyond the matrix, as in Kaldi: frames are counted from rounded times.
_ROWS_BEYOND = 3


def is_ark_place(entry: str) -> bool:
    """Tell whether a value of `wav.scp` or `feats.scp` is a place in an archive.

    Example:
        >>> is_ark_place("a/b.ark:17"), is_ark_place("a/b.ark:17[0:9]"), is_ark_place("a/b.wav")
        (True, True, False)
    """
    return _PLACE.fullmatch(entry) is not None


def has_range(place: str) -> bool:
    """Tell whether a place in an archive is a part of a matrix, which ESPnet cannot read.

    Example:
        >>> has_range("a.ark:17[0:9]"), has_range("a.ark:17")
        (True, False)
    """
    return place.endswith("]")


def ark_file(place: str) -> str:
    """Return the file of a place in an archive.

    Example:
        >>> ark_file("a/b.ark:17"), ark_file("a/b.ark:17[0:9,0:39]")
        ('a/b.ark', 'a/b.ark')
    """
    return _PLACE.fullmatch(place)[1]


def read_ark_audio(place: str) -> tuple[np.ndarray, int]:
    """Read a waveform.

    Both layouts are read: Kaldi's own, whose integers are scaled as those of a sound file
    are (ESPnet's loader leaves them as they are), and ESPnet's, a whole sound file an entry.

    Args:
        place: `file.ark:25`.

    Returns:
        (T, C) float32 in [-1, 1), and the rate in Hz.

    Raises:
        UserError: there is no such place, or no waveform; the message starts with it.
    """
    if has_range(place):
        raise UserError(f"{place}: a range is of features; cut audio by `segments`")
    value = _read(place)
    if not isinstance(value, tuple):
        raise UserError(f"{place}: holds a matrix, not audio")
    rate_hz, samples = value
    if samples.dtype.kind == "i":
        samples = samples / (np.iinfo(samples.dtype).max + 1.0)
    if samples.ndim == 1:
        samples = samples[:, None]
    return samples.astype(np.float32), rate_hz


def read_ark_matrix(place: str) -> np.ndarray:
    """Read a matrix, compressed or not.

    Args:
        place: `file.ark:25`, or a part, `file.ark:25[0:9,0:39]`; both ends belong to it.

    Returns:
        (T, D) float32.

    Raises:
        UserError: there is no such place, no matrix, or nothing in it; the message starts with
            the place.
    """
    value = _read(place)
    if isinstance(value, tuple):
        raise UserError(f"{place}: holds audio, not a matrix of features")
    if value.ndim != 2:
        raise UserError(f"{place}: holds a vector, not a matrix of features")
    if not value.size:
        raise UserError(f"{place}: is empty: its matrix has the shape {value.shape}")
    if has_range(place):
        value = _part(place, value)
    return np.require(value, np.float32, ["C", "W"])


def write_ark_audio(
    ark: BinaryIO, utterance: str, samples: np.ndarray, rate_hz: int, container: str
) -> int:
    """Append a waveform in ESPnet's layout, a whole sound file with 16 bits.

    Args:
        ark: the open archive.
        utterance: its id.
        samples: (T,) int16.
        rate_hz: their rate.
        container: wav or flac.

    Returns:
        The offset to read it from.
    """
    offset = ark.tell() + len(f"{utterance} ".encode())
    with signals_held():  # libsndfile writes through callbacks in Python
        kaldi.save_ark(
            ark,
            {utterance: (rate_hz, samples)},
            write_function="soundfile",
            write_kwargs={"format": container, "subtype": "PCM_16"},
        )
    return offset


def write_ark_matrices(
    ark: BinaryIO, matrices: Iterable[tuple[str, np.ndarray]], compress: bool = False
) -> dict[str, int]:
    """Append matrices of features.

    Args:
        ark: the open archive.
        matrices: id and (T, D) float32, in order.
        compress: store a byte a value, with Kaldi's error.

    Returns:
        Id -> the offset to read it from.
    """
    offsets = {}
    for utterance, matrix in matrices:
        offsets[utterance] = ark.tell() + len(f"{utterance} ".encode())
        method = COMPRESSION if compress else None
        kaldi.save_ark(ark, {utterance: matrix}, compression_method=method)
    return offsets


def _read(place: str):
    match = _PLACE.fullmatch(place)
    if match is None:
        raise UserError(f"{place}: is no place in an archive, such as a.ark:25")
    path, offset = match[1], int(match[2])
    with open_file(path, place) as stream:
        size = os.fstat(stream.fileno()).st_size
        if offset >= size:
            raise UserError(f"{place}: the offset is out of range, the file has {size} bytes")
        with reading(place, "cannot be read from the archive"):
            stream.seek(offset)
            with signals_held():  # libsndfile reads through callbacks in Python
                return kaldi.read_object(stream)


def _part(place: str, matrix: np.ndarray) -> np.ndarray:
    """Return the part of a matrix that the range of a place names."""
    written = _PLACE.fullmatch(place)[3]
    match = _RANGE.fullmatch(written)
    if match is None:
        raise UserError(
            f"{place}: {written} is not a range such as [0:9] or [0:9,0:39]: rows, columns"
        )
    rows, columns = matrix.shape
    first, last = int(match[1] or 0), int(match[2] or rows - 1)
    left, right = int(match[3] or 0), int(match[4] or columns - 1)
    if not (first <= last < rows + _ROWS_BEYOND and first < rows and left <= right < columns):
        raise UserError(
            f"{place}: the range {written} is not in the matrix of {rows} rows and "
            f"{columns} columns (counted from 0)"
        )
    return matrix[first : last + 1, left : right + 1]
