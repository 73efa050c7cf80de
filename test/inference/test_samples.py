import re

import numpy as np
import pytest
import soundfile
import soxr
import torch

from mtla_espnet.files import UserError
from mtla_espnet.inference.samples import samples_of

RATE_HZ = 8000
WAVE = np.random.default_rng(0).uniform(-0.9, 0.9, 800).astype(np.float32)


@pytest.mark.parametrize(
    ("scale", "offset", "kind", "step"),
    [
        (1 << 15, 0, np.int16, 2**-15),
        (1 << 31, 0, np.int32, 2**-23),
        (128, 128, np.uint8, 2**-7),
        (1, 0, np.float64, 1e-7),
        (1, 0, np.float16, 1e-3),
    ],
)
def test_numbers_of_files_are_scaled(scale, offset, kind, step):
    stored = (WAVE.astype(np.float64) * scale + offset).astype(kind)
    for value in (stored, torch.from_numpy(stored), stored[:, None], stored[None]):
        samples = samples_of(value, RATE_HZ)
        assert samples.dtype == np.float32 and samples.shape == (800,)
        assert np.abs(samples - WAVE).max() <= step


def test_tensors_of_training_and_of_few_bits():
    value = torch.tensor(WAVE, requires_grad=True)
    assert np.array_equal(samples_of(value, RATE_HZ), WAVE)
    assert np.abs(samples_of(value.bfloat16(), RATE_HZ) - WAVE).max() <= 2**-8


def test_a_pair_and_a_path_are_resampled_and_channels_mixed(tmp_path):
    expected = soxr.resample(WAVE, 16_000, RATE_HZ)
    for rate_hz in (16_000, 16_000.0, np.int64(16_000)):
        assert np.array_equal(samples_of((WAVE, rate_hz), RATE_HZ), expected)
    path = tmp_path / "a.wav"
    soundfile.write(path, np.stack([2 * WAVE / 3, 4 * WAVE / 3], 1), 16_000, subtype="FLOAT")
    for name in (path, str(path)):
        assert np.allclose(samples_of(name, RATE_HZ), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros((800, 2)), "has the shape (800, 2), and the model takes one channel, (T,): give "
         "the mean of the channels, speech.mean(1)"),
        (np.zeros((2, 800)), "speech.mean(0)"),
        (np.zeros((2, 3, 4)), "has the shape (2, 3, 4)"),
        (np.zeros(0), "has no samples"),
        (np.array([0.0, np.inf]), "has samples that are not finite numbers"),
        (np.array([0.0, 3e4]), "has samples up to 30000, and 1 is full scale"),
        (np.zeros(8, dtype=np.int64), "has samples of int64: give floats in -1 to 1, or int16"),
        (np.zeros(8, dtype=complex), "is a ndarray: give an array of numbers"),
        (np.zeros(8, dtype=bool), "is a ndarray: give an array of numbers"),
        (None, "is a NoneType: give an array of numbers"),
        (b"RIFF", "is a bytes: give an array of numbers"),
        (0.5, "is one number: give an array of samples"),
        ((16_000, WAVE), "is a pair: give (samples, rate) in this order"),
        ((WAVE, 1), "has a rate of 1 Hz: it must be in 1000 to 1000000"),
        ((WAVE, float("nan")), "has a rate of nan Hz"),
        ("none.wav", "none.wav: no such file"),
    ],
)  # fmt: skip
def test_what_is_none_is_one_line(value, message):
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        samples_of(value, RATE_HZ)
    assert "\n" not in str(caught.value)
