import kaldiio
import numpy as np
import pytest
import soundfile

from audio_files import SPH, noise, sph_samples, write_wav
from mtla_espnet.data.audio.reader import AudioReader, read_audio
from mtla_espnet.files import UserError


def test_sph_is_read_exactly():
    samples, rate_hz = read_audio(SPH)
    assert rate_hz == 16000
    assert samples.dtype == np.float32
    np.testing.assert_array_equal(samples * 32768, sph_samples())


@pytest.mark.parametrize("suffix", ["wav", "flac", "aiff", "au", "w64"])
def test_lossless_formats_are_read_exactly(tmp_path, suffix):
    path = write_wav(tmp_path / f"a.{suffix}", noise(500), 8000, subtype="PCM_16")
    samples, rate_hz = read_audio(path)
    assert rate_hz == 8000
    np.testing.assert_array_equal(samples * 32768, noise(500))


@pytest.mark.parametrize(
    ("suffix", "subtype"), [("ogg", "VORBIS"), ("opus", "OPUS"), ("mp3", None)]
)
def test_lossy_formats_are_read_in_full(tmp_path, suffix, subtype):
    tone = 0.5 * np.sin(np.arange(16000) * 0.05)
    options = {"format": "OGG" if subtype else "MP3", "subtype": subtype}
    samples, rate_hz = read_audio(write_wav(tmp_path / f"a.{suffix}", tone, **options))
    assert (len(samples), rate_hz) == (16000, 16000)
    assert np.corrcoef(samples, tone)[0, 1] > 0.9


def test_a_channel_or_the_mean_of_all_is_taken(tmp_path):
    stereo = noise(300, channels=2)
    path = write_wav(tmp_path / "a.wav", stereo)
    for channel in (0, 1):
        samples, _ = read_audio(path, channel=channel)
        np.testing.assert_array_equal(samples * 32768, stereo[:, channel])
    samples, _ = read_audio(path, channel=None)
    np.testing.assert_array_equal(samples * 65536, stereo.sum(axis=1, dtype=np.int32))
    with pytest.raises(UserError, match=r"a.wav: has 2 channels, and no channel 2 .the first is 0"):
        read_audio(path, channel=2)
    with pytest.raises(UserError, match="one channel, and no channel 1"):
        read_audio(SPH, channel=1)


def test_a_channel_of_zeros_is_refused_where_another_has_sound(tmp_path):
    stereo = noise(300, channels=2)
    stereo[:, 0] = 0
    path = write_wav(tmp_path / "a.wav", stereo)
    with pytest.raises(UserError, match=r"a.wav: channel 0 is silent .*: take another --channel"):
        read_audio(path)
    np.testing.assert_array_equal(read_audio(path, channel=1)[0] * 32768, stereo[:, 1])
    assert read_audio(path, channel=None)[0].any()
    # A part in which all are silent is as it is, and so is a recording of one channel.
    stereo[:100] = 0
    path = write_wav(tmp_path / "b.wav", stereo)
    assert not read_audio(path, end_s=100 / 16000)[0].any()
    assert not read_audio(write_wav(tmp_path / "c.wav", stereo[:, 0]))[0].any()


def test_a_part_is_cut_at_rounded_samples(tmp_path):
    path = write_wav(tmp_path / "a.flac", noise(16000))
    samples, _ = read_audio(path, 0.25, 0.5)
    np.testing.assert_array_equal(samples * 32768, noise(16000)[4000:8000])
    samples, _ = read_audio(path, start_s=0.9)
    np.testing.assert_array_equal(samples * 32768, noise(16000)[14400:])


def test_a_part_may_end_a_little_late(tmp_path):
    path = write_wav(tmp_path / "a.wav", noise(16000))
    assert len(read_audio(path, 0.5, 1.5)[0]) == 8000
    with pytest.raises(UserError, match=r"is 1.000 s long, and has no part from 0.500 s to 1.600"):
        read_audio(path, 0.5, 1.6)
    with pytest.raises(UserError, match="has no part from 1.000 s"):
        read_audio(path, 1.0, 1.2)


def test_parts_of_an_archive_read_it_once(tmp_path, monkeypatch):
    ark = tmp_path / "a.ark"
    kaldiio.save_ark(str(ark), {"rec": (16000, noise(1600))})
    reader = AudioReader()
    first, _ = reader.read(f"{ark}:4", 0.0, 0.05)
    ark.unlink()
    second, _ = reader.read(f"{ark}:4", 0.05, 0.1)
    np.testing.assert_array_equal(np.concatenate([first, second]) * 32768, noise(1600))


def test_bad_audio_is_refused(tmp_path):
    (tmp_path / "text.wav").write_text("this is not audio")
    with pytest.raises(UserError, match="text.wav: cannot be read as audio: Format not recog"):
        read_audio(tmp_path / "text.wav")
    with pytest.raises(UserError, match="none.wav: no such file"):
        read_audio(tmp_path / "none.wav")
    (tmp_path / "zero.wav").touch()
    with pytest.raises(UserError, match=r"zero.wav: is empty \(0 bytes\)"):
        read_audio(tmp_path / "zero.wav")
    with pytest.raises(UserError, match="empty.wav: has no samples"):
        read_audio(write_wav(tmp_path / "empty.wav", noise(0)))
    not_finite = np.array([0.0, np.nan], np.float32)
    with pytest.raises(UserError, match="not finite"):
        read_audio(write_wav(tmp_path / "nan.wav", not_finite, subtype="FLOAT"))


@pytest.mark.parametrize("suffix", ["flac", "mp3", "ogg", "wav"])
def test_truncated_audio_is_refused(tmp_path, suffix):
    path = write_wav(tmp_path / f"a.{suffix}", noise(40000))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=f"a.{suffix}: (truncated|cannot be read)"):
        read_audio(path)


def test_commands_are_run_only_where_they_are_allowed(tmp_path):
    write_wav(tmp_path / "a.wav", noise(1600, channels=2))
    entry = f"cat {tmp_path}/a.wav |"
    with pytest.raises(UserError, match="only with --allow_pipes true"):
        read_audio(entry)
    reader = AudioReader(allow_pipes=True)
    samples, rate_hz = reader.read(entry, 0.05, 0.1, channel=1)
    assert rate_hz == 16000
    np.testing.assert_array_equal(samples * 32768, noise(1600, channels=2)[800:, 1])
    with pytest.raises(
        UserError, match=r"`cat .*none.wav \|`: cat failed with exit code 1: .*No su"
    ):
        reader.read(f"cat {tmp_path}/none.wav |")
    with pytest.raises(UserError, match=r"`true \|`: is empty"):
        reader.read("true |")


def test_a_command_that_cannot_tell_the_length_is_read_to_its_end(tmp_path):
    """A wav file that a program wrote to a pipe declares a length near 2 GiB."""
    whole = write_wav(tmp_path / "a.wav", noise(1600)).read_bytes()
    sizes = (0x7FFFFFFF - 36).to_bytes(4, "little"), (0x7FFFFFFF - 72).to_bytes(4, "little")
    streamed = whole[:4] + sizes[0] + whole[8:40] + sizes[1] + whole[44:]
    (tmp_path / "b.wav").write_bytes(streamed)
    samples, _ = AudioReader(allow_pipes=True).read(f"cat {tmp_path}/b.wav |")
    np.testing.assert_array_equal(samples * 32768, noise(1600))
    assert len(soundfile.read(tmp_path / "a.wav")[0]) == 1600
