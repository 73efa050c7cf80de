"""A study of a recipe whose run.sh is a stand-in that writes what stages 12 and 13 would."""

import contextlib
import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mtla_espnet.cli import main
from mtla_espnet.files import UserError
from mtla_espnet.study.launch import commands, run_study
from mtla_espnet.study.plan import Run, Study
from mtla_espnet.study.report import write_report

RUN_SH = """#!/usr/bin/env bash
echo "$OMP_NUM_THREADS ${CUDA_VISIBLE_DEVICES-none} $*" >>calls
case "$*" in *"FAILING"*) echo "it fails"; exit 3 ;; esac
exec @PYTHON@ stand_in.py "$@"
"""

STAND_IN = """
import json, pathlib, random, sys, time
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
if options["--stage"] == "11" and pathlib.Path("wait").exists():
    time.sleep(600)
if options["--stage"] == "12":
    from mtla_espnet.score.wer import score_set
    from mtla_espnet.data.kaldi.tables import write_table
    experiment = pathlib.Path(options["--asr_exp"])
    directory = experiment / "decode/test"
    directory.mkdir(parents=True, exist_ok=True)
    seed = options["--asr_args"].split()[-1]
    draw = random.Random(options["--attention"] + seed)
    wrong = 0.1 if options["--attention"] == "mha" else 0.4
    items = 1 if pathlib.Path("one_item").exists() else 40
    texts = {f"s-{i}": "a b c d e f g h" for i in range(items)}
    said = {key: " ".join(w if draw.random() > wrong else "x" for w in text.split())
            for key, text in texts.items()}
    write_table(directory / "ref", texts)
    write_table(directory / "text", said)
    write_table(directory / "utt2spk", {key: "s" for key in texts})
    score_set(directory / "ref", directory / "text", directory / "utt2spk", directory)
    (experiment / "training.json").write_text(json.dumps({"train_s": 10.0, "parameters": 7}))
"""


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "run.sh").write_text(RUN_SH.replace("@PYTHON@", sys.executable))
    (tmp_path / "run.sh").chmod(0o755)
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    (tmp_path / "asr.sh").touch()
    return tmp_path


def study_of(recipe, kinds=("mha", "mtla"), seeds=2, **options):
    return Study(recipe, tuple(kinds), seeds, **{"baseline": "mha"} | options)


def calls(recipe):
    return [line.split(" ", 2) for line in (recipe / "calls").read_text().splitlines()]


def test_what_is_called(recipe):
    study = study_of(recipe, train_args="--max_epoch 3", run_args='--nj 2 --lm_args "--a b"')
    called = dict(commands(study))
    assert list(called) == [
        "prepare", "train mha_seed0", "train mtla_seed0", "train mha_seed1", "train mtla_seed1",
        "decode mha_seed0", "decode mtla_seed0", "decode mha_seed1", "decode mtla_seed1",
    ]  # fmt: skip
    assert called["train mtla_seed1"] == [
        "./run.sh", "--nj", "2", "--lm_args", "--a b", "--stage", "11", "--stop_stage", "11",
        "--expdir", "exp", "--attention", "mtla", "--asr_exp", "exp/study_mtla_seed1",
        "--asr_args", "--max_epoch 3 --seed 1",
    ]  # fmt: skip
    assert called["prepare"][called["prepare"].index("--stage") :][:4] == [
        "--stage", "1", "--stop_stage", "10",
    ]  # fmt: skip
    assert Run("conf/attention/mtla_s3.yaml", 0).name == "mtla_s3_seed0"


def test_a_whole_study(recipe, capsys):
    arguments = ["study", str(recipe), "--attention", "mha mtla", "--seeds", "2", "--side", "2"]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert re.search(r"\(study:\d+:main\) 4/4 train \w+: \d+ s", out)
    assert "| mtla | 2 |" in out and "worse" in out
    table = (recipe / "exp/study/study.md").read_text()
    assert "two one-sided tests" in table and "WER %" in table and "CER %" in table
    rows = list(csv.DictReader((recipe / "exp/study/study.csv").open()))
    assert {row["experiment"] for row in rows} == {
        f"study_{kind}_seed{seed}" for kind in ("mha", "mtla") for seed in (0, 1)
    }
    wer = {row["experiment"]: float(row["value"]) for row in rows if row["measure"] == "wer"}
    difference = (
        wer["study_mtla_seed0"] + wer["study_mtla_seed1"]
        - wer["study_mha_seed0"] - wer["study_mha_seed1"]
    ) / 2  # fmt: skip
    mtla = next(row for row in rows if row["kind"] == "mtla" and row["measure"] == "wer")
    assert float(mtla["difference"]) == pytest.approx(difference, rel=1e-4)
    assert float(mtla["items_low"]) < difference < float(mtla["items_high"])
    assert (recipe / "exp/study/study.png").read_bytes().startswith(b"\x89PNG")
    # the report alone says the same
    assert main([*arguments, "--report_only"]) == 0
    assert capsys.readouterr().out in out
    assert len(calls(recipe)) == 9


