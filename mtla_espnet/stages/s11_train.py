"""Stage 11: train the model."""

import shlex
from pathlib import Path

from mtla_espnet.config import dump_yaml
from mtla_espnet.files import write_text
from mtla_espnet.stages.espnet_arguments import common_arguments, tables_of
from mtla_espnet.stages.layout import used_options
from mtla_espnet.stages.marks import Part
from mtla_espnet.stages.recipe import Recipe
from mtla_espnet.stages.tokens import text_inputs, text_options
from mtla_espnet.stages.training import MAY_CHANGE, gpu_arguments, run_training

TITLE = "Train"


def parts(recipe: Recipe) -> list[Part]:
    """One part."""
    layout, options = recipe.layout, recipe.options
    names = ("speech_shape", f"text_shape.{options.token_type}")
    statistics = [layout.stats_dir / mode / name for mode in ("train", "valid") for name in names]
    if options.feats_normalize == "global_mvn":
        statistics.append(layout.feature_statistics)
    sets = (layout.dump_set_dir(layout.train_set), layout.dump_set_dir(layout.valid_set))
    pretrained = [layout.root / options.pretrained_model] if options.pretrained_model else []
    return [
        Part(
            directory=layout.exp_dir,
            options=text_options(options)
            | used_options(
                options,
                "feats_normalize",
                "ignore_init_mismatch",
                "asr_speech_fold_length",
                "asr_text_fold_length",
            )
            | {"config": recipe.train_config, "fs": layout.rate},
            inputs={path: 10 for path in statistics}
            | {layout.token_list: 5}
            | text_inputs(layout)
            | {table: 4 for set_dir in sets for table in tables_of(set_dir)}
            | {path: 0 for path in pretrained},
            outputs=[layout.exp_dir / "config.yaml", layout.exp_dir / "checkpoint.pth"],
            goes_on_from=layout.exp_dir / "checkpoint.pth",
            may_change=MAY_CHANGE,
        )
    ]


def commands(recipe: Recipe, part: Part) -> list[str]:
    """Return the command that trains."""
    return [shlex.join(["asr_train", *_arguments(recipe, part.directory)])]


def run(recipe: Recipe, part: Part) -> None:
    """Train, or go on from the last checkpoint.

    Raises:
        JobFailed: ESPnet's program failed.
    """
    if recipe.layout.attention_overlay:
        write_text(_config(recipe), dump_yaml(recipe.laid_config))
    run_training(recipe, "asr_train", _arguments(recipe, part.directory), part.directory)


def _config(recipe: Recipe) -> Path | None:
    layout = recipe.layout
    return layout.exp_dir / "train.yaml" if layout.attention_overlay else layout.train_config


def _arguments(recipe: Recipe, exp_dir: Path) -> list[str]:
    layout, options = recipe.layout, recipe.options
    config = _config(recipe)
    train_dir = layout.dump_set_dir(layout.train_set)
    valid_dir = layout.dump_set_dir(layout.valid_set)
    argv = [
        *common_arguments(recipe, train_dir, valid_dir),
        *("--resume", "true"),
        *("--ignore_init_mismatch", str(options.ignore_init_mismatch).lower()),
        *("--output_dir", str(exp_dir)),
        *gpu_arguments(recipe),
        # Audio is counted in samples, a fold length in frames of 100 of them.
        *("--fold_length", str(options.asr_speech_fold_length * 100)),
        *("--fold_length", str(options.asr_text_fold_length)),
    ]
    for mode in ("train", "valid"):
        for name in ("speech_shape", f"text_shape.{options.token_type}"):
            argv += [f"--{mode}_shape_file", str(layout.stats_dir / mode / name)]
    if options.feats_normalize == "global_mvn":
        argv += ["--normalize", "global_mvn"]
        argv += ["--normalize_conf", f"stats_file={layout.feature_statistics}"]
    if options.pretrained_model:
        argv += ["--init_param", str(layout.root / options.pretrained_model)]
    if config:
        argv += ["--config", str(config)]
    return argv + shlex.split(options.asr_args)
