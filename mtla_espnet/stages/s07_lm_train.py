"""Stage 7: train the language model."""

import shlex

from mtla_espnet.jobs.marks import Part
from mtla_espnet.jobs.processes import training_place
from mtla_espnet.recipe.espnet_arguments import kept_models_arguments, lm_arguments
from mtla_espnet.recipe.recipe import Recipe
from mtla_espnet.recipe.tokens import text_inputs
from mtla_espnet.stages.shared.splits import in_splits
from mtla_espnet.stages.shared.training import (
    MAY_CHANGE,
    goes_on_from,
    gpu_arguments,
    run_training,
    save_arguments,
)

TITLE = "Train the language model"


def parts(recipe: Recipe) -> list[Part]:
    """One part."""
    options = recipe.options
    names = ("text", recipe.texts[0].shape_file)
    texts = [
        recipe.paths.lm_stats_dir / mode / name for mode in ("train", "valid") for name in names
    ]
    return [
        Part(
            directory=recipe.paths.lm_exp_dir,
            options={"token_type": recipe.tokens.token_type, "config": recipe.lm_config}
            | ({"num_splits": options.num_splits_lm} if options.num_splits_lm > 1 else {}),
            inputs={recipe.tokens.token_list: 5}
            | text_inputs(recipe)
            | {path: 6 for path in texts},
            outputs=[
                *recipe.paths.lm_files.values(),
                recipe.paths.lm_exp_dir / "checkpoint.pth",
            ],
            goes_on_from=goes_on_from(recipe.paths.lm_exp_dir),
            may_change=MAY_CHANGE,
        )
    ]


def commands(recipe: Recipe, part: Part) -> list[str]:
    """Return the command that trains."""
    return [shlex.join(["lm_train", *_training(recipe, part, False)])]


def run(recipe: Recipe, part: Part) -> None:
    """Train, or go on from the last checkpoint.

    Raises:
        JobFailed: ESPnet's program failed.
    """
    argv = _training(recipe, part, training_place(recipe.options).rank == 0)
    run_training(recipe, "lm_train", argv, part.directory)


def _training(recipe: Recipe, part: Part, write_splits: bool) -> list[str]:
    n_splits = recipe.options.num_splits_lm
    return in_splits(_arguments(recipe, part), part.directory, n_splits, write_splits)


def _arguments(recipe: Recipe, part: Part) -> list[str]:
    options = recipe.options
    argv = [
        *lm_arguments(recipe),
        *("--resume", "true"),
        *("--output_dir", str(part.directory)),
        *gpu_arguments(recipe),
        *save_arguments(recipe),
        *("--fold_length", str(options.lm_fold_length)),
    ]
    for mode in ("train", "valid"):
        shape = recipe.paths.lm_stats_dir / mode / recipe.texts[0].shape_file
        argv += [f"--{mode}_shape_file", str(shape)]
    if recipe.paths.lm_config:
        argv += ["--config", str(recipe.paths.lm_config)]
    return argv + shlex.split(options.lm_args) + kept_models_arguments(recipe.lm_config)
