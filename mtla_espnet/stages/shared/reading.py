"""How audio is read: what stages 2 and 3 share."""

from mtla_espnet.data.audio.reader import channel_number
from mtla_espnet.recipe.recipe import Recipe


def reading_options(recipe: Recipe) -> dict:
    """Return how audio is read, and what is left out: arguments that stages 2 and 3 share."""
    options = recipe.options
    return {
        "nj": options.nj,
        "tables": recipe.tables,
        "max_rejected": options.max_rejected,
        "allow_pipes": options.allow_pipes,
        "channel": channel_number(options.channel),
        "fresh": options.force,
    }
