"""Stage 6: gather the text of the language model, and count its tokens."""

import functools
import shlex
from pathlib import Path

from mtla_espnet.data.kaldi.tables import write_table
from mtla_espnet.jobs.marks import Part
from mtla_espnet.recipe.espnet_arguments import lm_arguments
from mtla_espnet.recipe.recipe import Recipe
from mtla_espnet.recipe.tokens import text_inputs
from mtla_espnet.stages.shared.joined_text import join_text
from mtla_espnet.stages.shared.statistics import collect_statistics

TITLE = "Collect statistics for the language model"


def _sources(recipe: Recipe) -> dict[str, dict[Path, int]]:
    """Return mode -> table of text -> the stage that makes it."""
    options = recipe.options
    given = {"train": options.lm_train_text, "valid": options.lm_dev_text}
    default = {
        "train": {recipe.sets.lm_train_text: 4},
        "valid": {recipe.sets.formatted_dir(recipe.sets.valid) / recipe.texts[0].table: 3},
    }
    return {
        mode: {recipe.root / name: 0 for name in given[mode].split()} or default[mode]
        for mode in given
    }


def parts(recipe: Recipe) -> list[Part]:
    """One part."""
    directory = recipe.paths.lm_stats_dir
    files = ("text", "text_shape", recipe.texts[0].shape_file)
    return [
        Part(
            directory=directory,
            options={"token_type": recipe.tokens.token_type},
            inputs={recipe.tokens.token_list: 5}
            | text_inputs(recipe)
            | {path: made for tables in _sources(recipe).values() for path, made in tables.items()},
            outputs=[directory / mode / name for mode in ("train", "valid") for name in files],
        )
    ]


def commands(recipe: Recipe, part: Part) -> list[str]:
    """Return the command of each job, with JOB for its number."""
    return [shlex.join(["lm_train", *_arguments(recipe, part.directory / "logdir", "JOB")])]


def run(recipe: Recipe, part: Part) -> None:
    """Gather the text, and collect in nj jobs.

    Raises:
        UserError: two tables have the same id, or there is no text.
        JobFailed: ESPnet's program failed.
    """
    keys = {}
    for mode, tables in _sources(recipe).items():
        text = join_text(list(tables))
        write_table(part.directory / mode / "text", text)
        keys[mode] = list(text)
    arguments = functools.partial(_arguments, recipe)
    texts = recipe.texts[:1]
    collect_statistics(recipe, part.directory, "lm_train", keys, arguments, texts)


def _arguments(recipe: Recipe, log_dir: Path, job: str) -> list[str]:
    return [
        *("--collect_stats", "true"),
        *lm_arguments(recipe),
        *("--train_shape_file", str(log_dir / f"train.{job}.scp")),
        *("--valid_shape_file", str(log_dir / f"valid.{job}.scp")),
        *("--output_dir", str(log_dir / f"stats.{job}")),
        *("--num_workers", "0"),
        *(["--config", str(recipe.paths.lm_config)] if recipe.paths.lm_config else []),
        *shlex.split(recipe.options.lm_args),
    ]
