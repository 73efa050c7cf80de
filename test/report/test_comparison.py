import csv

import pytest

from mtla_espnet.files import UserError
from mtla_espnet.report.comparison import write_comparison, write_comparisons
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
        "Snt": "2",
        "WER %": "20.00",
        "CER %": "6.25",
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
        "memory ratio": "1.00",
    }


def test_the_csv_has_full_values(recipe):
    write_comparison(recipe)
    with open(recipe / "exp/comparison.csv", newline="") as stream:
        mha, mtla = csv.DictReader(stream)
    assert mha["experiment"] == "asr_train_mha"
    assert mtla["test_set"] == "test"
    assert float(mha["wer"]) == pytest.approx(300 / 11)
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


def test_a_baseline_without_a_search_is_in_all_tables_of_its_set(experiments):
    experiments.add("asr_one", "mla", name="greedy/a")
    experiments.add("asr_one", "mla", name="beam/a")
    experiments.add("asr_one", "mla", name="beam/b")
    for name in ("a", "c"):
        baseline = experiments.add("always", "mla", name=name)
        (baseline / "training.json").unlink()
        (baseline / name / "efficiency.json").unlink()
    text = write_comparison(experiments.directory)
    headings = [line for line in text.splitlines() if line and not line.startswith("|")]
    assert headings == ["beam/a", "beam/b", "greedy/a", "c"]
    models = [[row["model"] for row in table_of(text, number)] for number in range(4)]
    assert models == [["mla", "always"], ["mla"], ["mla", "always"], ["always"]]


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
    assert (row["model"], row["WER %"], row["RTF"]) == ("asr_old", "20.00", "-")


def test_a_recipe_without_results_is_an_error(tmp_path):
    with pytest.raises(UserError, match="exp: no such directory"):
        write_comparison(tmp_path)
    (tmp_path / "exp" / "asr_a").mkdir(parents=True)
    with pytest.raises(UserError, match="no experiment is scored there"):
        write_comparison(tmp_path)


@pytest.fixture
def other_tasks(experiments):
    for kind, wrong, peak in (("mha", 4, 2_000_000), ("mtla", 2, 500_000)):
        cost = {"cache_bytes_peak": peak, "peak_memory_bytes": 10 * peak}
        if kind == "mtla":
            cost |= {"down_rate": 2, "cache_bytes_per_position": 576.0}
        experiments.add(f"st_{kind}", kind, name="st/test", **cost)
        experiments.score_translation(f"st_{kind}", wrong, "st/test")
        experiments.add(f"slu_{kind}", kind, name="slu/test", **cost)
        experiments.score_intents(f"slu_{kind}", wrong, "slu/test")
        experiments.add(f"mt_{kind}", kind, name="sum/test", audio_s=0.0, rtf=None, **cost)
        experiments.score_summaries(f"mt_{kind}", wrong, "sum/test")
    return experiments.directory


@pytest.mark.parametrize(
    ("number", "measures"),
    [
        (0, {"intent acc %": "80.00", "WER words %": "20.00"}),
        (1, {"BLEU": "38.00", "chrF2": "48.00", "TER": "2.00"}),
        (2, {"ROUGE-L": "28.00", "ROUGE-1": "38.00", "ROUGE-2": "18.00", "lead R-L": "15.00"}),
    ],
)
def test_each_task_has_its_own_measures(other_tasks, number, measures):
    row = table_of(write_comparison(other_tasks), number)[1]
    assert row["model"] == "mtla s=2"
    assert list(row)[3 : 3 + len(measures)] == list(measures)
    assert {name: row[name] for name in measures} == measures
    assert row["KV ratio"] == "0.25"


def test_measures_of_all_tasks_are_in_the_csv(other_tasks):
    write_comparison(other_tasks)
    rows = list(csv.DictReader((other_tasks / "exp/comparison.csv").open()))
    (summary,) = [row for row in rows if row["experiment"] == "mt_mtla"]
    assert (summary["rouge_2"], summary["lead_rouge_l"], summary["bleu"]) == ("18.0", "15.0", "")
    assert (summary["memory_ratio"], summary["rtf"]) == ("0.25", "")
    (intents,) = [row for row in rows if row["experiment"] == "slu_mtla"]
    assert float(intents["scenario_accuracy"]) == 100.0
    note = (other_tasks / "exp/comparison.md").read_text().split("\n\n")[1]
    assert all(word in note for word in ("sacrebleu", "intent", "ROUGE"))
    assert "WER and CER" not in note


def test_several_recipes_have_a_table_over_all(recipe, other_tasks, tmp_path_factory):
    other = tmp_path_factory.mktemp("r") / "corpus" / "asr1"
    (other / "exp").mkdir(parents=True)
    (recipe / "exp" / "asr_train_mha").rename(other / "exp" / "asr_train_mha")
    text = write_comparisons([other, recipe])
    title, table = text.rsplit("\n\n", 1)[1].split("\n", 1)
    assert title == "All recipes"
    rows = table_of(table)
    assert rows[0]["recipe, set and model"] == "corpus/asr1 test mha"
    assert (rows[0]["measure"], rows[0]["value"]) == ("WER %", "27.27")
    assert (other / "exp/comparison.md").exists() and (recipe / "exp/comparison.md").exists()
    assert write_comparisons([other]) == write_comparison(other)


