from pathlib import Path

import kaldiio
import numpy as np
import pytest
import soundfile

from mtla_espnet.data.audio import format_audio, read_audio
from mtla_espnet.data.datadir import write_data_dir
from mtla_espnet.data.tables import read_table
from mtla_espnet.files import UserError

SPH = Path(__file__).parents[1] / "fixtures" / "an4_quarter_second.sph"


def sph_samples():
    """The fixture as its header describes it: 1024 bytes of header, 4000 little-endian int16."""
    return np.frombuffer(SPH.read_bytes()[1024:], "<i2")


def noise(length, channels=None, seed=0):
    shape = length if channels is None else (length, channels)
    return np.random.default_rng(seed).integers(-9000, 9000, shape).astype(np.int16)


def write_wav(path, samples, rate_hz=16000, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate_hz, **options)
    return path


def make_data_dir(path, recordings):
    """A data directory of `recordings`: utterance id `speaker-…` -> file."""
    write_data_dir(
        path,
        wav_scp=recordings,
        text=dict.fromkeys(recordings, "GO"),
        utt2spk={utterance: utterance.split("-")[0] for utterance in recordings},
    )
    return path


def decoded(entry):
    """The int16 samples behind an entry of wav.scp, as independent readers see them."""
    if ".ark:" in entry:
        rate_hz, samples = kaldiio.load_mat(entry)
        if isinstance(rate_hz, np.ndarray):
            rate_hz, samples = samples, rate_hz
        return (samples * 32768).astype(np.int16), rate_hz
    return soundfile.read(entry, dtype="int16")


