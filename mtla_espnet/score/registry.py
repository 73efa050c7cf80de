"""All scores. To add one, write its record in a module of its own and name it here."""

from pathlib import Path

from mtla_espnet.score import bleu, intent, rates, rouge
from mtla_espnet.score.items import Items
from mtla_espnet.score.record import Score

# From the general to the special: models are judged by the last that they are scored by. This is
# the order in reports, too.
SCORES = {score.name: score for score in (rates.SCORE, bleu.SCORE, intent.SCORE, rouge.SCORE)}


def scores_of(directory: Path) -> list[Score]:
    """Return the scores that a decoded set has results of."""
    return [
        score
        for score in SCORES.values()
        if any((directory / name).exists() for name in score.files)
    ]


def items_of(directory: Path) -> dict[str, Items]:
    """Return measure -> what each item of a scored set adds to it, over all its scores.

    Raises:
        UserError: a file of scores by item is missing or malformed.
    """
    return {
        measure: items
        for score in scores_of(directory)
        for measure, items in score.items(directory).items()
    }


def retire_results(directory: Path) -> None:
    """Take away the results of a set that is decoded again: they are not of its new hypotheses."""
    for score in scores_of(directory):
        for name in score.files:
            if (directory / name).exists():
                score.retire(directory / name)
