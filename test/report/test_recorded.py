"""Reports of recorded experiments of all tasks stay what they were."""

import csv
import shutil
from pathlib import Path

import pytest

from mtla_espnet.report.comparison import write_comparison
from mtla_espnet.report.tables import write_results

RECORDED = Path(__file__).parents[1] / "fixtures" / "recorded" / "exp"
EXPERIMENTS = sorted(path.name for path in RECORDED.iterdir() if path.is_dir())
# Shares of 1 in the recorded table, per cent today.
SHARES = ("wer", "cer", "intent_accuracy", "scenario_accuracy", "action_accuracy", "words_wer")
NEW = {"ter", "processor_s", "failed", "empty", "mean_memory_bytes"}


@pytest.fixture
def recorded(tmp_path):
    shutil.copytree(RECORDED, tmp_path / "exp")
    return tmp_path


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_results(recorded, name):
    text = write_results(recorded / "exp" / name)
    _, heading, rest = text.partition(f"## exp/{name}")
    assert heading + rest == (RECORDED / name / "RESULTS.md").read_text()


def test_comparison(recorded):
    write_comparison(recorded)
    found = list(csv.DictReader((recorded / "exp/comparison.csv").open()))
    before = list(csv.DictReader((RECORDED / "comparison.csv").open()))
    assert [row["experiment"] for row in found] == [row["experiment"] for row in before]
    for row, old in zip(found, before, strict=True):
        assert row.keys() - old.keys() == NEW
        for name, value in old.items():
            if name in SHARES and value:
                assert float(row[name]) == pytest.approx(100 * float(value), rel=1e-12)
            else:
                assert row[name] == value, name
