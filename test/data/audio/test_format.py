import logging
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audio_files import SPH, content, decoded, make_data_dir, noise, sph_samples, write_wav
from mtla_espnet.data.audio import blocks
from mtla_espnet.data.audio.format import format_audio
from mtla_espnet.data.audio.reading_options import ReadingOptions
from mtla_espnet.data.kaldi.rejected import read_rejected
from mtla_espnet.data.kaldi.tables import read_table, write_table
from mtla_espnet.files import UserError


@pytest.mark.parametrize("audio_format", ["flac", "wav", "flac.ark", "wav.ark"])
def test_the_copy_is_complete_and_exact(tmp_path, audio_format):
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


def test_further_tables_are_copied(tmp_path):
    data = make_data_dir(tmp_path / "data", {"a-1": SPH, "a-2": SPH})
    (data / "text.tc.de").write_text("a-1 Los\na-2 Geh\n")
    format_audio(
        data, tmp_path / "dump", 16000, reading=ReadingOptions(tables=("text", "text.tc.de"))
    )
    assert (tmp_path / "dump/text.tc.de").read_text() == "a-1 Los\na-2 Geh\n"
    (data / "transcript").write_text("a-1 GO\n")
    with pytest.raises(UserError, match="data/transcript: has no line for 'a-2'"):
        format_audio(
            data, tmp_path / "dump", 16000, reading=ReadingOptions(tables=("text", "transcript"))
        )


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


def test_the_channel_of_an_utterance_is_taken(tmp_path):
    stereo = noise(1600, channels=2)
    path = write_wav(tmp_path / "s.wav", stereo)
    data = make_data_dir(tmp_path / "data", {"a-1": path, "a-2": path})
    (data / "utt2ref_channels").write_text("a-2 1\n")
    format_audio(data, tmp_path / "dump", 16000)
    entries = read_table(tmp_path / "dump" / "wav.scp")
    np.testing.assert_array_equal(decoded(entries["a-1"])[0], stereo[:, 0])
    np.testing.assert_array_equal(decoded(entries["a-2"])[0], stereo[:, 1])
    format_audio(data, tmp_path / "dump", 16000, reading=ReadingOptions(channel=1))
    np.testing.assert_array_equal(decoded(entries["a-1"])[0], stereo[:, 1])
    (data / "utt2ref_channels").write_text("a-2 B\n")
    with pytest.raises(UserError, match="utt2ref_channels:1: 'a-2' needs one channel from 0"):
        format_audio(data, tmp_path / "dump", 16000)


@pytest.mark.parametrize("rate_hz", [8000, 22050, 44100])
def test_audio_is_resampled_and_that_is_told_once(tmp_path, rate_hz, caplog):
    seconds = np.arange(rate_hz) / rate_hz
    tone = write_wav(tmp_path / "a.wav", 0.5 * np.sin(2 * np.pi * 440 * seconds), rate_hz)
    make_data_dir(tmp_path / "data", {"a-1": tone, "a-2": tone, "b-1": SPH})
    with caplog.at_level(logging.INFO):
        format_audio(tmp_path / "data", tmp_path / "dump", 16000)
    told = [message for message in caplog.messages if "utterances resampled" in message]
    assert told == [f"{tmp_path}/data: 2 utterances resampled from {rate_hz} to 16000 Hz"]
    assert read_table(tmp_path / "dump" / "utt2num_samples")["a-1"] == "16000"
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


def test_clipping_is_told_once_and_another_scale_is_refused(tmp_path, caplog):
    tone = np.sin(np.arange(4000) * 0.1)
    wavs = {
        "a-1": write_wav(tmp_path / "1.wav", tone, subtype="FLOAT"),
        "a-2": write_wav(tmp_path / "2.wav", 1.2 * tone, subtype="FLOAT"),
        "a-3": write_wav(tmp_path / "3.wav", 7 * tone, subtype="FLOAT"),
        "a-4": write_wav(tmp_path / "4.wav", 20000 * tone, subtype="FLOAT"),
    }
    make_data_dir(tmp_path / "data", wavs)
    format_audio(
        tmp_path / "data", tmp_path / "dump", 16000, reading=ReadingOptions(max_rejected=30)
    )
    share = np.mean(np.abs(1.2 * tone) > 1)
    assert [record.message for record in caplog.records if "clipped" in record.message] == [
        f"{tmp_path}/data: 2 utterances are louder than full scale and were clipped; the first: "
        f"a-2, {100 * share:.1f} % of the samples: scale their recordings down"
    ]
    (rejected,) = read_rejected(tmp_path / "dump/rejected.tsv")
    assert rejected.utterance == "a-4"
    assert rejected.reason.startswith(f"{wavs['a-4']}: has samples of the size ")
    assert rejected.reason.endswith("scale it (values of 16-bit integers: divide by 32768)")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(blocks, "_BLOCK_UTTERANCES", 20)


