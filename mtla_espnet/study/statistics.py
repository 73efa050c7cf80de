"""Is one attention kind as good as another? Intervals over test items and over seeds.

Two sources of chance are told apart, because each can mislead alone:

- the test set: a paired bootstrap over items (scipy's), in which each resample scores all runs
  on the same items, and a kind's score is the mean over its seeds;
- the training: Welch's t interval of the difference of the means over seeds.

A difference is *shown* where both 95 % intervals exclude zero. Equality within a margin is
shown where both 90 % intervals lie inside it, which is two one-sided tests (TOST) at 5 % each.
Neither follows from a failure to show the other.
"""

import dataclasses
import statistics
import warnings
from collections.abc import Sequence

import numpy as np
from scipy import stats

from mtla_espnet.score.items import Items

RESAMPLES = 2000
_CELLS = 20_000_000  # numbers of a batch of resamples that are held at once

Interval = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Spread:
    """A measure over the seeds of a kind.

    Args:
        values: one a seed.
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean."""
        return statistics.fmean(self.values)

    @property
    def deviation(self) -> float | None:
        """The sample's standard deviation; None with one seed."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A kind against the baseline, in the unit of the measure.

    Args:
        difference: mean of the kind less that of the baseline.
        over_items: 95 % interval of the difference, by the bootstrap over items.
        p_items: of no difference, two-sided, by the same bootstrap.
        over_seeds: 95 % interval by Welch's t; None: one of the two has a single seed.
        p_seeds: of no difference, by Welch's t test; None where `over_seeds` is None.
        margin: that equality is asked within.
        is_equal: equality within the margin is shown; None: a single seed cannot show it.
        is_error: a lower value is better.
    """

    difference: float
    over_items: Interval
    p_items: float
    over_seeds: Interval | None
    p_seeds: float | None
    margin: float
    is_equal: bool | None
    is_error: bool

    @property
    def is_shown(self) -> bool:
        """Whether a difference is shown: over items, and over seeds where there are several."""
        intervals = [self.over_items] + ([self.over_seeds] if self.over_seeds else [])
        return all(low > 0 or high < 0 for low, high in intervals)

    @property
    def verdict(self) -> str:
        """What may be said, in words.

        Example:
            >>> Comparison(-1.0, (-2.0, -0.1), 0.01, None, None, 0.5, None, True).verdict
            'better (one seed)'
        """
        told = []
        if self.is_shown:
            told.append("better" if (self.difference < 0) == self.is_error else "worse")
        if self.is_equal:
            told.append(f"equal within {self.margin:g}")
        words = " but ".join(told) or "no difference was shown"
        return words if self.over_seeds else f"{words} (one seed)"


def compare(
    runs: Sequence[Items],
    baseline: Sequence[Items],
    margin: float,
    is_error: bool,
    resamples: int = RESAMPLES,
) -> Comparison:
    """Compare a kind with the baseline.

    Args:
        runs: the test set under the measure, for each seed of the kind; the same items in all.
        baseline: the same of the baseline.
        margin: within which values count as equal, above 0.
        is_error: a lower value is better.
        resamples: of the bootstrap.
    """
    sides = [np.stack([items.statistics for items in side]) for side in (runs, baseline)]
    value, n_items = runs[0].value, sides[0].shape[1]

    def difference(index: np.ndarray, axis: int = -1) -> np.ndarray:
        del axis  # the last; scipy passes it on
        index = index.astype(np.int64)
        kind, base = (value(side[:, index].sum(axis=-2)).mean(axis=0) for side in sides)
        return kind - base

    numbers = sum(side.shape[0] * side.shape[2] for side in sides) * n_items
    with warnings.catch_warnings():  # of samples without a reference token
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        bootstrap = stats.bootstrap(
            (np.arange(n_items),),
            difference,
            n_resamples=resamples,
            batch=max(1, min(resamples, _CELLS // numbers)),
            vectorized=True,
            method="percentile",
            rng=np.random.default_rng(0),
        )
    drawn = bootstrap.bootstrap_distribution
    drawn = drawn[np.isfinite(drawn)]  # of a sample without a reference token there is none
    tail = min((drawn <= 0).sum(), (drawn >= 0).sum())
    over_items, inner = _quantiles(drawn, 0.95), _quantiles(drawn, 0.90)
    over_seeds = p_seeds = is_equal = None
    values = [[items.of_all for items in side] for side in (runs, baseline)]
    if min(map(len, values)) > 1:
        over_seeds, inner_seeds, p_seeds = _welch(*values)
        is_equal = all(-margin < low and high < margin for low, high in (inner, inner_seeds))
    return Comparison(
        difference=float(np.mean(values[0]) - np.mean(values[1])),
        over_items=over_items,
        p_items=min(1.0, 2 * (tail + 1) / (len(drawn) + 1)),
        over_seeds=over_seeds,
        p_seeds=p_seeds,
        margin=margin,
        is_equal=is_equal,
        is_error=is_error,
    )


def _quantiles(drawn: np.ndarray, level: float) -> Interval:
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _welch(kind: Sequence[float], baseline: Sequence[float]) -> tuple[Interval, Interval, float]:
    """Return the 95 % and the 90 % interval of the difference of means, and p."""
    difference = statistics.fmean(kind) - statistics.fmean(baseline)
    if max(map(np.ptp, (kind, baseline))) == 0:  # no spread at all: t is not defined
        point = (difference, difference)
        return point, point, float(difference == 0)
    test = stats.ttest_ind(kind, baseline, equal_var=False)
    intervals = [test.confidence_interval(level) for level in (0.95, 0.90)]
    outer, inner = ((float(each.low), float(each.high)) for each in intervals)
    return outer, inner, float(test.pvalue)
