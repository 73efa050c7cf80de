import importlib.util
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def results_page():
    path = CHECKOUT / "tools/results_page.py"
    spec = importlib.util.spec_from_file_location("results_page", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_has_what_the_studies_say(results_page):
    page = results_page.PAGE.read_text(encoding="utf-8")
    assert "<!-- study egs2/debian/sum1 rouge_l -->" in page
    assert results_page.written(page) == page


def test_a_table_has_means_intervals_and_costs(results_page):
    costs = {"train_s": "10", "cache_bytes_per_position": "8.0", "cache_bytes_peak": "3000000"}
    empty = dict.fromkeys(
        ("difference", "items_low", "items_high", "seeds_low", "seeds_high", "verdict"), ""
    )
    base = [
        {"measure": "wer", "kind": "mha", "value": value} | empty | costs for value in ("1", "3")
    ]
    other = {
        "measure": "wer", "kind": "mtla", "value": "2.5", "difference": "0.5", "items_low": "-1",
        "items_high": "2", "seeds_low": "", "seeds_high": "", "verdict": "no difference was shown",
    } | costs  # fmt: skip
    lines = results_page.table([*base, other], "wer").splitlines()
    assert lines[0].startswith("| kind | WER | seeds | less mha |")
    assert lines[2:] == [
        "| mha | 2.00 ± 1.41 | 2 | - | - | - | - | 10 | 8 | 3 |",
        "| mtla | 2.50 | 1 | +0.50 | [-1.00, +2.00] | - | no difference was shown | 10 | 8 | 3 |",
    ]