def many(tmp_path, count=45):
    wavs = {f"a-{i:03d}": tmp_path / "wav" / f"{i}.wav" for i in range(count)}
    for i, path in enumerate(wavs.values()):
        write_wav(path, noise(20 + i, seed=i), 8000)
    make_data_dir(tmp_path / "data", wavs)
    return wavs


@pytest.mark.parametrize("audio_format", ["flac", "wav.ark"])
def test_the_number_of_jobs_and_a_second_run_change_nothing(tmp_path, audio_format):
    many(tmp_path)
    copies = []
    for name, nj in (("one", 1), ("two", 2), ("two", 32)):
        format_audio(
            tmp_path / "data",
            tmp_path / name,
            16000,
            audio_format,
            ReadingOptions(nj=nj, progress=False),
        )
        copies.append(content(tmp_path / name))
    assert copies[0] == copies[1] == copies[2]
    assert sorted(path.name for path in (tmp_path / "one" / "data").glob("f*")) == [
        "format.1",
        "format.2",
        "format.3",
    ]


def test_an_interrupted_run_goes_on(tmp_path, monkeypatch):
    many(tmp_path)
    data, out = tmp_path / "data", tmp_path / "dump"
    format_audio(data, tmp_path / "whole", 16000)
    written = []
    original = soundfile.write

    def interrupted(path, *rest, **options):
        if len(written) == 25:
            raise KeyboardInterrupt
        written.append(path)
        original(path, *rest, **options)

    monkeypatch.setattr(soundfile, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        format_audio(data, out, 16000)
    # the first block, and of the second nothing
    assert [path.name for path in (out / "data").iterdir()] == ["format.1"]
    assert not (out / "wav.scp").exists()
    written.clear()
    written.append("count from 1, so that it is not interrupted again before 25")
    (out / "data/.format.2.left").mkdir()  # by a process that was killed
    monkeypatch.setattr(
        soundfile, "write", lambda *a, **o: (written.append(a[0]), original(*a, **o))
    )
    format_audio(data, out, 16000)
    assert len(written) == 1 + 25
    assert content(out) == content(tmp_path / "whole")
    format_audio(data, out, 16000, reading=ReadingOptions(fresh=True))
    assert len(written) == 1 + 25 + 45


def test_a_block_whose_audio_or_options_changed_is_written_again(tmp_path):
    wavs = many(tmp_path)
    data, out = tmp_path / "data", tmp_path / "dump"
    format_audio(data, out, 16000)
    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("*.flac")}
    write_wav(wavs["a-030"], noise(77, seed=9), 8000)
    format_audio(data, out, 16000)
    changed = {path.parent.name for path in stamps if path.stat().st_mtime_ns != stamps[path]}
    assert changed == {"format.2"}
    assert read_table(out / "utt2num_samples")["a-030"] == "154"
    format_audio(data, out, 8000)
    assert all(path.stat().st_mtime_ns != stamps[path] for path in stamps)


