"""Names that a recipe makes of its options, which a file system must take."""

import os
from pathlib import Path

from mtla_espnet.files import UserError
from mtla_espnet.recipe.options import LONGEST_NAME
from mtla_espnet.recipe.recipe import Recipe

_LONGEST_PATH = 4095


def check_names(recipe: Recipe) -> None:
    """Check that the directories and files of a recipe can have the names that they are to have.

    Raises:
        UserError: one is too long; says which option names it otherwise.
    """
    paths, model = recipe.paths, recipe.task.model
    # what others are made of comes first
    named: dict[Path, str] = {recipe.sets.dump_dir: "--dumpdir"}
    named |= {text.tokens.token_list.parent: "--lang" for text in recipe.texts}
    if recipe.options.use_lm:
        named |= {paths.lm_stats_dir: "--lm_stats_dir", paths.lm_exp_dir: "--lm_tag"}
    if recipe.options.hf_repo:
        named[paths.hub_dir] = "--hf_repo"
    named |= {
        paths.stats_dir: f"--{model}_stats_dir",
        paths.packed_model: f"--{model}_tag",
        paths.inference_dir: "--inference_tag",
    }
    for path, option in named.items():
        longest = max(path.parts, key=lambda part: len(os.fsencode(part)), default="")
        size = len(os.fsencode(longest))
        if size > LONGEST_NAME:
            raise UserError(
                f"{longest[:60]}...: {size} bytes are too long for the name of a file "
                f"({LONGEST_NAME} at most): choose a short one by {option}",
                exit_code=2,
            )
        if len(os.fsencode(path.absolute())) > _LONGEST_PATH:
            raise UserError(f"{option}: the path is longer than {_LONGEST_PATH} bytes", 2)
