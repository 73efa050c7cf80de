import itertools
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student

from mtla_espnet.score.items import error_items, mean_items
from mtla_espnet.study.statistics import Comparison, Spread, compare


def rates(errors, words=10):
    return error_items({str(number): (wrong, words) for number, wrong in enumerate(errors)})


def drawn(seed, mean, n_items=300):
    draw = np.random.default_rng(seed)
    return rates(draw.binomial(10, mean, n_items).tolist())


def test_the_difference_is_of_means_over_seeds():
    kinds = [drawn(seed, 0.3) for seed in range(3)]
    baseline = [drawn(seed, 0.2) for seed in range(3, 5)]
    found = compare(kinds, baseline, margin=0.5, is_error=True, resamples=200)
    means = [statistics.fmean(items.of_all for items in side) for side in (kinds, baseline)]
    assert found.difference == pytest.approx(means[0] - means[1])
    low, high = found.over_items
    assert low < found.difference < high
    assert found.is_shown and found.verdict == "worse" and found.p_items < 0.05


def test_the_interval_over_items_is_that_of_all_resamples():
    """Against all 4^4 resamples of a small set, taken one by one."""
    kind, baseline = [0, 3, 1, 9], [2, 2, 5, 1]
    all_differences = [
        10 * statistics.fmean(kind[i] - baseline[i] for i in chosen)
        for chosen in itertools.product(range(4), repeat=4)
    ]
    found = compare([rates(kind)], [rates(baseline)], margin=1.0, is_error=True, resamples=9999)
    expected = np.quantile(all_differences, [0.025, 0.975])
    assert found.over_items == pytest.approx(tuple(expected), abs=2.6)  # one step of the values
    share = min(sum(d <= 0 for d in all_differences), sum(d >= 0 for d in all_differences)) / len(
        all_differences
    )
    assert found.p_items == pytest.approx(min(1.0, 2 * share), abs=0.03)


def test_the_interval_over_seeds_is_welchs():
    kind, baseline = [30.0, 32.0, 31.0], [30.5, 29.0, 30.0]
    found = compare(
        *([mean_items({"a": v, "b": v}) for v in side] for side in (kind, baseline)), 0.5, True
    )
    variances = [statistics.variance(side) / 3 for side in (kind, baseline)]
    error = sum(variances) ** 0.5
    freedom = sum(variances) ** 2 / sum(v**2 / 2 for v in variances)
    t = student.ppf(0.975, freedom)
    difference = 31.0 - (30.5 + 29.0 + 30.0) / 3
    expected = difference - t * error, difference + t * error
    assert found.over_seeds == pytest.approx(expected, abs=1e-3)


@given(st.integers(0, 2**32 - 1))
def test_a_kind_is_equal_to_itself(seed):
    runs = [drawn(seed + number, 0.2, 40) for number in range(2)]
    found = compare(runs, runs, margin=50.0, is_error=True, resamples=50)
    assert found.difference == 0 and found.over_items == (0.0, 0.0) and found.p_items == 1.0
    assert found.is_equal and not found.is_shown
    assert found.verdict == "equal within 50"


def test_nothing_is_said_of_a_small_study():
    runs = [[drawn(2 * seed + side, 0.2, 20) for seed in range(2)] for side in (0, 1)]
    assert compare(*runs, margin=0.1, is_error=True).verdict == "no difference was shown"


def test_one_seed_shows_no_equality():
    items = drawn(0, 0.2)
    found = compare([items], [items], margin=50.0, is_error=True, resamples=50)
    assert found.over_seeds is found.p_seeds is found.is_equal is None
    assert found.verdict == "no difference was shown (one seed)"


@pytest.mark.parametrize(
    ("difference", "is_error", "verdict"),
    [(1.0, True, "worse"), (1.0, False, "better"), (-1.0, True, "better"), (-1.0, False, "worse")],
)
def test_better_and_worse(difference, is_error, verdict):
    interval = tuple(sorted((0.5 * difference, 1.5 * difference)))
    found = Comparison(difference, interval, 0.01, interval, 0.01, 0.1, False, is_error)
    assert found.verdict == verdict
    small = Comparison(difference, interval, 0.01, interval, 0.01, 2.0, True, is_error)
    assert small.verdict == f"{verdict} but equal within 2"


def test_a_difference_over_items_alone_is_not_shown():
    found = Comparison(1.0, (0.5, 1.5), 0.01, (-1.0, 3.0), 0.4, 0.1, False, True)
    assert found.verdict == "no difference was shown"


def test_spread():
    assert Spread((1.0, 3.0)).mean == 2.0
    assert Spread((1.0, 3.0)).deviation == pytest.approx(2**0.5)
    assert Spread((1.0,)).deviation is None


def test_a_sample_without_reference_words_does_not_count():
    empty = error_items({"a": (0, 0), "b": (1, 4)})
    found = compare([empty], [empty], margin=1.0, is_error=True, resamples=100)
    assert found.difference == 0 and np.isfinite(found.over_items).all()
