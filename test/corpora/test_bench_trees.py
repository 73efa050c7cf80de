"""The raw trees that bench/corpora.py makes are ones that the corpora take."""

import importlib.util
from pathlib import Path

import pytest

from mtla_espnet.data.kaldi.tables import read_table
from raw_corpora import run_prepare

BENCH = Path(__file__).resolve().parents[2] / "bench/corpora.py"
# Corpus -> entries to ask for, and those of each set that come of it.
SIZES = {
    "ami": (684, {"ihm_train": 548, "ihm_dev": 72, "ihm_eval": 64}),
    "must_c": (300, {"train.en-de": 291, "dev.en-de": 3, "tst-HE.en-de": 3}),
    "slurp": (300, {"train": 240, "devel": 30, "test": 30}),
    "xsum": (40, {"train": 36, "validation": 2, "test": 2}),
}


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("bench_corpora", BENCH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("corpus", sorted(SIZES))
def test_a_tree_is_taken_whole(tmp_path, bench, corpus):
    n_entries, expected = SIZES[corpus]
    raw = tmp_path / "raw"
    raw.mkdir()
    bench.MAKERS[corpus](raw, n_entries, bench.Words())
    run_prepare(corpus, "--downloads", raw, "--output", tmp_path / "data", "--nj", 1)
    found = {name: len(read_table(tmp_path / "data" / name / "text")) for name in expected}
    assert found == expected
    assert not list(tmp_path.glob("data/*/rejected.tsv"))