@pytest.mark.parametrize("nj", [1, 2])
@pytest.mark.parametrize("audio_format", ["flac", "flac.ark"])
def test_bad_utterances_are_left_out_up_to_a_limit(tmp_path, nj, audio_format, caplog):
    wavs = many(tmp_path, 30)
    (tmp_path / "data/text.lc.de").write_text("".join(f"{key} geh\n" for key in wavs))
    wavs["a-025"].write_bytes(wavs["a-025"].read_bytes()[:-2])
    wavs["a-007"].unlink()
    out, options = tmp_path / "dump", {"tables": ("text", "text.lc.de"), "max_rejected": 10}
    with caplog.at_level(logging.WARNING):
        format_audio(tmp_path / "data", out, 16000, audio_format, ReadingOptions(nj=nj, **options))
    assert f"{out}/rejected.tsv: 2 of 30 utterances rejected" in caplog.text
    rejected = read_rejected(out / "rejected.tsv")
    assert [(each.utterance, each.line) for each in rejected] == [("a-007", 8), ("a-025", 26)]
    assert rejected[0].file == f"{tmp_path}/data/wav.scp"
    assert rejected[0].reason == f"{wavs['a-007']}: no such file"
    assert rejected[1].reason.startswith(f"{wavs['a-025']}: truncated")
    kept = sorted(wavs.keys() - {"a-007", "a-025"})
    for name in ("text", "text.lc.de", "utt2spk", "wav.scp", "utt2num_samples"):
        assert list(read_table(out / name)) == kept
    assert read_table(out / "spk2utt")["a"].split() == kept
    assert not list((out / "data").glob("*/a-025*"))
    assert all(decoded(entry)[1] == 16000 for entry in read_table(out / "wav.scp").values())

    with pytest.raises(UserError) as error:
        format_audio(
            tmp_path / "data", out, 16000, audio_format, ReadingOptions(nj=nj, max_rejected=5)
        )
    assert str(error.value).startswith(
        f"{out}/rejected.tsv: 2 of 30 utterances rejected (6.67 %, more than --max_rejected 5 "
        f"%); the first: {tmp_path}/data/wav.scp:8: 'a-007': {wavs['a-007']}: no such file"
    )
    assert not (out / "wav.scp").exists()

    write_wav(wavs["a-007"], noise(50), 8000)
    write_wav(wavs["a-025"], noise(50), 8000)
    format_audio(tmp_path / "data", out, 16000, audio_format, ReadingOptions(nj=nj))
    assert len(read_table(out / "wav.scp")) == 30
    assert not (out / "rejected.tsv").exists()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.touch(), r"bad.wav: is empty \(0 bytes\)"),
        (lambda path: path.write_text("no audio"), "bad.wav: cannot be read as audio"),
        (lambda path: write_wav(path, noise(1), 96000), "bad.wav: is empty at 8000 Hz"),
        (
            lambda path: write_wav(path, np.array([0.1, np.nan], np.float32), subtype="FLOAT"),
            "bad.wav: has samples that are not finite",
        ),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path, make, reason):
    make(tmp_path / "bad.wav")
    data = make_data_dir(tmp_path / "data", {"a-1": tmp_path / "bad.wav", "a-2": SPH})
    with pytest.raises(UserError, match=f"wav.scp:1: 'a-1': .*{reason}"):
        format_audio(data, tmp_path / "dump", 8000)


def test_a_segment_beyond_the_end_and_an_offset_out_of_range_are_named(tmp_path):
    data = make_data_dir(tmp_path / "data", {"a-1": "x", "a-2": "x", "a-3": "x"})
    make_data_dir(tmp_path / "ark", {"r": SPH})
    format_audio(tmp_path / "ark", tmp_path / "arks", 16000, "wav.ark")
    entry = read_table(tmp_path / "arks/wav.scp")["r"]
    write_table(data / "wav.scp", {"far": entry.rpartition(":")[0] + ":999999", "rec": entry})
    segments = {"a-1": "rec 0.1 0.2", "a-2": "rec 3 5", "a-3": "far 0 1"}
    write_table(data / "segments", segments)
    format_audio(data, tmp_path / "dump", 16000, reading=ReadingOptions(max_rejected=70))
    assert list(read_table(tmp_path / "dump/wav.scp")) == ["a-1"]
    second, third = read_rejected(tmp_path / "dump/rejected.tsv")
    assert (second.file, second.line) == (f"{data}/segments", 2)
    assert "is 0.250 s long, and has no part from 3.000 s to 5.000 s" in second.reason
    assert "the offset is out of range" in third.reason


def test_commands_need_permission(tmp_path):
    data = make_data_dir(tmp_path / "data", {"a-1": f"cat {SPH} |"})
    with pytest.raises(UserError, match="'a-1' is a command, .* allow them by --allow_pipes true"):
        format_audio(data, tmp_path / "dump", 16000)
    format_audio(data, tmp_path / "dump", 16000, reading=ReadingOptions(allow_pipes=True))
    entry = read_table(tmp_path / "dump/wav.scp")["a-1"]
    assert Path(entry).is_file()
    np.testing.assert_array_equal(decoded(entry)[0], sph_samples())


def test_bad_requests_are_refused(tmp_path):
    data = make_data_dir(tmp_path / "data", {"a-1/2": SPH})
    with pytest.raises(UserError, match="wav.scp:1: an id with '/', 'a-1/2', cannot name a file"):
        format_audio(data, tmp_path / "dump", 16000)
    format_audio(data, tmp_path / "dump", 16000, "flac.ark")
    for key in ("a" * 251, "é" * 126):
        data = make_data_dir(tmp_path / f"data{key[0]}", {key: SPH})
        with pytest.raises(UserError, match=r"wav.scp:1: an id of 25\d bytes, .* cannot name a fi"):
            format_audio(data, tmp_path / "dump", 16000)
        format_audio(data, tmp_path / "dump", 16000, "flac.ark")
    data = make_data_dir(tmp_path / "longest", {"a" * 250: SPH})
    format_audio(data, tmp_path / "dump", 16000)
    with pytest.raises(UserError, match="audio_format 'mp3' is not supported: use flac, wav"):
        format_audio(data, tmp_path / "dump", 16000, "mp3")
