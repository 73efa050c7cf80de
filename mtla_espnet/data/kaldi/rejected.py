"""Utterances that are left out: `rejected.tsv`, and when there are too many of them.

Corpora (stage 1) and the formatting of audio (stage 3) both leave out what cannot be used
and go on with the rest. `rejected.tsv` in the directory that they write has one line an
utterance: id, the file that speaks of it, the line there, the reason.
"""

import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from mtla_espnet.files import UserError, read_text, write_text

FILE = "rejected.tsv"
DEFAULT_PERCENT = 1.0
_HEADER = ("id", "file", "line", "reason")


class Rejection(NamedTuple):
    """An utterance that is left out.

    Args:
        utterance: its id.
        file: the file that speaks of it, such as `data/train/segments` or a raw transcript.
        line: where in that file, from 1; None where lines mean nothing there.
        reason: what is wrong, and with which audio file if one is.
    """

    utterance: str
    file: str
    line: int | None
    reason: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.utterance!r}: {_field(self.reason)}"


def report_rejected(
    directory: str | os.PathLike,
    rejections: Iterable[Rejection],
    n_utterances: int,
    max_percent: float = DEFAULT_PERCENT,
) -> set[str]:
    """List the utterances that are left out, and stop if they are too many.

    Call it before the tables of the set are written: where it stops, no table is there.

    Args:
        directory: of the set; `rejected.tsv` in it is written anew, and removed where
            nothing is rejected.
        rejections: what is left out, in any order.
        n_utterances: of the set, with those.
        max_percent: of `n_utterances` that may be rejected, `--max_rejected`.

    Returns:
        The ids that are left out.

    Raises:
        UserError: more than `max_percent` are, or all; names their number, the list, and
            the first of them.

    Example:
        >>> report_rejected("data/dev", [], 100)
        set()
    """
    path = Path(directory) / FILE
    ordered = write_rejections(path, rejections)
    if not ordered:
        return set()
    ids = {rejection.utterance for rejection in ordered}
    percent = 100.0 * len(ids) / n_utterances
    counted = f"{len(ids)} of {n_utterances} utterances rejected"
    if percent > max_percent or len(ids) == n_utterances:
        limit = f"{percent:.3g} %, more than --max_rejected {max_percent:g} %"
        reason = limit if percent > max_percent else "none is left"
        raise UserError(f"{path}: {counted} ({reason}); the first: {ordered[0]}")
    logging.warning("%s: %s; the first: %s", path, counted, ordered[0])
    return ids


def write_rejections(path: Path, rejections: Iterable[Rejection]) -> list[Rejection]:
    """Write a list in the form of `rejected.tsv`; no file where there is nothing to list.

    Returns:
        The rejections in the order of the list.
    """
    ordered = sorted(rejections, key=lambda each: (each.utterance, each.file, each.line or 0))
    if not ordered:
        path.unlink(missing_ok=True)
        return []
    lines = [_HEADER, *((each.utterance, each.file, each.line, each.reason) for each in ordered)]
    write_text(path, "".join("\t".join(map(_field, line)) + "\n" for line in lines))
    return ordered


def read_rejected(path: str | os.PathLike) -> list[Rejection]:
    """Read a `rejected.tsv`.

    Raises:
        UserError: it is missing, or a line has not four fields.
    """
    lines = read_text(path).split("\n")[:-1]
    rejections = []
    for number, line in enumerate(lines[1:], 2):
        fields: Sequence[str] = line.split("\t")
        if len(fields) != len(_HEADER):
            raise UserError(f"{path}:{number}: has {len(fields)} fields, not {len(_HEADER)}")
        utterance, file, place, reason = fields
        rejections.append(Rejection(utterance, file, int(place) if place else None, reason))
    return rejections


def _field(value: object) -> str:
    """Write a value without tabs and line ends."""
    return "" if value is None else " ".join(str(value).split())
