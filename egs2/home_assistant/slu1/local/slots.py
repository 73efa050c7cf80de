#!/usr/bin/env python3
"""Score slots: those of a hypothesis that have the name and the words of one of the reference.

usage: slots.py EXPERIMENT_DIR

Reads ref.trn and hyp.trn of each decoded set's score_wer, writes score_slots/result.json beside it.
"""

import re
import sys
from collections import Counter
from pathlib import Path

from mtla_espnet.files import UserError, read_text
from mtla_espnet.json_files import write_json

_SLOT = re.compile(r"<([a-z_]+)> ((?:(?!</?[a-z_]+>)\S+ )+)</\1>")
_LINE = re.compile(r"(?P<text>.*)\t\((?P<key>.*)\)")


def slots_of(text: str) -> Counter:
    """Count the slots of a sentence: (name, words).

    Example:
        >>> slots_of("HassTurnOn turn on <name> desk lamp </name> in <area> hall")
        Counter({('name', 'desk lamp'): 1})
    """
    return Counter((name, words.strip()) for name, words in _SLOT.findall(text))


def score(references: dict[str, str], hypotheses: dict[str, str]) -> dict[str, float | int]:
    """Return counts, precision, recall and F1 (0 to 100) over all utterances.

    Example:
        >>> scores = score({"a": "X <area> hall </area>"}, {"a": "X <area> hall </area>"})
        >>> scores["f1"]
        100.0
    """
    correct = expected = found = 0
    for key, text in references.items():
        wanted, said = slots_of(text), slots_of(hypotheses[key])
        correct += (wanted & said).total()
        expected += wanted.total()
        found += said.total()
    precision, recall = (100 * correct / max(count, 1) for count in (found, expected))
    return {
        "reference": expected,
        "hypothesis": found,
        "correct": correct,
        "precision": precision,
        "recall": recall,
        "f1": 200 * correct / max(expected + found, 1),
    }


def read_trn(path: Path) -> dict[str, str]:
    """Read utterance -> sentence.

    Raises:
        UserError: a line is not `sentence<TAB>(id)`.
    """
    found = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise UserError(f"{path}:{number}: not a line `sentence<TAB>(id)`")
        found[match["key"]] = match["text"]
    return found


def main(experiment: Path) -> None:
    """Write the scores of every set, and print them."""
    for reference in sorted(experiment.glob("**/score_wer/ref.trn")):
        hypothesis = reference.with_name("hyp.trn")
        scores = score(read_trn(reference), read_trn(hypothesis))
        directory = reference.parents[1]
        write_json(directory / "score_slots/result.json", scores)
        parts = ", ".join(f"{name} {scores[name]:.1f}" for name in ("f1", "precision", "recall"))
        print(f"{directory}: slots (of {scores['reference']}): {parts}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
