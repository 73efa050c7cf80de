"""Alignment of a hypothesis with its reference, as NIST's sclite does it.

sclite weighs a substitution 4 and an insertion or deletion 3. So it takes a deletion, a
correct token and an insertion (6) rather than two substitutions (8), which is a tie where
all errors weigh 1, and now and then it counts more errors than the fewest possible.
Programs with other weights (jiwer) find other counts in some sentences. ESPnet's tables
are sclite's; so are ours.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

SUBSTITUTION = 4
INSERTION = 3
DELETION = 3

_LARGE = 10**7  # costs that are kept at once


@dataclasses.dataclass(frozen=True)
class Counts:
    """How many tokens are correct, substituted, deleted and inserted.

    Example:
        >>> count("CSI") + count("D")
        Counts(correct=1, substitutions=1, deletions=1, insertions=1)
    """

    correct: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    @property
    def reference(self) -> int:
        """Tokens of the reference."""
        return self.correct + self.substitutions + self.deletions

    @property
    def errors(self) -> int:
        """Wrong tokens; the error rate is `errors / reference`."""
        return self.substitutions + self.deletions + self.insertions

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.correct + other.correct,
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
        )


def fold_case(token: str) -> str:
    """Lower the ASCII letters of a token: all that sclite's default comparison ignores.

    Example:
        >>> fold_case("DÉJÀ")
        'dÉjÀ'
    """
    return token.lower() if token.isascii() else token.translate(_ASCII_TO_LOWER)


_ASCII_TO_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


def align(reference: Sequence[str], hypothesis: Sequence[str]) -> str:
    """Align two sequences of tokens at least cost.

    Among alignments of equal cost it takes sclite's: looking from the end, a pair is
    preferred to an insertion, and an insertion to a deletion.

    Args:
        reference: R tokens, compared as they are (`fold_case` comes before).
        hypothesis: H tokens.

    Returns:
        One letter a step, from the start: C (correct), S (substitution), D (deletion:
        a reference token alone), I (insertion: a hypothesis token alone). Time is O(R H);
        memory too, up to 40 MB, and O(H sqrt(R)) beyond.

    Example:
        >>> align("the cat sat".split(), "a the cat".split())
        'ICCD'
    """
    numbers: dict[str, int] = {}
    rows = np.array([numbers.setdefault(token, len(numbers)) for token in reference], dtype=int)
    columns = np.array([numbers.setdefault(token, len(numbers)) for token in hypothesis], dtype=int)
    if np.array_equal(rows, columns):
        return "C" * len(rows)
    # Of a large table, costs are kept for the first row of each block of rows; the others of the
    # block are computed again on the way back.
    large = len(rows) * len(columns) > _LARGE
    size = (math.isqrt(len(rows)) if large else len(rows)) + 1
    starts = [INSERTION * np.arange(len(columns) + 1, dtype=np.int32)]
    for first in range(0, len(rows) - size, size):
        starts.append(_costs(starts[-1], rows[first : first + size], columns)[-1].copy())

    steps = []
    row, column = len(rows), len(columns)
    for first in reversed(range(0, len(starts) * size, size)):
        cost = _costs(starts.pop(), rows[first:row], columns[:column])
        while row > first or (column and not first):
            here = cost[row - first, column]
            if row > first and column:
                wrong = rows[row - 1] != columns[column - 1]
                if here == cost[row - first - 1, column - 1] + SUBSTITUTION * wrong:
                    steps.append("S" if wrong else "C")
                    row, column = row - 1, column - 1
                    continue
            if column and here == cost[row - first, column - 1] + INSERTION:
                steps.append("I")
                column -= 1
            else:
                steps.append("D")
                row -= 1
    return "".join(reversed(steps))


def count(steps: str) -> Counts:
    """Count the letters of an alignment."""
    return Counts(steps.count("C"), steps.count("S"), steps.count("D"), steps.count("I"))


def _costs(start: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return the least cost of every pair of beginnings: (R + 1, H + 1) int.

    Args:
        start: (H' + 1,) int with H' >= H, the costs before the first of the rows.
        rows: (R,) int, reference tokens.
        columns: (H,) int, hypothesis tokens.
    """
    insertions = INSERTION * np.arange(len(columns) + 1, dtype=np.int32)
    cost = np.empty((len(rows) + 1, len(columns) + 1), dtype=np.int32)
    cost[0] = start[: len(columns) + 1]
    for number, row in enumerate(rows):
        below = cost[number] + DELETION
        np.minimum(below[1:], cost[number][:-1] + SUBSTITUTION * (columns != row), out=below[1:])
        # The best way to reach a column also comes from any column before it, by insertions.
        cost[number + 1] = np.minimum.accumulate(below - insertions) + insertions
    return cost
