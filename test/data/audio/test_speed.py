"""Copies of a data directory at other speeds."""

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.data.audio.reading_options import ReadingOptions
from mtla_espnet.data.audio.speed import join_speeds, perturb_speed
from mtla_espnet.data.kaldi.datadir import validate_data_dir, write_data_dir
from mtla_espnet.data.kaldi.tables import read_table, write_table
from mtla_espnet.files import UserError

RATE_HZ = 8000
TONE_HZ = 440.0


def tone(length, frequency_hz=TONE_HZ):
    return 0.5 * np.sin(2 * np.pi * frequency_hz * np.arange(length) / RATE_HZ)


def make_data_dir(path, ids=("a-1", "a-2", "b-1"), length=RATE_HZ):
    recordings = {}
    for number, utterance in enumerate(ids):
        recordings[utterance] = path / f"{utterance}.wav"
        path.mkdir(parents=True, exist_ok=True)
        soundfile.write(recordings[utterance], tone(length + 160 * number), RATE_HZ)
    write_data_dir(
        path,
        wav_scp=recordings,
        text={utterance: f"TEXT OF {utterance}" for utterance in ids},
        utt2spk={utterance: utterance.split("-")[0] for utterance in ids},
    )
    return path


def content(directory):
    return {
        str(path.relative_to(directory)): path.read_bytes().replace(bytes(directory), b"")
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


@given(st.floats(0.5, 2.0).map(lambda factor: f"{factor:.2f}"), st.integers(2000, 12000))
def test_a_tone_changes_its_pitch_and_its_length(tmp_path_factory, factor, length):
    tmp_path = tmp_path_factory.mktemp("speed")
    source = make_data_dir(tmp_path / "in", ["a-1"], length)
    perturb_speed(source, tmp_path / "out", factor, ReadingOptions(progress=False))
    entry = read_table(tmp_path / "out/wav.scp")[f"sp{factor}-a-1"]
    samples, rate_hz = soundfile.read(entry)
    assert rate_hz == RATE_HZ
    assert abs(len(samples) - length / float(factor)) <= 1
    # Away from the ends, where the filter has all its input: the tone of another frequency.
    expected = tone(len(samples), TONE_HZ * float(factor))
    inner = slice(400, -400)
    np.testing.assert_allclose(samples[inner], expected[inner], atol=2e-4)


def test_the_tables_of_a_copy(tmp_path):
    source = make_data_dir(tmp_path / "in")
    out = tmp_path / "out"
    perturb_speed(source, out, "0.9", ReadingOptions(progress=False))
    validate_data_dir(out)
    assert read_table(out / "text")["sp0.9-a-2"] == "TEXT OF a-2"
    assert read_table(out / "spk2utt") == {
        "sp0.9-a": "sp0.9-a-1 sp0.9-a-2",
        "sp0.9-b": "sp0.9-b-1",
    }
    assert read_table(out / "utt2uniq") == {f"sp0.9-{utt}": utt for utt in ("a-1", "a-2", "b-1")}
    assert not (out / "segments").exists()


def test_the_same_bytes_twice_and_whatever_the_number_of_jobs(tmp_path):
    ids = [f"s-{number:03d}" for number in range(450)]  # three blocks
    source = make_data_dir(tmp_path / "in", ids, length=20)
    for name, nj in (("one", 1), ("two", 2)):
        perturb_speed(source, tmp_path / name, "1.1", ReadingOptions(nj=nj, progress=False))
    once = content(tmp_path / "one")
    assert sum(name.endswith(".flac") for name in once) == len(ids)
    assert content(tmp_path / "two") == once
    perturb_speed(source, tmp_path / "one", "1.1", ReadingOptions(progress=False))
    assert content(tmp_path / "one") == once


def test_an_error_leaves_nothing_that_looks_whole(tmp_path):
    source = make_data_dir(tmp_path / "in")
    perturb_speed(source, tmp_path / "out", "1.1", ReadingOptions(progress=False))
    (source / "a-2.wav").write_bytes(b"RIFF")
    with pytest.raises(UserError, match=r"'sp1.1-a-2': .*a-2.wav: cannot be read"):
        perturb_speed(source, tmp_path / "out", "1.1", ReadingOptions(progress=False))
    assert not (tmp_path / "out/wav.scp").exists()
    perturb_speed(source, tmp_path / "out", "1.1", ReadingOptions(progress=False, max_rejected=40))
    for name in ("wav.scp", "text", "utt2spk", "utt2uniq"):
        assert list(read_table(tmp_path / "out" / name)) == ["sp1.1-a-1", "sp1.1-b-1"]
    validate_data_dir(tmp_path / "out")


def test_segments_are_cut_first(tmp_path):
    source = make_data_dir(tmp_path / "in", ["rec"], length=2 * RATE_HZ)
    segments = {"a-1": "rec 0.25 0.75", "a-2": "rec 0.5 1.9"}
    write_table(source / "segments", segments)
    write_table(source / "text", dict.fromkeys(segments, "GO"))
    write_table(source / "utt2spk", dict.fromkeys(segments, "a"))
    write_table(source / "spk2utt", {"a": "a-1 a-2"})
    perturb_speed(source, tmp_path / "sp", "1.1", ReadingOptions(progress=False))
    copies = read_table(tmp_path / "sp/segments")
    for utterance, seconds in (("sp1.1-a-1", 0.5), ("sp1.1-a-2", 1.4)):
        entry = read_table(tmp_path / "sp/wav.scp")[utterance]
        samples, _ = soundfile.read(entry)
        assert abs(len(samples) - seconds * RATE_HZ / 1.1) <= 1
        recording, start, end = copies[utterance].split()
        assert (recording, float(start)) == (utterance, 0)
        assert round(float(end) * RATE_HZ) == len(samples)
    join_speeds([tmp_path / "sp", source], tmp_path / "joined")
    joined = read_table(tmp_path / "joined/segments")
    assert joined == copies | segments
    assert set(read_table(tmp_path / "joined/wav.scp")) == {"rec", "sp1.1-a-1", "sp1.1-a-2"}


def test_speeds_are_joined(tmp_path):
    source = make_data_dir(tmp_path / "in")
    perturb_speed(source, tmp_path / "slow", "0.9", ReadingOptions(progress=False))
    joined = tmp_path / "joined"
    write_table(joined / "segments", {"old": "rec 0 1"})
    join_speeds([tmp_path / "slow", source], joined)
    assert not (joined / "segments").exists()
    ids = ["a-1", "a-2", "b-1"]
    for name in ("text", "wav.scp", "utt2spk", "utt2uniq"):
        assert list(read_table(joined / name)) == [*ids, *(f"sp0.9-{utt}" for utt in ids)]
    unique = read_table(joined / "utt2uniq")
    assert (unique["a-1"], unique["sp0.9-a-1"]) == ("a-1", "a-1")
    assert read_table(joined / "wav.scp")["a-1"] == str(source / "a-1.wav")


def test_an_id_like_that_of_a_copy_is_refused(tmp_path):
    source = make_data_dir(tmp_path / "in", ["a-1", "sp0.9-a-1"])
    perturb_speed(source, tmp_path / "slow", "0.9", ReadingOptions(progress=False))
    with pytest.raises(UserError, match=r"in/text: id 'sp0.9-a-1' is also one of a copy"):
        join_speeds([tmp_path / "slow", source], tmp_path / "joined")
