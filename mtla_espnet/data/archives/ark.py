"""Kaldi archives of waveforms and of matrices of features, at a place `file.ark:25`.

The places are opened as plain files: nothing in them is ever taken for a command.
"""

import io
import os
import re
from collections.abc import Iterable
from typing import BinaryIO

import numpy as np
import soundfile
from omniio import kaldi

from mtla_espnet.files import UserError
from mtla_espnet.signals import signals_held

COMPRESSION = kaldi.kSpeechFeature  # Kaldi's own choice for features: a byte a value

_PLACE = re.compile(r"(.+\.ark):(\d+)")
_READ_ERRORS = (kaldi.ReadError, soundfile.LibsndfileError, OSError, ValueError, OverflowError)


def is_ark_place(entry: str) -> bool:
    """Tell whether a value of `wav.scp` or `feats.scp` is a place in an archive.

    Example:
        >>> is_ark_place("a/b.ark:17"), is_ark_place("a/b.wav")
        (True, False)
    """
    return _PLACE.fullmatch(entry) is not None


def ark_file(place: str) -> str:
    """Return the file of a place in an archive.

    Example:
        >>> ark_file("a/b.ark:17")
        'a/b.ark'
    """
    return place.rpartition(":")[0]


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
        place: `file.ark:25`.

    Returns:
        (T, D) float32.

    Raises:
        UserError: there is no such place, or no matrix; the message starts with it.
    """
    value = _read(place)
    if isinstance(value, tuple):
        raise UserError(f"{place}: holds audio, not a matrix of features")
    if value.ndim != 2:
        raise UserError(f"{place}: holds a vector, not a matrix of features")
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
    try:
        size = os.path.getsize(path)
        if offset >= size:
            raise UserError(f"{place}: the offset is out of range, the file has {size} bytes")
        with io.BufferedReader(open(path, "rb", buffering=0)) as stream:
            stream.seek(offset)
            with signals_held():  # libsndfile reads through callbacks in Python
                return kaldi.read_object(stream)
    except FileNotFoundError:
        raise UserError(f"{place}: no such file") from None
    except _READ_ERRORS as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{place}: cannot be read from the archive: {reason}") from None
