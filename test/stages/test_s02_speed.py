"""Stage 2: what is made, what is kept, and what the stages after it read."""

import numpy as np
import pytest
import soundfile

from mtla_espnet.data.kaldi.datadir import write_data_dir
from mtla_espnet.data.kaldi.tables import read_table
from mtla_espnet.files import UserError
from mtla_espnet.recipe.options import parse_options
from mtla_espnet.recipe.recipe import Recipe
from mtla_espnet.runner import runner
from mtla_espnet.stages import s02_speed

SETS = ["--train_set", "train", "--valid_set", "dev", "--test_sets", "test"]
IDS = ("a-1", "a-2")


@pytest.fixture
def root(tmp_path):
    for name in ("train", "dev", "test"):
        directory = tmp_path / "data" / name
        directory.mkdir(parents=True)
        recordings = {utterance: directory / f"{utterance}.wav" for utterance in IDS}
        for number, path in enumerate(recordings.values()):
            noise = np.random.default_rng(number).normal(0, 0.1, 4000)
            soundfile.write(path, noise, 8000)
        write_data_dir(
            directory, recordings, dict.fromkeys(IDS, f"OF {name}"), dict.fromkeys(IDS, "a")
        )
    return tmp_path


def run(root, number, factors="0.9 1.0 1.1", *argv):
    options = parse_options([*SETS, "--fs", "8k", "--speed_perturb_factors", factors, *argv])
    recipe = Recipe(options, root)
    runner.run_stage(recipe, number)
    return recipe


def content(directory):
    return {
        path.relative_to(directory): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name[0] != "." and path.suffix != ".log"
    }


def test_the_set_has_every_speed(root):
    run(root, 2)
    assert sorted(path.name for path in (root / "data").iterdir()) == [
        "dev", "test", "train", "train_sp", "train_sp0.9", "train_sp1.1",
    ]  # fmt: skip
    copies = [f"sp{factor}-{utt}" for factor in ("0.9", "1.1") for utt in IDS]
    assert list(read_table(root / "data/train_sp/text")) == [*IDS, *copies]
    log = (root / "data/train_sp0.9/logs/perturb_speed.log").read_text()
    assert log.startswith(f"# perturb_speed {root}/data/train by 0.9\n")
    assert "# Ended (code 0)" in log
    run(root, 2, "0.9")
    assert list(read_table(root / "data/train_sp/text")) == copies[:2]


def test_a_copy_that_is_done_is_not_made_again(root, capsys):
    run(root, 2, "0.9 1.0")
    before = content(root / "data/train_sp0.9")
    time = (root / "data/train_sp0.9/wav.scp").stat().st_mtime_ns
    run(root, 2)
    assert "[train_sp1.1]" in capsys.readouterr().out
    assert (root / "data/train_sp0.9/wav.scp").stat().st_mtime_ns == time
    assert content(root / "data/train_sp0.9") == before
    run(root, 2)
    assert "done already, skipped" in capsys.readouterr().out


@pytest.mark.parametrize("broken", ["perturb_speed", "join_speeds"])
def test_an_interruption_costs_the_part_that_was_running(root, monkeypatch, broken):
    run(root, 2)
    whole = content(root / "data")

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(s02_speed, broken, interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(root, 2, "0.9 1.0 1.1", "--force", "true")
    if broken == "join_speeds":
        with pytest.raises(UserError, match="stage 2 was interrupted: run stage 2 first"):
            run(root, 3)
    run(root, 2)
    assert content(root / "data") == whole


def test_the_next_stages_read_it_and_the_training_text_says_nothing_twice(root):
    for number in (2, 3, 4):
        run(root, number)
    ready = read_table(root / "dump/raw_8k/train_sp/utt2num_samples")
    assert [int(ready[key]) for key in ("a-1", "sp0.9-a-1", "sp1.1-a-1")] == [4000, 4444, 3636]
    text = (root / "dump/raw_8k/lm_train.txt").read_text()
    assert text == "a-1 OF train\na-2 OF train\n"
    run(root, 3, "")
    run(root, 4, "")
    assert (root / "dump/raw_8k/lm_train.txt").read_text() == text


def test_stage_3_asks_for_stage_2(root):
    with pytest.raises(UserError, match="train_sp/wav.scp is missing: run stage 2 first"):
        run(root, 3)


def test_features_have_no_speed(root):
    (root / "data/train/wav.scp").rename(root / "data/train/feats.scp")
    with pytest.raises(UserError, match="data/train: has features alone, whose speed cannot be"):
        run(root, 2)


def test_bad_audio_is_left_out_of_every_copy(root):
    (root / "data/train/a-2.wav").write_bytes(b"RIFF")
    with pytest.raises(UserError, match="data/train_sp0.9/rejected.tsv: 1 of 2 utterances"):
        run(root, 2)
    run(root, 2, "0.9 1.1", "--max_rejected", "50")
    assert list(read_table(root / "data/train_sp/text")) == ["sp0.9-a-1", "sp1.1-a-1"]
    assert (root / "data/train_sp1.1/rejected.tsv").exists()
