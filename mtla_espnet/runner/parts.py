"""The parts of a stage, with the options that their results depend on."""

import dataclasses
from types import ModuleType

from mtla_espnet.jobs.marks import Part
from mtla_espnet.recipe.options import options_of_stage
from mtla_espnet.recipe.recipe import Recipe


def parts_of(recipe: Recipe, number: int, module: ModuleType) -> list[Part]:
    """Return what a stage's body says there is to do, with the options that change it.

    These are said once, in the table of options. A mark that lacks one of them was made with its
    default: a new option leaves what is done as it is.

    Args:
        recipe: the recipe.
        number: the stage.
        module: its body.
    """
    declared = options_of_stage(recipe.options.task, number)
    result = []
    for part in module.parts(recipe):
        read = [option for option in declared if option.name not in part.unread]
        values = {option.name: getattr(recipe.options, option.name) for option in read}
        defaults = {option.name: option.default for option in read}
        options = values | dict(part.options)
        result.append(dataclasses.replace(part, options=options, defaults=defaults))
    return result
