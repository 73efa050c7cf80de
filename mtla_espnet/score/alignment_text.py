"""`alignment.txt`: what stands under what in each sentence, by utterance id, drawn by jiwer."""

import itertools
import re
from collections.abc import Mapping

from mtla_espnet.score.align import Counts, count

_TYPES = {"C": "equal", "S": "substitute", "D": "delete", "I": "insert"}
_HEADING = re.compile(r"^=== SENTENCE \d+ ===$", re.MULTILINE)


def format_alignments(
    references: Mapping[str, list[str]],
    hypotheses: Mapping[str, list[str]],
    steps: Mapping[str, str],
) -> str:
    """Draw the alignments of all sentences one below the other, each under its id.

    Args:
        references: id -> tokens.
        hypotheses: id -> tokens, with the same ids.
        steps: id -> what `mtla_espnet.score.align.align` returns for the two.

    Returns:
        Three rows a sentence: reference, hypothesis, and S, D or I under each error.

    Example:
        >>> print(format_alignments({"a-1": ["the", "cat"]}, {"a-1": ["cat"]}, {"a-1": "DC"}))
        === a-1 ===
        <BLANKLINE>
        REF: the cat
        HYP: *** cat
               D
        <BLANKLINE>
    """
    import jiwer  # here: it costs a second, and results are read without it

    total = sum((count(each) for each in steps.values()), Counts())
    output = jiwer.WordOutput(
        references=[list(tokens) for tokens in references.values()],
        hypotheses=[list(hypotheses[key]) for key in references],
        alignments=[_chunks(steps[key]) for key in references],
        hits=total.correct,
        substitutions=total.substitutions,
        insertions=total.insertions,
        deletions=total.deletions,
        **_rates(total),
    )
    text = jiwer.visualize_alignment(output, show_measures=False, skip_correct=False)
    names = iter(references)
    # jiwer numbers the sentences; a sentence cannot hold such a line, its rows begin otherwise.
    return _HEADING.sub(lambda _: f"=== {next(names)} ===", text)


def _chunks(steps: str) -> list:
    """Return jiwer's form of an alignment: runs of equal steps, with their places."""
    import jiwer

    chunks = []
    reference = hypothesis = 0
    for step, run in itertools.groupby(steps):
        length = len(list(run))
        reference_end = reference + (length if step != "I" else 0)
        hypothesis_end = hypothesis + (length if step != "D" else 0)
        places = reference, reference_end, hypothesis, hypothesis_end
        chunks.append(jiwer.AlignmentChunk(_TYPES[step], *places))
        reference, hypothesis = reference_end, hypothesis_end
    return chunks


def _rates(total: Counts) -> dict[str, float]:
    """Return jiwer's rates; 0 where there is nothing to divide by."""
    found = total.correct + total.substitutions + total.insertions
    kept = total.correct / (total.reference or 1) * (total.correct / (found or 1))
    return {
        "wer": total.errors / (total.reference or 1),
        "mer": total.errors / (total.correct + total.errors or 1),
        "wip": kept,
        "wil": 1 - kept,
    }
