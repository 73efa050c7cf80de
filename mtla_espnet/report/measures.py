"""What models are judged by: the measures of quality of each task."""

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Measure:
    """A measure of quality.

    Args:
        heading: of its column.
        field: of a row.
        form: how it is written.
        axis: of the plot; its values are multiplied by `scale` there.
        scale: of the plot.
    """

    heading: str
    field: str
    form: str
    axis: str = ""
    scale: float = 1.0


# What rows are judged by: the first of these whose first measure a row has.
_JUDGED_BY = (
    (
        Measure("BLEU", "bleu", ".2f", "BLEU"),
        Measure("chrF2", "chrf2", ".2f"),
        Measure("TER", "edit_rate", ".2f"),
    ),
    (Measure("BLEU (lc)", "bleu_lc", ".2f", "BLEU (lower case)"),),
    (
        Measure("intent acc", "intent_accuracy", ".4f", "intent accuracy (%)", 100.0),
        Measure("WER words", "words_wer", ".4f"),
    ),
    (
        Measure("ROUGE-L", "rouge_l", ".2f", "ROUGE-L"),
        Measure("ROUGE-1", "rouge_1", ".2f"),
        Measure("ROUGE-2", "rouge_2", ".2f"),
        Measure("lead R-L", "lead_rouge_l", ".2f"),
    ),
    (Measure("WER", "wer", ".4f", "WER (%)", 100.0), Measure("CER", "cer", ".4f")),
)
# By the field of the first measure: what a reader must know.
NOTES = {
    "wer": "WER and CER are errors for each reference word or character.",
    "bleu": "BLEU is sacrebleu's (13a, case-sensitive, detokenised), as are chrF2 and TER.",
    "bleu_lc": "BLEU is sacrebleu's, of lower case without punctuation.",
    "intent_accuracy": "`intent acc` is the share of utterances whose intent is right, `WER words` "
    "the error rate of the words after it.",
    "rouge_l": "ROUGE is F1 x 100 with Porter stems, mean over documents; `lead R-L` is ROUGE-L of "
    "each document's first sentence.",
}


def judged_by(rows: Sequence[object]) -> tuple[Measure, ...]:
    """Return the measures of quality of some rows, the most important first.

    Args:
        rows: with the fields that measures name.
    """
    return next(
        (
            measures
            for measures in _JUDGED_BY
            if any(getattr(row, measures[0].field) is not None for row in rows)
        ),
        _JUDGED_BY[-1],
    )
