"""Stage 11: train the model."""

import shlex
from collections.abc import Collection, Mapping
from pathlib import Path

from mtla_espnet.files import write_text
from mtla_espnet.jobs.marks import Part
from mtla_espnet.jobs.processes import training_place
from mtla_espnet.recipe.espnet_arguments import (
    common_arguments,
    frontend_files,
    kept_models_arguments,
    training_inputs,
)
from mtla_espnet.recipe.recipe import Recipe
from mtla_espnet.recipe.tokens import text_inputs
from mtla_espnet.stages.shared.decoding import keep_beside_model
from mtla_espnet.stages.shared.limits import leave_out, limits_dir
from mtla_espnet.stages.shared.splits import in_splits
from mtla_espnet.stages.shared.training import (
    MAY_CHANGE,
    goes_on_from,
    gpu_arguments,
    require_a_share_each,
    run_training,
    save_arguments,
)
from mtla_espnet.yaml_files import dump_yaml

TITLE = "Train"

# By which kernel a layer computes the same function: experiments made without the key stay done.
_NO_MATTER = frozenset(["option.config.encoder_conf.use_sdpa"])


def parts(recipe: Recipe) -> list[Part]:
    """One part."""
    statistics = [
        recipe.paths.stats_dir / mode / name
        for mode in ("train", "valid")
        for name in _shapes(recipe)
    ]
    facts = {"token_type": recipe.tokens.token_type, "config": recipe.train_config}
    if recipe.task.speech:
        facts["fs"] = recipe.rate
    if recipe.model_splits > 1:
        facts["num_splits"] = recipe.model_splits
    return [
        Part(
            directory=recipe.paths.exp_dir,
            options=facts,
            inputs={path: 10 for path in statistics}
            | recipe.normalization
            | training_inputs(recipe)
            | text_inputs(recipe)
            | {recipe.root / path.split(":")[0]: 0 for path in _pretrained(recipe)},
            watched=frontend_files(recipe),
            outputs=[
                recipe.paths.exp_dir / "config.yaml",
                recipe.paths.exp_dir / "checkpoint.pth",
                recipe.paths.model_file,
            ],
            goes_on_from=goes_on_from(recipe.paths.exp_dir),
            may_change=MAY_CHANGE,
            no_matter=_NO_MATTER,
        )
    ]


def _shapes(recipe: Recipe) -> list[str]:
    """Return the files of lengths; ESPnet makes batches of equal lengths by the first."""
    shapes = [text.shape_file for text in recipe.texts]
    # the input, which is the longer: batches of it have little padding
    return ["speech_shape", *shapes] if recipe.task.speech else shapes[::-1]


def _pretrained(recipe: Recipe) -> list[str]:
    """Return the models to start from, as ESPnet's --init_param: `file[:source[:target]]`."""
    names = ("pretrained_model", "pretrained_asr")
    return [word for name in names for word in getattr(recipe.options, name, "").split()]


def commands(recipe: Recipe, part: Part) -> list[str]:
    """Return the command that trains."""
    argv = in_splits(_arguments(recipe, part.directory), part.directory, recipe.model_splits, False)
    return [shlex.join([recipe.task.program, *argv])]


def run(recipe: Recipe, part: Part) -> None:
    """Train, or go on from the last checkpoint.

    Raises:
        UserError: the model cannot be trained on too many of the utterances, or more processes
            train than there are utterances.
        JobFailed: ESPnet's program failed.
    """
    if _is_merged(recipe):
        write_text(_config(recipe), dump_yaml(recipe.laid_config))
    exp_dir = part.directory
    left_out = leave_out(recipe, _arguments(recipe, exp_dir), _shapes(recipe), exp_dir)
    directories = _shape_directories(recipe, exp_dir, left_out)
    require_a_share_each(recipe, [path / _shapes(recipe)[0] for path in directories.values()])
    is_first = training_place(recipe.options).rank == 0
    argv = in_splits(
        _arguments(recipe, exp_dir, left_out),
        exp_dir,
        recipe.model_splits,
        is_first,
        left_out["train"],
    )
    run_training(recipe, recipe.task.program, argv, exp_dir)
    if is_first:
        keep_beside_model(recipe)


def _is_merged(recipe: Recipe) -> bool:
    """Say whether the configuration is made of more than the file that is given."""
    overlay = recipe.attention_overlay or recipe.frontend_overlay
    return bool(overlay or recipe.fairseq.options)


def _config(recipe: Recipe) -> Path | None:
    return recipe.paths.exp_dir / "train.yaml" if _is_merged(recipe) else recipe.paths.train_config


def _shape_directories(
    recipe: Recipe, exp_dir: Path, left_out: Mapping[str, Collection[str]] | None
) -> dict[str, Path]:
    """Return train and valid -> where the shapes of its utterances are that are not left out."""
    return {
        mode: limits_dir(exp_dir, mode)
        if left_out and left_out[mode]
        else recipe.paths.stats_dir / mode
        for mode in ("train", "valid")
    }


def _arguments(
    recipe: Recipe, exp_dir: Path, left_out: Mapping[str, Collection[str]] | None = None
) -> list[str]:
    options = recipe.options
    config = _config(recipe)
    argv = [
        *common_arguments(recipe),
        *("--resume", "true"),
        *("--ignore_init_mismatch", str(options.ignore_init_mismatch).lower()),
        *("--output_dir", str(exp_dir)),
        *gpu_arguments(recipe),
        *save_arguments(recipe),
    ]
    if recipe.speech:
        fold_length = recipe.model_option("speech_fold_length") * recipe.speech.unit_of_fold
        argv += ["--fold_length", str(fold_length)]
    for _ in recipe.texts:
        argv += ["--fold_length", str(recipe.model_option("text_fold_length"))]
    for mode, directory in _shape_directories(recipe, exp_dir, left_out).items():
        for name in _shapes(recipe):
            argv += [f"--{mode}_shape_file", str(directory / name)]
    for path in recipe.normalization:
        argv += ["--normalize", "global_mvn", "--normalize_conf", f"stats_file={path}"]
    pretrained = _pretrained(recipe)
    if pretrained:
        argv += ["--init_param", *(str(recipe.root / path) for path in pretrained)]
    if config:
        argv += ["--config", str(config)]
    argv += shlex.split(recipe.model_option("args"))
    return argv + kept_models_arguments(recipe.train_config)
