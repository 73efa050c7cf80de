from pathlib import Path

import numpy as np
import pytest
import soundfile

from mtla_espnet.data.audio.reader import read_audio
from mtla_espnet.files import UserError

SPH = Path(__file__).parents[2] / "fixtures" / "an4_quarter_second.sph"


def noise(length):
    return np.random.default_rng(0).integers(-9000, 9000, length).astype(np.int16)


def test_a_length_that_a_pipe_could_not_know_is_no_truncation(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(100), 16000)
    data = bytearray(path.read_bytes())
    data[4:8] = data[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    np.testing.assert_array_equal(read_audio(path)[0] * 32768, noise(100))


@pytest.mark.parametrize("suffix", ["wav", "flac", "aiff", "au", "w64", "rf64", "ogg"])
@pytest.mark.parametrize("lost_bytes", [2, 700])
def test_truncated_audio_is_refused(tmp_path, suffix, lost_bytes):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, noise(16000), 16000)
    path.write_bytes(path.read_bytes()[:-lost_bytes])
    with pytest.raises(UserError) as error:
        read_audio(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_truncated_sph_is_refused(tmp_path):
    path = tmp_path / "a.sph"
    path.write_bytes(SPH.read_bytes()[:-2])
    with pytest.raises(UserError, match="truncated: its header promises 9024 bytes, 9022 are"):
        read_audio(path)


def test_truncated_mp3_is_refused_beyond_its_inexact_length(tmp_path):
    path = tmp_path / "a.mp3"
    soundfile.write(path, noise(16000), 16000)
    data = path.read_bytes()
    path.write_bytes(data[:-2])
    assert len(read_audio(path)[0]) > 16000 - 2 * 1152
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="a.mp3: truncated: its header promises 16000 samples"):
        read_audio(path)
