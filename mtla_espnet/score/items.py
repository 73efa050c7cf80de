"""What each item of a decoded set adds to a measure, for intervals and paired comparisons.

A measure of a set is a function of sums over its items (utterances, documents): errors and
reference words for WER, matches of n-grams and lengths for BLEU, the score itself for a mean.
Resampling a set means to sum other items.
"""

import csv
import dataclasses
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from mtla_espnet.files import UserError, write_text


@dataclasses.dataclass(frozen=True)
class Items:
    """The items of a set under one measure.

    Args:
        ids: of the items, in the order of the file.
        statistics: (N, K) float64, what each item adds.
        value: sums (..., K) -> values (...) of the measure, in its own unit.
    """

    ids: tuple[str, ...]
    statistics: np.ndarray
    value: Callable[[np.ndarray], np.ndarray]

    @property
    def of_all(self) -> float:
        """The measure of the whole set."""
        return float(self.value(self.statistics.sum(axis=0)))


def error_items(counts: dict[str, tuple[int, int]]) -> Items:
    """Return items of an error rate in per cent.

    Args:
        counts: id -> wrong tokens and tokens of the reference.

    Example:
        >>> error_items({"a": (1, 4), "b": (0, 6)}).of_all
        10.0
    """
    return Items(tuple(counts), np.array(list(counts.values()), float), _percent)


def mean_items(scores: dict[str, float]) -> Items:
    """Return items of a mean over items.

    Example:
        >>> mean_items({"a": 100.0, "b": 0.0}).of_all
        50.0
    """
    statistics = np.array([(score, 1.0) for score in scores.values()], float)
    return Items(tuple(scores), statistics, _mean)


def write_scores(path: Path, columns: Mapping[str, Mapping[str, float]]) -> None:
    """Write a table of scores by item: CSV with a column `id`, values to four decimals.

    Args:
        path: the file.
        columns: heading -> id -> value; all with the same ids in the same order.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["id", *columns])
    for key in next(iter(columns.values())):
        writer.writerow([key, *(f"{column[key]:.4f}" for column in columns.values())])
    write_text(path, stream.getvalue())


def read_scores(path: Path, columns: Sequence[str]) -> dict[str, dict[str, float]]:
    """Read columns of a table of scores by item: heading -> id -> value.

    Args:
        path: CSV with a column `id`.
        columns: headings.

    Raises:
        UserError: the file is missing, or has no such numbers.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return {name: {row["id"]: float(row[name]) for row in rows} for name in columns}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; score the set again (stage 13)") from None
    except (KeyError, TypeError, ValueError):
        raise UserError(
            f"{path}: no numbers {', '.join(map(repr, columns))} by id; score the set again"
        ) from None


def check_same_items(sets: Sequence[tuple[Path, Items]]) -> None:
    """Check that sets have the same items in the same order.

    Args:
        sets: where each was decoded, and its items; at least one.

    Raises:
        UserError: two differ; names both.
    """
    (first, wanted), *others = sets
    for directory, items in others:
        if items.ids != wanted.ids:
            raise UserError(
                f"{directory}: scored {len(items.ids)} items, which are not the "
                f"{len(wanted.ids)} of {first}: decode and score both on the same set"
            )


def _percent(sums: np.ndarray) -> np.ndarray:
    errors, tokens = sums[..., 0], sums[..., 1]
    # a sample may have no reference token
    return np.divide(100 * errors, tokens, out=np.full_like(tokens, np.nan), where=tokens > 0)


def _mean(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / sums[..., 1]