def content(directory):
    return {
        str(path.relative_to(directory)): path.read_bytes().replace(bytes(directory), b"")
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


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


@pytest.mark.parametrize("suffix", ["ogg", "mp3"])
def test_lossy_formats_are_read_in_full(tmp_path, suffix):
    tone = 0.5 * np.sin(np.arange(16000) * 0.05)
    samples, rate_hz = read_audio(write_wav(tmp_path / f"a.{suffix}", tone))
    assert (len(samples), rate_hz) == (16000, 16000)
    assert np.corrcoef(samples, tone)[0, 1] > 0.9


def test_the_first_channel_is_taken(tmp_path):
    stereo = noise(300, channels=2)
    samples, _ = read_audio(write_wav(tmp_path / "a.wav", stereo))
    np.testing.assert_array_equal(samples * 32768, stereo[:, 0])


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


@pytest.mark.parametrize("write_function", [None, "soundfile"])
def test_an_archive_of_another_writer_is_read(tmp_path, write_function):
    ark, scp = tmp_path / "a.ark", tmp_path / "a.scp"
    kaldiio.save_ark(
        str(ark), {"utt1": (16000, noise(100)), "utt2": (16000, noise(200, seed=1))},
        scp=str(scp), write_function=write_function,
    )  # fmt: skip
    entries = read_table(scp)
    samples, rate_hz = read_audio(entries["utt2"])
    assert rate_hz == 16000
    np.testing.assert_array_equal(samples * 32768, noise(200, seed=1))
    np.testing.assert_array_equal(read_audio(entries["utt1"])[0] * 32768, noise(100))


def test_a_truncated_archive_is_refused(tmp_path):
    make_data_dir(tmp_path / "data", {"a-1": SPH})
    format_audio(tmp_path / "data", tmp_path / "dump", 16000, "flac.ark")
    entry = read_table(tmp_path / "dump" / "wav.scp")["a-1"]
    ark = Path(entry.rpartition(":")[0])
    ark.write_bytes(ark.read_bytes()[:-10])
    with pytest.raises(UserError, match="cannot be read from the archive"):
        read_audio(entry)


def test_other_bad_audio_is_refused(tmp_path):
    (tmp_path / "text.wav").write_text("this is not audio")
    with pytest.raises(UserError, match="text.wav: cannot be read as audio: Format not recog"):
        read_audio(tmp_path / "text.wav")
    with pytest.raises(UserError, match="none.wav: no such file"):
        read_audio(tmp_path / "none.wav")
    with pytest.raises(UserError, match="none.ark:5: no such file"):
        read_audio(f"{tmp_path}/none.ark:5")
    with pytest.raises(UserError, match="empty.wav: has no samples"):
        read_audio(write_wav(tmp_path / "empty.wav", noise(0)))
    not_finite = np.array([0.0, np.nan], np.float32)
    with pytest.raises(UserError, match="not finite"):
        read_audio(write_wav(tmp_path / "nan.wav", not_finite, subtype="FLOAT"))
    kaldiio.save_ark(str(tmp_path / "matrix.ark"), {"u": np.ones((2, 3), np.float32)})
    with pytest.raises(UserError, match="holds a matrix, not audio"):
        read_audio(f"{tmp_path}/matrix.ark:2")


@pytest.mark.parametrize("audio_format", ["flac", "wav", "flac.ark", "wav.ark"])
def test_the_formatted_copy_is_complete_and_exact(tmp_path, audio_format):
    stereo = write_wav(tmp_path / "stereo.wav", noise(1600, channels=2))
    make_data_dir(tmp_path / "data", {"anna-1": SPH, "ben-1": stereo})
    out = tmp_path / "dump"
    format_audio(tmp_path / "data", out, 16000, audio_format)

    for name in ("text", "utt2spk", "spk2utt"):
        assert (out / name).read_bytes() == (tmp_path / "data" / name).read_bytes()
    assert (out / "utt2num_samples").read_text() == "anna-1 4000\nben-1 1600\n"
    assert (out / "feats_type").read_text() == "raw\n"
    assert (out / "audio_format").read_text() == f"{audio_format}\n"
    entries = read_table(out / "wav.scp")
    expected = {"anna-1": sph_samples(), "ben-1": noise(1600, channels=2)[:, 0]}
    for utterance, samples in expected.items():
        written, rate_hz = decoded(entries[utterance])
        assert rate_hz == 16000
        np.testing.assert_array_equal(written, samples)
    if audio_format == "wav.ark":
        assert entries["anna-1"] == f"{out}/data/format.1/data_wav.ark:7"


def test_segments_are_cut(tmp_path):
    recording = write_wav(tmp_path / "rec.wav", noise(16000))
    data = make_data_dir(tmp_path / "data", {"a-1": "x", "a-2": "x"})
    (data / "wav.scp").write_text(f"rec {recording}\n")
    (data / "segments").write_text("a-1 rec 0.0 0.25\na-2 rec 0.75 1.0\n")
    format_audio(data, tmp_path / "dump", 16000)
    entries = read_table(tmp_path / "dump" / "wav.scp")
    np.testing.assert_array_equal(decoded(entries["a-1"])[0], noise(16000)[:4000])
    np.testing.assert_array_equal(decoded(entries["a-2"])[0], noise(16000)[12000:])
    assert not (tmp_path / "dump" / "segments").exists()


@pytest.mark.parametrize("rate_hz", [8000, 22050, 44100])
def test_audio_is_resampled(tmp_path, rate_hz):
    seconds = np.arange(rate_hz) / rate_hz
    tone = write_wav(tmp_path / "a.wav", 0.5 * np.sin(2 * np.pi * 440 * seconds), rate_hz)
    make_data_dir(tmp_path / "data", {"a-1": tone})
    format_audio(tmp_path / "data", tmp_path / "dump", 16000)
    assert read_table(tmp_path / "dump" / "utt2num_samples") == {"a-1": "16000"}
    written, new_rate_hz = soundfile.read(read_table(tmp_path / "dump" / "wav.scp")["a-1"])
    assert new_rate_hz == 16000
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    inside = slice(500, -500)  # the ends ring
    np.testing.assert_allclose(written[inside], expected[inside], atol=1e-3)


def test_loud_audio_is_clipped_not_wrapped(tmp_path):
    loud = write_wav(tmp_path / "a.wav", np.array([1.5, -1.5, 0.5]), subtype="FLOAT")
    make_data_dir(tmp_path / "data", {"a-1": loud})
    format_audio(tmp_path / "data", tmp_path / "dump", 16000)
    written, _ = decoded(read_table(tmp_path / "dump" / "wav.scp")["a-1"])
    assert written.tolist() == [32767, -32768, 16384]


@pytest.mark.parametrize("audio_format", ["flac", "wav.ark"])
def test_the_number_of_jobs_and_a_second_run_change_nothing(tmp_path, audio_format):
    wavs = {f"a-{i:03d}": tmp_path / "wav" / f"{i}.wav" for i in range(450)}
    for i, path in enumerate(wavs.values()):
        write_wav(path, noise(20 + i, seed=i), 8000)
    make_data_dir(tmp_path / "data", wavs)
    copies = []
    for name, nj in (("one", 1), ("two", 2), ("two", 32)):
        format_audio(tmp_path / "data", tmp_path / name, 16000, audio_format, nj, progress=False)
        copies.append(content(tmp_path / name))
    assert copies[0] == copies[1] == copies[2]
    assert sorted(path.name for path in (tmp_path / "one" / "data").iterdir()) == [
        "format.1",
        "format.2",
        "format.3",
    ]


@pytest.mark.parametrize("nj", [1, 2])
def test_a_bad_utterance_is_named_and_leaves_no_wav_scp(tmp_path, nj):
    wavs = {f"a-{i:03d}": write_wav(tmp_path / "wav" / f"{i}.wav", noise(20)) for i in range(300)}
    make_data_dir(tmp_path / "data", wavs)
    out = tmp_path / "dump"
    format_audio(tmp_path / "data", out, 16000, nj=nj)
    wavs["a-250"].write_bytes(wavs["a-250"].read_bytes()[:-2])
    with pytest.raises(UserError) as error:
        format_audio(tmp_path / "data", out, 16000, nj=nj)
    assert str(error.value).startswith(f"utterance 'a-250': {wavs['a-250']}: truncated")
    assert not (out / "wav.scp").exists()
    assert not list((out / "data").glob(".*"))
    assert not (out / "data" / "format.2").exists()


def test_bad_requests_are_refused(tmp_path):
    data = make_data_dir(tmp_path / "data", {"a-1/2": SPH})
    with pytest.raises(UserError, match="'a-1/2': an id with '/' cannot name a file"):
        format_audio(data, tmp_path / "dump", 16000)
    with pytest.raises(UserError, match="audio_format 'mp3' is not supported: use flac, wav"):
        format_audio(data, tmp_path / "dump", 16000, "mp3")
    (data / "wav.scp").write_text("a-1/2 cat a.wav |\n")
    with pytest.raises(UserError, match="'a-1/2' is a command"):
        format_audio(data, tmp_path / "dump", 16000)
    tiny = write_wav(tmp_path / "tiny.wav", noise(1), 96000)
    make_data_dir(data, {"a-1": tiny})
    with pytest.raises(UserError, match="'a-1': .*tiny.wav: is empty at 8000 Hz"):
        format_audio(data, tmp_path / "dump", 8000)
