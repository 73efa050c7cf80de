"""Utterances on which models differ most."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mtla_espnet.data.kaldi.tables import read_table
from mtla_espnet.files import UserError
from mtla_espnet.score.registry import items_of

SHOWN = 10
# Each line is a text, a tabulator and a name in parentheses.
_REFERENCES = ("score_rouge/ref.trn", "score_bleu/ref.trn.org", "score_wer/ref.trn")


@dataclasses.dataclass(frozen=True)
class Example:
    """An utterance and what models made of it.

    Args:
        name: of the utterance.
        reference: its text.
        texts: a hypothesis a model.
        values: what each reached on it, in the unit of the measure.
    """

    name: str
    reference: str
    texts: Sequence[str]
    values: Sequence[float]


def find_examples(directories: Sequence[Path], measure: str) -> list[Example]:
    """Return the utterances on which decodes of one set differ most.

    Args:
        directories: of the decoded set, one a model; at least two.
        measure: that they are compared by.

    Returns:
        At most `SHOWN`, the greatest difference first. None where the sets have no scores by
        item, or not of the same items.
    """
    try:
        items = [items_of(directory)[measure] for directory in directories]
        texts = [read_table(directory / "text") for directory in directories]
    except (KeyError, UserError):  # scored by an earlier version, or what was decoded is gone
        return []
    if any(each.ids != items[0].ids for each in items):
        return []
    values = np.stack([each.value(each.statistics) for each in items])  # (models, N)
    spread = np.nan_to_num(values.max(axis=0) - values.min(axis=0))
    chosen = [i for i in np.argsort(-spread, kind="stable")[:SHOWN] if spread[i] > 0]
    references = _read_references(directories[0])
    found = []
    for i in chosen:
        name = items[0].ids[i].strip("()")
        found.append(
            Example(
                name,
                references.get(name, ""),
                [_of(name, table) for table in texts],
                [float(value) for value in values[:, i]],
            )
        )
    return found


def _read_references(directory: Path) -> dict[str, str]:
    for name in _REFERENCES:
        if (directory / name).exists():
            lines = (directory / name).read_text(encoding="utf-8").splitlines()
            pairs = (line.rpartition("\t") for line in lines)
            return {key.strip("()"): text for text, _, key in pairs}
    return {}


def _of(name: str, table: Mapping[str, str]) -> str:
    """Return the text of an utterance, before whose id its speaker may stand."""
    while name not in table:
        _, dash, name = name.partition("-")
        if not dash:
            return ""
    return table[name]
