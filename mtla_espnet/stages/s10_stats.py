"""Stage 10: collect the shapes of the data and the statistics of its features."""

import functools
import shlex
from pathlib import Path

from mtla_espnet.data.kaldi.tables import read_table
from mtla_espnet.files import write_text
from mtla_espnet.jobs.marks import Part
from mtla_espnet.recipe.espnet_arguments import (
    common_arguments,
    frontend_files,
    training_inputs,
    training_sets,
)
from mtla_espnet.recipe.recipe import Recipe
from mtla_espnet.recipe.tokens import check_token_list, text_inputs
from mtla_espnet.stages.shared.statistics import collect_statistics
from mtla_espnet.yaml_files import dump_yaml

TITLE = "Collect statistics"
# What of a training configuration the statistics depend on: experiments that differ
# elsewhere share them.
_RELEVANT = ("frontend", "frontend_conf", "input_size", "preprocessor", "preprocessor_conf")


def parts(recipe: Recipe) -> list[Part]:
    """One part."""
    config = recipe.train_config
    files = [name for text in recipe.texts for name in (f"{text.name}_shape", text.shape_file)]
    if recipe.task.speech:
        files.insert(0, "speech_shape")
    extracts = _extracts_features(config)
    relevant = {name: config[name] for name in _RELEVANT if name in config}
    if not extracts:
        relevant["extract_feats_in_collect_stats"] = False
    return [
        Part(
            directory=recipe.paths.stats_dir,
            options={"token_type": recipe.tokens.token_type, "config": relevant},
            inputs=training_inputs(recipe) | text_inputs(recipe),
            watched=frontend_files(recipe),
            outputs=[
                *(
                    recipe.paths.stats_dir / mode / name
                    for mode in ("train", "valid")
                    for name in files
                ),
                *([recipe.paths.feature_statistics] if extracts else []),
            ],
        )
    ]


def _extracts_features(config: dict) -> bool:
    """Tell whether ESPnet computes features here: a slow front end may be spared it."""
    return (config.get("model_conf") or {}).get("extract_feats_in_collect_stats", True)


def commands(recipe: Recipe, part: Part) -> list[str]:
    """Return the command of each job, with JOB for its number."""
    words = [recipe.task.program, *_arguments(recipe, part.directory / "logdir", "JOB")]
    return [shlex.join(words)]


def run(recipe: Recipe, part: Part) -> None:
    """Collect in nj jobs, and add their results up.

    Raises:
        UserError: a token list was not made of the training text.
        JobFailed: ESPnet's program failed.
    """
    for text in recipe.texts:
        if not text.kind.words:
            check_token_list(recipe, text, training_sets(recipe)["train"] / text.table)
    table = recipe.texts[0].table
    keys = {mode: list(read_table(path / table)) for mode, path in training_sets(recipe).items()}
    arguments = functools.partial(_arguments, recipe)
    program = recipe.task.program
    if recipe.frontend_overlay:
        write_text(_config(recipe), dump_yaml(recipe.laid_config))
    collect_statistics(recipe, part.directory, program, keys, arguments, recipe.texts)


def _config(recipe: Recipe) -> Path | None:
    """Return the configuration to collect by: of what is laid over it, a front end matters."""
    return (
        recipe.paths.stats_dir / "train.yaml"
        if recipe.frontend_overlay
        else recipe.paths.train_config
    )


def _arguments(recipe: Recipe, log_dir: Path, job: str) -> list[str]:
    config = _config(recipe)
    return [
        *("--collect_stats", "true"),
        *common_arguments(recipe),
        *("--train_shape_file", str(log_dir / f"train.{job}.scp")),
        *("--valid_shape_file", str(log_dir / f"valid.{job}.scp")),
        *("--output_dir", str(log_dir / f"stats.{job}")),
        *("--num_workers", "0"),
        *(["--config", str(config)] if config else []),
        *shlex.split(recipe.model_option("args")),
    ]
