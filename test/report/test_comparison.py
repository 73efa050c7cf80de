import csv

import pytest

from mtla_espnet.files import UserError
from mtla_espnet.report.comparison import write_comparison
from mtla_espnet.score.efficiency import KEYS


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def table_of(text, number=0):
    """Rows of a Markdown table as dicts."""
    tables = [block for block in text.split("\n\n") if "|" in block]
    lines = [line for line in tables[number].splitlines() if line.startswith("|")]
    names = cells(lines[0])
    return [dict(zip(names, cells(line), strict=True)) for line in lines[2:]]


@pytest.fixture
def recipe(experiments):
    experiments.add("asr_train_mha", "mha", wrong=3)
    experiments.add(
        "asr_train_mtla",
        "mtla",
        wrong=2,
        down_rate=2,
        search_s=2.0,
        total_s=4.0,
        rtf=0.2,
        cache_bytes_peak=500_000,
        cache_bytes_per_position=576.0,
    )
    (experiments.directory / "exp" / "asr_stats_raw").mkdir()
    return experiments.directory


def test_one_row_an_experiment_the_baseline_first(recipe):
    text = write_comparison(recipe)
    rows = table_of(text)
    assert [row["model"] for row in rows] == ["mha", "mtla s=2"]
    assert rows[1] == {
        "model": "mtla s=2",
        "parameters": "1,234,567",
        "WER": "0.2000",
        "CER": "0.0625",
        "train s": "321",
        "decode s": "4.0",
        "RTF": "0.200",
        "speed-up": "2.00",
        "KV B/pos": "576",
        "KV peak MB": "0.50",
        "KV ratio": "0.25",
        "peak memory MB": "50.00",
    }
    assert (rows[0]["speed-up"], rows[0]["KV ratio"]) == ("1.00", "1.00")
    assert {len(line) for line in text.splitlines() if line.startswith("|")} == {
        len(text.splitlines()[1])
    }
    assert table_of((recipe / "exp/comparison.md").read_text()) == rows


def test_a_second_table_says_where_the_time_went(recipe):
    write_comparison(recipe)
    mtla = table_of((recipe / "exp/comparison.md").read_text(), number=1)[1]
    assert mtla == {
        "model": "mtla s=2",
        "beam": "5",
        "batch": "8",
        "device": "cpu",
        "dtype": "float32",
        "utt/s": "0.3",
        "encoder s": "1.00",
        "search s": "2.00",
        "decoder s": "2.50",
        "CTC s": "1.00",
        "bookkeeping s": "0.50",
        "KV alloc MB": "3.00",
    }


def test_the_csv_has_full_values(recipe):
    write_comparison(recipe)
    with open(recipe / "exp/comparison.csv", newline="") as stream:
        mha, mtla = csv.DictReader(stream)
    assert mha["experiment"] == "asr_train_mha"
    assert mtla["test_set"] == "test"
    assert float(mha["wer"]) == 3 / 11
    assert float(mtla["cache_bytes_peak"]) == 500_000
    assert float(mtla["search_speedup"]) == 2.0
    assert float(mtla["search_ctc_s"]) == 1.0
    assert mtla.keys() >= set(KEYS) - {"total_s"}  # as decode_s


def test_the_plot_is_a_png(recipe):
    write_comparison(recipe)
    assert (recipe / "exp/comparison.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_sets_have_a_table_each_and_twins_their_experiments_names(experiments):
    experiments.add("asr_one", "mla", name="greedy/a")
    experiments.add("asr_two", "mla", name="greedy/a")
    experiments.add("asr_three", "mla", name="greedy/org/b")
    text = write_comparison(experiments.directory)
    assert [line for line in text.splitlines() if line.startswith("greedy")] == [
        "greedy/a",
        "greedy/org/b",
    ]
    assert [row["model"] for row in table_of(text.partition("greedy/org/b")[0])] == [
        "mla (asr_one)",
        "mla (asr_two)",
    ]
    assert [row["speed-up"] for row in table_of(text.partition("greedy/org/b")[2])] == ["-"]


def test_ratios_compare_one_device_only(experiments):
    experiments.add("asr_mha", "mha")
    experiments.add("asr_mla", "mla", device="a GPU")
    rows = table_of(write_comparison(experiments.directory))
    assert [row["speed-up"] for row in rows] == ["1.00", "-"]


def test_what_was_not_measured_is_a_dash(experiments):
    experiment = experiments.add("asr_old", "mha")
    (experiment / "training.json").unlink()
    next(experiment.rglob("efficiency.json")).unlink()
    (row,) = table_of(write_comparison(experiments.directory))
    assert (row["model"], row["WER"], row["RTF"]) == ("asr_old", "0.2000", "-")


def test_a_recipe_without_results_is_an_error(tmp_path):
    with pytest.raises(UserError, match="exp: no such directory"):
        write_comparison(tmp_path)
    (tmp_path / "exp" / "asr_a").mkdir(parents=True)
    with pytest.raises(UserError, match="no experiment is scored there"):
        write_comparison(tmp_path)
