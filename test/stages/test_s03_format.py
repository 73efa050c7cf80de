"""Stage 3 by options: what is read, what is written, and what makes it run again."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audio_files import SPH, make_data_dir, noise, write_wav
from mtla_espnet.data.audio import blocks
from mtla_espnet.data.kaldi.tables import read_table
from mtla_espnet.files import UserError
from mtla_espnet.jobs.lock import reading_locks
from mtla_espnet.recipe.options import parse_options
from mtla_espnet.recipe.recipe import Recipe
from mtla_espnet.runner import runner
from mtla_espnet.stages import s03_format, s04_filter

SETS = ["--train_set", "train", "--valid_set", "dev", "--test_sets", "test", "--nj", "1"]


@pytest.fixture
def root(tmp_path):
    stereo = write_wav(tmp_path / "s.wav", noise(8000, channels=2))
    for name in ("train", "dev", "test"):
        make_data_dir(tmp_path / "data" / name, {"a-1": stereo, "a-2": stereo})
    return tmp_path


def recipe(root, *argv):
    return Recipe(parse_options([*SETS, *argv]), root)


def run(root, *argv):
    made = recipe(root, *argv)
    for stage in (3, 4):
        runner.run_stage(made, stage)
    return made


@pytest.mark.parametrize("feats_type", ["extracted", "fairseq_zip"])
def test_features_go_where_raw_audio_would(root, feats_type, capsys):
    made = run(root, "--feats_type", feats_type, "--min_wav_duration", "0.3")
    dump = root / "dump" / feats_type
    assert made.sets.dump_dir == dump
    assert read_table(dump / "test/feats_shape") == {"a-1": "48,80", "a-2": "48,80"}
    for name in ("feats_dim", "frame_shift", "feats_type"):
        assert (dump / "train" / name).read_text() == (dump / "org/train" / name).read_text()
    run(root, "--feats_type", feats_type, "--min_wav_duration", "0.3")
    assert capsys.readouterr().out.count("done already, skipped") == 2
    with pytest.raises(UserError, match=r"no utterance is left \(2 too short\)"):
        run(root, "--feats_type", feats_type, "--min_wav_duration", "0.48")


def test_features_that_are_there_are_the_input(root):
    np.save(root / "a.npy", np.ones((30, 7), np.float32))
    for name in ("train", "dev", "test"):
        (root / "data" / name / "feats.scp").write_text(f"a-1 {root}/a.npy\na-2 {root}/a.npy\n")
    made = run(root, "--feats_type", "fairseq_zip")
    (part, *_) = s03_format.parts(made)
    assert {path.name for path in part.inputs} == {"feats.scp", "utt2spk", "spk2utt", "text"}
    assert read_table(root / "dump/fairseq_zip/train/feats.scp")["a-1"] == f"{root}/a.npy"


def test_the_channel_is_an_option_and_changes_the_copy(root, capsys):
    def first_sample():
        return soundfile.read(root / "dump/raw/test/data/format.1/a-1.flac", dtype="int16")[0][0]

    run(root)
    assert first_sample() == noise(8000, channels=2)[0, 0]
    capsys.readouterr()
    run(root, "--channel", "1")
    assert first_sample() == noise(8000, channels=2)[0, 1]
    out = capsys.readouterr().out
    assert "Stage 3: Format audio [train] (again: option.channel" in out
    assert "# Ended (code 0)" in (root / "dump/raw/org/train/logs/format.log").read_text()
    # Lengths and paths are as they were: the content tells.
    assert "[train] (again: input.dump/raw/org/train/content_digest changed)" in out
    with pytest.raises(UserError, match="--channel must be a number from 0, or mean, not 'left'"):
        run(root, "--channel", "left")


def test_bad_audio_is_left_out_up_to_the_limit(root):
    table = root / "data/train/wav.scp"
    table.write_text(table.read_text().replace(f"a-2 {root}/s.wav", f"a-2 {root}/none.wav"))
    with pytest.raises(UserError, match=r"org/train/rejected.tsv: 1 of 2 utterances rejected"):
        run(root)
    run(root, "--max_rejected", "50")
    assert list(read_table(root / "dump/raw/train/text")) == ["a-1"]


def test_a_recording_that_was_bad_is_looked_at_again(root, capsys):
    whole = (root / "s.wav").read_bytes()
    (root / "b.wav").write_bytes(whole[:9000])
    table = root / "data/train/wav.scp"
    table.write_text(f"a-1 {root}/b.wav\na-2 {root}/s.wav\n")
    run(root, "--max_rejected", "50")
    assert list(read_table(root / "dump/raw/train/text")) == ["a-2"]
    (root / "b.wav").write_bytes(whole)
    run(root, "--max_rejected", "50")
    assert list(read_table(root / "dump/raw/train/text")) == ["a-1", "a-2"]
    out = capsys.readouterr().out
    assert f"Stage 3: Format audio [train] (again: {root}/b.wav changed)" in out


def test_a_recording_that_was_replaced_comes_through_the_speeds_too(root):
    speeds = ["--speed_perturb_factors", "0.9 1.0"]

    def digest():
        made = recipe(root, *speeds)
        for stage in (2, 3, 4):
            runner.run_stage(made, stage)
        return (root / "dump/raw/train_sp/content_digest").read_text()

    before = digest()
    assert digest() == before
    write_wav(root / "s.wav", noise(8000, channels=2)[::-1])
    assert digest() != before


def test_features_that_were_replaced_change_the_digest(root):
    np.save(root / "a.npy", np.ones((30, 7), np.float32))
    for name in ("train", "dev", "test"):
        (root / "data" / name / "feats.scp").write_text(f"a-1 {root}/a.npy\na-2 {root}/a.npy\n")
    digest = root / "dump/fairseq_zip/train/content_digest"
    run(root, "--feats_type", "fairseq_zip")
    before = digest.read_text()
    np.save(root / "a.npy", np.full((30, 7), 2, np.float32))
    os.utime(root / "a.npy", (1, 1))
    run(root, "--feats_type", "fairseq_zip")
    assert digest.read_text() != before


DAMAGES = {
    "gone": lambda path: path.unlink(),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:100]),
    "of zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "empty": lambda path: path.write_bytes(b""),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_formatted_audio_that_is_damaged_is_named_and_written_again(root, name, caplog):
    run(root)
    block = root / "dump/raw/org/train/data/format.1"
    before = {path.name: path.read_bytes() for path in block.glob("*.flac")}
    other = root / "dump/raw/test/data/format.1/a-1.flac"
    stamp = other.stat().st_mtime_ns
    DAMAGES[name](block / "a-2.flac")
    os.utime(block, (1, 1))  # where a file was written in place, as a power cut shows it
    run(root)
    assert {path.name: path.read_bytes() for path in block.glob("*.flac")} == before
    assert f"{block}/a-2.flac: is not as it was written: it is written again" in caplog.text
    assert other.stat().st_mtime_ns == stamp


def test_a_block_has_its_name_when_its_files_are_on_the_disk(root, monkeypatch):
    """In the order of the calls: audio, its flush, the record's, then the block's name."""
    calls = []

    def seen(module, name, note):
        call = getattr(module, name)

        def noted(*arguments, **options):
            calls.append(note(*arguments))
            return call(*arguments, **options)

        monkeypatch.setattr(module, name, noted)

    def of_descriptor(descriptor):
        return f"flush {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name.split('.tmp')[0]}"

    seen(soundfile, "write", lambda path, *_: f"write {Path(path).name}")
    seen(blocks, "flush_all", lambda path: f"flush all of {path.name}")
    seen(os, "fsync", of_descriptor)
    seen(os, "replace", lambda source, target: f"rename to {Path(target).name}")
    seen(Path, "rename", lambda path, target: f"rename to {Path(target).name}")
    run(root)
    start = calls.index("write a-1.flac")
    assert calls[start : start + 6] == [
        "write a-1.flac",
        "write a-2.flac",
        "flush all of format.1",
        "flush .block",
        "rename to block.json",
        "rename to format.1",
    ]


def test_a_copied_dump_is_not_written_again(root, caplog):
    run(root)
    block = root / "dump/raw/org/train/data/format.1"
    for path in (*block.iterdir(), block):
        os.utime(path, (1, 1))
    run(root)
    assert (block / "a-1.flac").stat().st_mtime == 1
    assert "written again" not in caplog.text


def test_later_stages_refuse_a_dump_of_other_options(root):
    def stage_4(*argv):
        runner.run_stage(recipe(root, *argv), 4)

    run(root)
    message = (
        r"org/train was made with other options \(audio_format: flac -> wav\): .* \(--stage 3\)"
    )
    with pytest.raises(UserError, match=message):
        stage_4("--audio_format", "wav", "--min_wav_duration", "0.2")
    stage_4("--max_rejected", "7", "--min_wav_duration", "0.2")
    stage_4("--max_rejected", "7")


def test_a_dump_is_not_written_while_it_is_read(root):
    made = run(root)
    (part, *_) = s04_filter.parts(made)
    places = runner.read_directories(part)
    assert places == {root / "dump/raw/org/train"}
    with reading_locks(places), pytest.raises(UserError, match="org/train is in use by"):
        run(root, "--channel", "mean")
    run(root, "--channel", "mean")


def test_a_dump_of_another_rate_lies_beside(root):
    run(root)
    before = (root / "dump/raw/test/utt2num_samples").read_text()
    run(root, "--fs", "8k")
    assert (root / "dump/raw/test/utt2num_samples").read_text() == before
    lengths = read_table(root / "dump/raw/test/utt2num_samples")
    halved = read_table(root / "dump/raw_8k/test/utt2num_samples")
    assert {key: int(value) // 2 for key, value in lengths.items()} == {
        key: int(value) for key, value in halved.items()
    }


def test_commands_need_permission(root):
    for name in ("train", "dev", "test"):
        (root / "data" / name / "wav.scp").write_text(f"a-1 cat {SPH} |\na-2 cat {SPH} |\n")
    with pytest.raises(UserError, match="allow them by --allow_pipes true"):
        run(root)
    run(root, "--allow_pipes", "true")
    assert read_table(root / "dump/raw/test/utt2num_samples") == {"a-1": "4000", "a-2": "4000"}


def test_stage_4_counts_frames(root):
    (root / "dump/extracted/org/train").mkdir(parents=True)
    made = recipe(root, "--feats_type", "extracted")
    (part, _) = s04_filter.parts(made)
    names = {path.name for path in part.inputs}
    assert {"feats.scp", "feats_shape", "feats_dim", "frame_shift"} <= names
    assert not names & {"wav.scp", "utt2num_samples", "audio_format"}
