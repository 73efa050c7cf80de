"""What is missing is said before stage 1 runs."""

import collections
import dataclasses
import importlib.util
import shutil

import numpy as np
import pytest
import soundfile

from mtla_espnet.data.kaldi.datadir import write_data_dir
from mtla_espnet.data.kaldi.tables import write_table
from mtla_espnet.files import UserError
from mtla_espnet.recipe.options import parse_options
from mtla_espnet.recipe.recipe import Recipe
from mtla_espnet.runner import checks
from mtla_espnet.runner.runner import run_recipe

ARGV = ["--train_set", "train", "--valid_set", "dev", "--test_sets", "test", "--use_lm", "false"]
Usage = collections.namedtuple("Usage", "total used free")


def recipe_of(root, *argv):
    return Recipe(parse_options([*ARGV, *argv]), root)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "local").mkdir()
    (tmp_path / "local/data.sh").write_text("#!/bin/sh\ntouch ran\n")
    (tmp_path / "local/data.sh").chmod(0o755)
    return tmp_path


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--nlsyms_txt", "data/nlsyms.txt"], "--nlsyms_txt data/nlsyms.txt: no such file"),
        (["--cleaner", "tacotrom"], "--cleaner tacotrom: Not supported: type=tacotrom"),
        (["--token_type", "phn", "--g2p", "g2q"], "--g2p g2q: Not supported: g2p_type=g2q"),
        (["--use_ngram", "true"], "--use_ngram true needs KenLM's program lmplz"),
        (["--ngpu", "64"], r"--ngpu 64: .* visible.*: lower it or free more"),
        (["--ngpu", "0", "--gpu_inference", "true"], "--gpu_inference true: no GPU is visible"),
    ],
)
def test_what_is_missing_stops_the_run_before_stage_1(root, monkeypatch, argv, message):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(UserError, match=message) as raised:
        run_recipe([*ARGV, *argv], root)
    assert raised.value.exit_code != 0
    assert "\n" not in str(raised.value)
    assert not (root / "ran").exists()


def test_too_few_pieces_for_a_given_text(root):
    write_table(root / "more.txt", {"a": "THE QUICK BROWN FOX", "b": "JUMPS OVER"})
    argv = ["--bpe_train_text", "more.txt", "--nbpe"]
    with pytest.raises(UserError, match="--nbpe 23: .*more.txt allows 24 or more"):
        run_recipe([*ARGV, *argv, "23"], root)
    assert not (root / "ran").exists()
    checks.check_needs(recipe_of(root, *argv, "24"), [1, 5])
    checks.check_needs(recipe_of(root, *argv, "23"), [1, 3])


@pytest.mark.parametrize(
    ("criteria", "model", "refused"),
    [
        (None, "valid.acc.ave.pth", False),
        ([["valid", "loss", "min"]], "valid.acc.ave.pth", True),
        ([["valid", "loss", "min"]], "valid.loss.ave_10best.pth", False),
        (["valid,loss,min", "train,acc,max"], "train.acc.best.pth", False),
        ([["valid", "loss", "min"]], "train.loss.best.pth", True),
        ([["valid", "loss", "min"]], "latest.pth", False),
        ([["valid", "loss", "min"]], "7epoch.pth", False),
    ],
)
def test_a_model_that_the_training_will_not_make(root, criteria, model, refused):
    given = recipe_of(root, "--inference_asr_model", model)
    config = {} if criteria is None else {"best_model_criterion": criteria}
    recipe = dataclasses.replace(given, laid_config=config, train_config=config)
    checks.check_needs(recipe, [3, 13])
    if not refused:
        checks.check_needs(recipe, [11])
        return
    message = f"--inference_asr_model {model}: the training keeps the best by valid.loss alone"
    with pytest.raises(UserError, match=message):
        checks.check_needs(recipe, [11])


def test_an_average_that_the_training_will_not_make(root):
    given = recipe_of(root, "--inference_asr_model", "valid.acc.ave_5best.pth")
    for kept, refused in ((10, True), ([3, 5], False), ([3, 4], True), (5, False), (None, True)):
        config = {} if kept is None else {"keep_nbest_models": kept}
        recipe = dataclasses.replace(given, laid_config=config, train_config=config)
        if not refused:
            checks.check_needs(recipe, [11])
            continue
        with pytest.raises(UserError, match="name valid.acc.ave.pth, or change keep_nbest_models"):
            checks.check_needs(recipe, [12])


def test_only_what_the_chosen_stages_need_is_looked_at(root, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    recipe = recipe_of(root, "--use_ngram", "true", "--ngpu", "1", "--gpu_inference", "true")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "kenlm" else name)
    checks.check_needs(recipe, [3, 4, 5, 10, 13])
    for stage in (9, 11, 12):
        with pytest.raises(UserError):
            checks.check_needs(recipe, [stage])
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    checks.check_needs(recipe, [11])
    with pytest.raises(UserError, match="decoding needs the package kenlm: pip install kenlm"):
        checks.check_needs(recipe, [12])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    checks.check_needs(recipe, [12])


def test_scripts_must_be_there_and_executable(root):
    recipe = recipe_of(root)
    checks.check_needs(recipe, [1, 13])
    (root / "local/score.sh").write_text("#!/bin/sh\n")
    checks.check_needs(recipe, [1])
    with pytest.raises(UserError, match=r"local/score.sh is not executable: chmod \+x .*score.sh"):
        checks.check_needs(recipe, [13])
    (root / "local/data.sh").unlink()
    with pytest.raises(UserError, match=r"local/data.sh: no such file: it makes the data"):
        checks.check_needs(recipe, [1])


@pytest.fixture
def data(root):
    """Sets of 10, 2 and 1 seconds, as 16 kHz wav 320, 64 and 32 kB."""
    for name, duration_s in (("train", 10), ("dev", 2), ("test", 1)):
        (root / "data" / name).mkdir(parents=True)
        wav = root / "data" / name / "a.wav"
        soundfile.write(wav, np.zeros(16000 * duration_s), 16000)
        write_data_dir(root / "data" / name, {"a": wav}, {"a": "A"}, {"a": "a"})
    return root


@pytest.mark.parametrize(
    ("argv", "needed"),
    [
        ((), 416_000),
        (("--fs", "8k"), 208_000),
        # Stage 2 keeps the copy at half the speed, 640 kB; stage 3 writes both speeds.
        (("--speed_perturb_factors", "0.5 1.0"), 640_000 + 960_000 + 96_000),
    ],
)
def test_a_disk_that_is_too_small_is_noticed(data, monkeypatch, argv, needed):
    recipe = recipe_of(data, "--audio_format", "wav", *argv)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, needed))
    checks.check_room(recipe)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, needed - 1))
    with pytest.raises(
        UserError, match=r"dump/raw(_8k)?: the formatted audio takes about [0-9.]+ [KM]B, and"
    ):
        checks.check_room(recipe)


def test_what_is_formatted_takes_no_more_room(data, monkeypatch):
    (data / "dump/raw/org/train").mkdir(parents=True)
    (data / "dump/raw/org/train/wav.scp").write_text("")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 96_000))
    checks.check_room(recipe_of(data, "--audio_format", "wav"))