def test_a_set_of_one_item_is_told_without_intervals(recipe):
    (recipe / "one_item").touch()
    study = study_of(recipe)
    assert run_study(study, side=1) == []
    rows = [line.split("|") for line in write_report(study, 0.5).splitlines() if "| mtla" in line]
    assert rows and all({cell.strip() for cell in row[4:-1]} == {"-"} for row in rows)


def test_trainings_take_the_gpus_in_turn_and_share_the_cores(recipe, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert run_study(study_of(recipe, seeds=3), side=1, gpus=["0", "1"]) == []
    trained = [call for call in calls(recipe) if "--stage 11" in call[2]]
    assert {gpu for _, gpu, _ in trained} == {"0", "1"} and len(trained) == 6
    cores = len(os.sched_getaffinity(0))
    assert {threads for threads, _, _ in trained} == {str(max(1, cores // 2))}
    decoded = [call for call in calls(recipe) if "--stage 12" in call[2]]
    assert {gpu for _, gpu, _ in decoded} == {"0"}


def test_a_run_that_fails_costs_itself_alone(recipe, capsys):
    study = study_of(recipe, kinds=("mha", "FAILING"))
    # `prepare` is a call with the first kind
    assert run_study(study, side=2) == ["train FAILING_seed0", "train FAILING_seed1"]
    out = capsys.readouterr().out
    assert "train FAILING_seed0 failed (code 3), log is in" in out and "it fails" in out
    text = write_report(study, margin=0.5)
    assert "Not scored: study_FAILING_seed0, study_FAILING_seed1." in text
    assert "| mha  | 2 |" in text


def test_what_comes_before_fails(recipe, capsys):
    assert main(["study", str(recipe), "--attention", "mha", "--run_args", "--x FAILING"]) == 1
    assert "prepare failed (code 3)" in capsys.readouterr().out
    assert len(calls(recipe)) == 1


def test_an_interrupted_study_leaves_no_training_behind(recipe):
    (recipe / "wait").touch()
    command = [sys.executable, "-m", "mtla_espnet", "study", str(recipe), "--side", "2"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if (recipe / "calls").exists() and len(calls(recipe)) == 3:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130 and "the same command goes on" in errors
    for place in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            assert not place.resolve().is_relative_to(recipe)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--attention", "mla mtla"], "--baseline mha: --attention does not name it"),
        (["--attention", "mha mla mla"], "--attention: mla is named twice"),
        (["--run_args", '"'], "--run_args"),
        (["--report_only"], "no run of the study is scored"),
    ],
    ids=str,
)
def test_bad_arguments_are_one_line(recipe, capsys, arguments, message):
    assert main(["study", str(recipe), *arguments]) != 0
    errors = capsys.readouterr().err
    assert message in errors and errors.count("\n") == 1


def test_a_directory_without_a_recipe(tmp_path):
    with pytest.raises(UserError, match="no run.sh there: name the directory of a recipe"):
        study_of(tmp_path)
    (tmp_path / "run.sh").touch()
    with pytest.raises(UserError, match=r"none of asr\.sh, st\.sh, .* is there"):
        study_of(tmp_path).prepare()


def test_a_dry_run_prints_the_commands(recipe, capsys):
    assert main(["study", str(recipe), "--attention", "mha", "--seeds", "1", "--dry_run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[::2] == ["# prepare", "# train mha_seed0", "# decode mha_seed0"]
    assert lines[3].startswith(f"(cd {recipe} && ./run.sh --stage 11 --stop_stage 11")
    assert not (recipe / "calls").exists()