def ratios_of(experiments):
    write_comparison(experiments.directory)
    rows = csv.DictReader((experiments.directory / "exp/comparison.csv").open())
    return {row["experiment"]: row["cache_ratio"] for row in rows}


def test_of_several_baselines_that_of_the_same_configuration_counts(experiments):
    for size, peak in (("large", 4_000_000), ("small", 1_000_000)):
        for kind, share in (("mha", 1), ("mtla", 4)):
            tag = f"asr_train_{size}_{kind}"
            experiments.add(tag, kind, down_rate=2, cache_bytes_peak=peak // share)
            experiments.configure(tag, kind, linear_units=peak)
    assert ratios_of(experiments) == {
        "asr_train_large_mha": "1.0",
        "asr_train_large_mtla": "0.25",
        "asr_train_small_mha": "1.0",
        "asr_train_small_mtla": "0.25",
    }


def test_of_two_seeds_of_a_baseline_that_of_the_most_similar_name_counts(experiments):
    for seed, peak in ((1, 1_000_000), (2, 2_000_000)):
        experiments.add(f"asr_seed{seed}_mha", "mha", cache_bytes_peak=peak)
        experiments.add(f"asr_seed{seed}_mtla", "mtla", cache_bytes_peak=500_000)
    ratios = ratios_of(experiments)
    assert (ratios["asr_seed1_mtla"], ratios["asr_seed2_mtla"]) == ("0.5", "0.25")


@pytest.mark.parametrize(
    "change",
    [
        {"num_blocks": 3},
        {"attention_heads": 8},
        {"utterances": 49},
        {"batch": 16},
        {"beam_size": 1},
        {"dtype": "bfloat16"},
        {"device": "a GPU"},
    ],
)
def test_what_differs_in_more_than_its_attention_has_no_baseline(experiments, change):
    cost = {key: value for key, value in change.items() if key in KEYS}
    experiments.add("asr_train_mha", "mha", utterances=cost.pop("utterances", 50), **cost)
    experiments.add("asr_train_mtla", "mtla", utterances=50)
    if not change.keys() & set(KEYS):
        experiments.configure("asr_train_mha", "mha", **change)
    assert ratios_of(experiments) == {"asr_train_mha": "1.0", "asr_train_mtla": ""}
    experiments.add("asr_again_mha", "mha", utterances=50)
    assert ratios_of(experiments)["asr_train_mtla"] == "1.0"


def test_without_a_configuration_nothing_is_compared(experiments):
    for kind in ("mha", "mtla"):
        (experiments.add(f"asr_{kind}", kind) / "config.yaml").unlink()
    assert ratios_of(experiments) == {"asr_mha": "", "asr_mtla": ""}


def test_times_of_a_busy_cpu_are_told_as_such(experiments):
    experiments.add("asr_mha", "mha", processor_s=4.0)
    experiments.add("asr_mla", "mla", processor_s=5.9, cache_bytes_per_position=9.0)
    experiments.add("asr_gqa", "gqa", processor_s=1.0, device="a GPU", cache_bytes_per_position=8.0)
    text = write_comparison(experiments.directory)
    mha, mla, gqa = table_of(text)
    assert [row["CPU s"] for row in (mha, mla, gqa)] == ["4.0", "5.9", "1.0"]
    assert (mha["decode s"], mha["RTF"], mha["speed-up"]) == ("6.0*", "0.300*", "1.00*")
    assert (mla["decode s"], mla["RTF"], mla["speed-up"]) == ("6.0", "0.300", "1.00*")
    assert (gqa["decode s"], gqa["speed-up"]) == ("6.0", "-")
    assert text.count("the clock ran") == 1
    assert "mha: the clock ran 6.0 s and the processor worked 4.0 s: it had" in text
    assert "mha: the clock ran" in (experiments.directory / "exp/comparison.md").read_text()


def test_what_failed_is_told_and_not_scored(experiments):
    experiment = experiments.add("asr_mha", "mha", name="greedy/a")
    experiments.add("asr_mla", "mla", name="greedy/a")
    for result in experiment.rglob("result.txt"):
        result.unlink()
    (experiment / "greedy/a/failed.tsv").write_text("utterance\treason\nb\tno memory\n")
    text = write_comparison(experiments.directory)
    row = table_of(text)[0]
    assert (row["model"], row["Snt"], row["WER %"], row["decode s"]) == ("mha", "2", "-", "6.0")
    assert "mha: 1 of 3 utterances were not decoded (failed.tsv)" in text


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ("a\nb \n", "mha: all 2 hypotheses are empty: nothing was recognised"),
        ("a\nb x\n", "mha: 1 of 2 hypotheses are empty"),
        ("a y\nb x\n", ""),
    ],
)
def test_empty_hypotheses_are_told(experiments, texts, said):
    experiment = experiments.add("asr_mha", "mha", name="greedy/a")
    (experiment / "greedy/a/text").write_text(texts)
    text = write_comparison(experiments.directory)
    assert said in text and ("empty" in text) == bool(said)


def test_the_kinds_that_merge_show_their_rate_whatever_their_name(experiments):
    experiments.add("asr_new", "new_kind", down_rate=3)
    experiments.add("asr_mtla", "mtla", down_rate=1)
    labels = {row["model"] for row in table_of(write_comparison(experiments.directory))}
    assert labels == {"new_kind s=3", "mtla"}
