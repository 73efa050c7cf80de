"""What is kept for training, and its text: what both bodies of stage 4 share."""

from collections.abc import Collection, Mapping
from pathlib import Path

from mtla_espnet.data.kaldi.tables import read_table
from mtla_espnet.files import UserError, write_text
from mtla_espnet.jobs.log import say
from mtla_espnet.recipe.recipe import Recipe


def tell_kept(
    name: str,
    source: Path,
    kept: Collection[str],
    dropped: Mapping[str, int],
    thing: str,
    option: str,
) -> None:
    """Say how many are kept, and how many are left out for which reason.

    Args:
        name: of the set.
        source: where it is.
        kept: ids.
        dropped: reason -> number.
        thing: what an id is, such as utterance.
        option: where to look if nothing is left.

    Raises:
        UserError: nothing is left.
    """
    counts = ", ".join(f"{count} {reason}" for reason, count in dropped.items() if count)
    say(f"{name}: {len(kept)} {thing}s kept{f'; left out: {counts}' if counts else ''}")
    if not kept:
        raise UserError(f"{source}: no {thing} is left ({counts}): see {option}")


def write_lm_text(recipe: Recipe) -> None:
    """Write lm_train.txt: what the model shall write, without empty lines."""
    (text,) = recipe.sets.text_of_training(recipe.texts[0].table)
    lines = [f"{key} {words}\n" for key, words in read_table(text).items() if words]
    write_text(recipe.sets.lm_train_text, "".join(lines))
