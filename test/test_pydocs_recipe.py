"""egs2/pydocs/sum1 from installed packages to a summary, with a tiny model."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
SETS = "--train_packages 'absl-py fsspec' --valid_packages portalocker --test_packages packaging"


@pytest.fixture
def recipe(tmp_path):
    """The recipe, beside links to what it shares."""
    directory = tmp_path / "egs2/pydocs/sum1"
    shutil.copytree(
        CHECKOUT / "egs2/pydocs/sum1",
        directory,
        ignore=shutil.ignore_patterns("data", "dump", "exp"),
    )
    for name in ("egs2/TEMPLATE", "conf"):
        (tmp_path / name).symlink_to(CHECKOUT / name)
    return directory


def call(recipe, *command):
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "python": sys.executable}
    done = subprocess.run(
        command, cwd=recipe, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.mark.slow
@pytest.mark.espnet
def test_from_packages_to_summaries(recipe):
    arguments = ["--mt_config", "conf/train_sum_tiny.yaml", "--attention", "mtla"]
    arguments += ["--tgt_nbpe", "300", "--nj", "2", "--local_data_opts", SETS]
    arguments += ["--skip_packing", "false", "--inference_args", "--maxlenratio -5"]
    done = call(recipe, "./run.sh", *arguments)
    assert "Stage 2: skipped (text has no speed)" in done.stdout
    assert "the README's results were measured with other sources" in done.stderr
    (exp,) = recipe.glob("exp/mt_train_sum_tiny_*")
    results = (exp / "RESULTS.md").read_text()
    rows = re.findall(
        r"^\|\S*/test(.*)\|(\d+\.\d+)\|(\d+\.\d+)\|(\d+\.\d+)\|-\|-\|$", results, re.M
    )
    assert [row[0] for row in rows] == ["", " first sentence of the document"]
    assert float(rows[1][3]) > 5.0
    (scores,) = exp.rglob("score_rouge/result.json")
    found = json.loads(scores.read_text())
    references = (recipe / "dump/raw/test/text").read_text().splitlines()
    assert found["documents"] == len(references) > 20
    # the model is found by its directory and by its pack
    document = recipe / "document.txt"
    document.write_text("Packages have versions.\nA version is parsed and compared.\n")
    program = (sys.executable, "-m", "mtla_espnet")
    (pack,) = exp.glob("*.zip")
    texts = [
        call(recipe, *program, "summarise", "--model", str(model), "document.txt").stdout
        for model in (exp, pack)
    ]
    assert texts[0] == texts[1]
    assert texts[0].startswith("document.txt: ")
    report = call(recipe, *program, "report", ".").stdout
    assert "ROUGE-L" in report and "mtla s=2" in report
    # a second call has nothing to do
    again = call(recipe, "./run.sh", *arguments, "--stage", "2").stdout
    assert "Stage 11: skipped" in again or "done" in again
