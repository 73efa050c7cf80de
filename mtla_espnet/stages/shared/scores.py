"""The decoded sets of a recipe as its scores see them."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path

from mtla_espnet.jobs.log import say
from mtla_espnet.recipe.recipe import Recipe
from mtla_espnet.recipe.tokens import text_cleaner, text_inputs, tokenizer
from mtla_espnet.score.record import Score, ScoredSet
from mtla_espnet.score.registry import SCORES


def scores_of(recipe: Recipe) -> list[Score]:
    """Return the ways in which a recipe's sets are scored."""
    return [SCORES[name] for name in recipe.task.scores]


def scored_set(recipe: Recipe, name: str) -> ScoredSet:
    """Return a decoded set with what its scores may ask for.

    Args:
        recipe: the recipe.
        name: of the set in reports.
    """
    data_dir = recipe.sets.evaluated[name]
    return ScoredSet(
        directory=recipe.paths.inference_dir / name,
        data_dir=data_dir,
        texts=tuple(data_dir / text.table for text in recipe.texts),
        training_texts=tuple(recipe.sets.text_of_training(recipe.texts[0].table)),
        options=recipe.options,
        token_type=recipe.tokens.token_type,
        bpe_model=recipe.tokens.bpe_model,
        symbols_file=recipe.nlsyms_file,
        clean=_made_when_used(lambda: text_cleaner(recipe.options.cleaner)),
        tokenize=_made_when_used(lambda: tokenizer(recipe)),
        say=say,
    )


def _made_when_used(make: Callable[[], Callable]) -> Callable:
    """Return a function that `make` makes at its first call: most need seconds for it."""
    made = functools.cache(make)
    return lambda text: made()(text)


def made_by(recipe: Recipe, scored: ScoredSet) -> Mapping[Path, int]:
    """Return the files that scores may read -> the stage that makes them."""
    tables = dict.fromkeys([*scored.texts, scored.utt2spk], 3)
    model = {scored.bpe_model: 5} if scored.bpe_model else {}
    training = recipe.sets.text_of_training(recipe.texts[0].table)
    return training | tables | model | text_inputs(recipe)
