"""How audio is read: what stages 2 and 3 share."""

from mtla_espnet.data.audio.reader import channel_number
from mtla_espnet.data.audio.reading_options import ReadingOptions
from mtla_espnet.recipe.recipe import Recipe


def reading_options(recipe: Recipe) -> ReadingOptions:
    """Return how a recipe's options say that audio is read, and what is left out."""
    options = recipe.options
    return ReadingOptions(
        nj=options.nj,
        tables=recipe.tables,
        max_rejected=options.max_rejected,
        allow_pipes=options.allow_pipes,
        channel=channel_number(options.channel),
        fresh=options.force,
    )
