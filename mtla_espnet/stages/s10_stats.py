"""Stage 10: collect the shapes of the data and the statistics of its features."""

import functools
import shlex
from pathlib import Path

from mtla_espnet.data.tables import read_table
from mtla_espnet.stages.espnet_arguments import common_arguments, tables_of
from mtla_espnet.stages.layout import used_options
from mtla_espnet.stages.marks import Part
from mtla_espnet.stages.recipe import Recipe
from mtla_espnet.stages.statistics import collect_statistics
from mtla_espnet.stages.tokens import text_inputs, text_options

TITLE = "Collect statistics"
# What of a training configuration the statistics depend on: experiments that differ
# elsewhere share them.
_RELEVANT = ("frontend", "frontend_conf", "input_size", "preprocessor", "preprocessor_conf")


def parts(recipe: Recipe) -> list[Part]:
    """One part."""
    layout = recipe.layout
    config = recipe.train_config
    files = ("speech_shape", "text_shape", f"text_shape.{recipe.options.token_type}")
    sets = (layout.dump_set_dir(layout.train_set), layout.dump_set_dir(layout.valid_set))
    return [
        Part(
            directory=layout.stats_dir,
            options=text_options(recipe.options)
            | used_options(recipe.options, "nj")
            | {"config": {name: config[name] for name in _RELEVANT if name in config}},
            inputs={layout.token_list: 5}
            | text_inputs(layout)
            | {table: 4 for set_dir in sets for table in tables_of(set_dir)},
            outputs=[
                *(layout.stats_dir / mode / name for mode in ("train", "valid") for name in files),
                layout.feature_statistics,
            ],
        )
    ]


def commands(recipe: Recipe, part: Part) -> list[str]:
    """Return the command of each job, with JOB for its number."""
    return [shlex.join(["asr_train", *_arguments(recipe, part.directory / "logdir", "JOB")])]


def run(recipe: Recipe, part: Part) -> None:
    """Collect in nj jobs, and add their results up.

    Raises:
        JobFailed: ESPnet's program failed.
    """
    layout = recipe.layout
    train_dir = layout.dump_set_dir(layout.train_set)
    valid_dir = layout.dump_set_dir(layout.valid_set)
    keys = {
        "train": list(read_table(train_dir / "text")),
        "valid": list(read_table(valid_dir / "text")),
    }
    arguments = functools.partial(_arguments, recipe)
    collect_statistics(recipe, part.directory, "asr_train", keys, arguments)


def _arguments(recipe: Recipe, log_dir: Path, job: str) -> list[str]:
    layout = recipe.layout
    train_dir = layout.dump_set_dir(layout.train_set)
    valid_dir = layout.dump_set_dir(layout.valid_set)
    return [
        *("--collect_stats", "true"),
        *common_arguments(recipe, train_dir, valid_dir),
        *("--train_shape_file", str(log_dir / f"train.{job}.scp")),
        *("--valid_shape_file", str(log_dir / f"valid.{job}.scp")),
        *("--output_dir", str(log_dir / f"stats.{job}")),
        *("--num_workers", "0"),
        *(["--config", str(layout.train_config)] if layout.train_config else []),
        *shlex.split(recipe.options.asr_args),
    ]
