"""Recipes of the paper's corpora: each runs through all stages on its fixture."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from raw_corpora import FIXTURES

CHECKOUT = Path(__file__).resolve().parents[1]
COMMON = ["--nj", "1", "--ngpu", "0", "--batch_size", "4"]
AMI_PART = '--mic ihm --meetings "ES2002a ES2011a EN2002a" --max_rejected 20'
# Recipe -> its variable, options for its fixture, and what stage 13 writes.
RUNS = {
    "ami/asr1": (
        "AMI",
        ["--asr_config", "conf/train_asr_tiny.yaml", "--local_data_opts", AMI_PART]
        + ["--nbpe", "36", "--inference_asr_model", "valid.acc.ave_2best.pth"],
        "exp/asr_*/decode_*/ihm_eval/score_wer/result.txt",
    ),
    "must_c/asr1": (
        "MUST_C",
        ["--asr_config", "conf/train_asr_tiny.yaml", "--max_wav_duration", "1.5"]
        + ["--nbpe", "36", "--inference_asr_model", "valid.acc.ave_2best.pth"],
        "exp/asr_*/decode_*/tst-COMMON.en-de/score_wer/result.txt",
    ),
}


@pytest.mark.espnet
@pytest.mark.parametrize("name", sorted(RUNS))
def test_all_stages_run_on_the_fixture(tmp_path, name):
    variable, options, result = RUNS[name]
    for part in ("conf", "egs2/TEMPLATE", f"egs2/{name}"):
        shutil.copytree(CHECKOUT / part, tmp_path / part)
    recipe = tmp_path / "egs2" / name
    environment = {
        **os.environ,
        "python": sys.executable,
        "PYTHONPATH": str(CHECKOUT),
        variable: str(FIXTURES / variable.lower()),
    }
    argv = [*COMMON, *options, "--inference_args", "--beam_size 2", "--stop_stage", "13"]

    def run(*more):
        return subprocess.run(
            ["./run.sh", *argv, *more],
            cwd=recipe,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    done = run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Successfully finished" in done.stdout + done.stderr
    (found,) = recipe.glob(result)
    assert found.stat().st_size
    (results,) = recipe.glob("exp/*/RESULTS.md")
    assert "mtla" in results.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(RUNS))
def test_a_recipe_asks_for_its_corpus(tmp_path, name):
    for part in ("egs2/TEMPLATE", f"egs2/{name}"):
        shutil.copytree(CHECKOUT / part, tmp_path / part)
    environment = {**os.environ, "python": sys.executable, RUNS[name][0]: ""}
    done = subprocess.run(
        ["local/data.sh"],
        cwd=tmp_path / "egs2" / name,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"Fill the value of '{RUNS[name][0]}' of db.sh\n"
