from pathlib import Path

import numpy as np
import pytest
import soundfile

from mtla_espnet.data.audio.reader import read_audio
from mtla_espnet.data.audio.sound_file import sound_length
from mtla_espnet.files import UserError

SPH = Path(__file__).parents[2] / "fixtures" / "an4_quarter_second.sph"


def noise(length):
    return np.random.default_rng(0).integers(-9000, 9000, length).astype(np.int16)


# What sox, arecord, ffmpeg and others declare where they write to a pipe.
@pytest.mark.parametrize(
    "declared", [0x7FFFF000, 0x7FFFFFFF - 36, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFF - 44, 0xFFFFF000]
)
def test_a_length_that_a_pipe_could_not_know_is_no_truncation(tmp_path, declared):
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(100), 16000)
    data = bytearray(path.read_bytes())
    data[4:8] = data[40:44] = declared.to_bytes(4, "little")
    path.write_bytes(data)
    np.testing.assert_array_equal(read_audio(path)[0] * 32768, noise(100))


@pytest.mark.parametrize("declared", [10**9, 2_140_000_000, 3_000_000_000, 4_200_000_000])
def test_a_truncated_recording_of_gigabytes_is_refused(tmp_path, declared):
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(100), 16000)
    data = bytearray(path.read_bytes())
    data[4:8] = (declared + 36).to_bytes(4, "little")
    data[40:44] = declared.to_bytes(4, "little")
    path.write_bytes(data)
    for read in (read_audio, lambda path: sound_length(str(path))):
        with pytest.raises(UserError, match=f"truncated: its header promises {declared}"):
            read(path)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (b"sample_count -i 4000", b"sample_count -i 10000000", "truncated: its header promises"),
        (b"sample_count -i 4000", b"sample_count -i -400", "has a negative number of samples"),
        (b"   1024", b"   abcd", "not a NIST sphere header: invalid literal for int|recognised"),
    ],
)
def test_a_nist_header_that_cannot_be_is_refused(tmp_path, field, value, message):
    path = tmp_path / "a.sph"
    data = SPH.read_bytes()
    assert field in data
    head = data[:1024].replace(field, value)
    path.write_bytes(head[:1024].ljust(1024) + data[1024:])
    with pytest.raises(UserError, match=message):
        read_audio(path)


def test_an_ogg_that_promises_what_its_bytes_cannot_hold_is_refused(tmp_path):
    path = tmp_path / "a.ogg"
    soundfile.write(path, noise(16000), 16000)
    data = bytearray(path.read_bytes())
    page = data.rindex(b"OggS")
    data[page + 6 : page + 14] = (1 << 55).to_bytes(8, "little")
    data[page + 22 : page + 26] = bytes(4)
    data[page + 22 : page + 26] = _ogg_crc(data[page:]).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(UserError, match="a.ogg: (truncated|cannot be read)"):
        read_audio(path)


def _ogg_crc(page):
    """RFC 3533: polynomial 0x04c11db7, no reflection."""
    crc = 0
    for byte in page:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc & 0x80000000 else 0)) & 0xFFFFFFFF
    return crc


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
