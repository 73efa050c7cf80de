"""Speech as people hand it to a model, as the samples that the model takes."""

import os

import numpy as np
import soxr
import torch

from mtla_espnet.data.audio.reader import read_audio
from mtla_espnet.data.audio.sound_file import HIGHEST_HZ, LOWEST_HZ
from mtla_espnet.files import UserError

# What integers of audio files are divided by; those of 8 bits lie around 128.
_FULL_SCALE = {"int16": 1 << 15, "int32": 1 << 31}
# Floats as loud as that are integers that were not scaled; 1 is full scale.
_LOUDEST = 100.0


def samples_of(value, rate_hz: int) -> np.ndarray:
    """Return (T,) float32 samples in [-1, 1) at a rate.

    Args:
        value: (T,) samples of one channel at that rate, as an array or a tensor: floats, or
            integers of an audio file (8 bits without, 16 and 32 with sign); a pair (samples,
            their rate in Hz), which is resampled; or the path of a recording, of which the
            channels are mixed.
        rate_hz: that the model takes.

    Raises:
        UserError: it is none of these, is empty or has numbers that are not finite. The message
            goes on from the name of the utterance.
    """
    own_hz = rate_hz
    if isinstance(value, str | os.PathLike):
        value = read_audio(value, channel=None)
    if is_pair(value):
        value, own_hz = value
    elif isinstance(value, tuple) and len(value) == 2 and np.ndim(value[0]) == 0:
        raise UserError("is a pair: give (samples, rate) in this order")
    samples = array_of(value)
    if samples.ndim == 2 and 1 in samples.shape:  # one channel, as torchaudio has it
        samples = samples.reshape(-1)
    if samples.ndim == 0:
        raise UserError("is one number: give an array of samples, not a list of numbers")
    if samples.ndim > 1:
        axis = int(np.argmin(samples.shape))
        raise UserError(
            f"has the shape {samples.shape}, and the model takes one channel, (T,): give the mean "
            f"of the channels, speech.mean({axis})"
        )
    if not len(samples):
        raise UserError("has no samples")
    return resampled(_scaled(samples), own_hz, rate_hz)


def is_pair(value) -> bool:
    """Tell whether a value is a pair (samples, rate).

    Example:
        >>> is_pair((np.zeros(8), 16000)), is_pair((np.zeros(8), np.zeros(9)))
        (True, False)
    """
    if not isinstance(value, tuple) or len(value) != 2:
        return False
    return isinstance(value[1], int | float | np.number) and np.ndim(value[0]) > 0


def array_of(value) -> np.ndarray:
    """Return an array, or a tensor of any device, as an array.

    Raises:
        UserError: it is none.
    """
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() else value
    try:
        array = np.asarray(value)
    except (ValueError, TypeError):
        array = np.empty(0, dtype=object)
    if array.dtype.kind not in "fiu":
        raise UserError(f"is a {type(value).__name__}: give an array of numbers")
    return array


def resampled(samples: np.ndarray, rate_hz: float, wanted_hz: int) -> np.ndarray:
    """Return a copy of (T,) float32 samples at another rate.

    Raises:
        UserError: no audio has such a rate.
    """
    if not LOWEST_HZ <= rate_hz <= HIGHEST_HZ:
        raise UserError(f"has a rate of {rate_hz} Hz: it must be in {LOWEST_HZ} to {HIGHEST_HZ}")
    return samples.copy() if rate_hz == wanted_hz else soxr.resample(samples, rate_hz, wanted_hz)


def _scaled(samples: np.ndarray) -> np.ndarray:
    kind = samples.dtype.name
    if samples.dtype.kind == "f":
        samples = samples.astype(np.float32)
        if not np.isfinite(samples).all():
            raise UserError("has samples that are not finite numbers")
        loudest = float(np.abs(samples).max())
        if loudest >= _LOUDEST:
            raise UserError(
                f"has samples up to {loudest:g}, and 1 is full scale: divide those of 16 bits "
                "by 32768"
            )
        return samples
    if kind == "uint8":
        return (samples.astype(np.float32) - 128) / 128
    if kind not in _FULL_SCALE:
        raise UserError(f"has samples of {kind}: give floats in -1 to 1, or int16")
    return (samples / _FULL_SCALE[kind]).astype(np.float32)
