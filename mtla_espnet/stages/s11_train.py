"""Stage 11: train the model."""

import os
import shlex
import shutil
from pathlib import Path

from mtla_espnet.config import dump_yaml
from mtla_espnet.files import write_text
from mtla_espnet.stages.espnet_arguments import (
    common_arguments,
    run_training_program,
    tables_of,
)
from mtla_espnet.stages.layout import used_options
from mtla_espnet.stages.log import job_log, say
from mtla_espnet.stages.marks import Part
from mtla_espnet.stages.recipe import Recipe
from mtla_espnet.stages.training_progress import TrainingProgress

TITLE = "Train"
# Settings that may change between the beginning of a training and its end.
_MAY_CHANGE = frozenset(
    f"option.config.{name}"
    for name in (
        "max_epoch",
        "patience",
        "keep_nbest_models",
        "log_interval",
        "num_workers",
        "ngpu",
    )
)
# What an earlier training leaves in its directory.
_PRODUCTS = ("*.pth", "training.json", "train.log", "config.yaml", "images", "tensorboard")


def parts(recipe: Recipe) -> list[Part]:
    """One part."""
    layout, options = recipe.layout, recipe.options
    names = ("speech_shape", f"text_shape.{options.token_type}")
    statistics = [layout.stats_dir / mode / name for mode in ("train", "valid") for name in names]
    if options.feats_normalize == "global_mvn":
        statistics.append(_feature_statistics(recipe))
    sets = (layout.dump_set_dir(layout.train_set), layout.dump_set_dir(layout.valid_set))
    pretrained = [layout.root / options.pretrained_model] if options.pretrained_model else []
    return [
        Part(
            directory=layout.exp_dir,
            options=used_options(
                options,
                "feats_normalize",
                "token_type",
                "cleaner",
                "ignore_init_mismatch",
                "asr_speech_fold_length",
                "asr_text_fold_length",
            )
            | {"config": recipe.train_config, "fs": layout.rate},
            inputs={path: 10 for path in statistics}
            | {layout.token_list: 5}
            | {table: 4 for set_dir in sets for table in tables_of(set_dir)}
            | {path: 0 for path in pretrained},
            outputs=[layout.exp_dir / "config.yaml", layout.exp_dir / "checkpoint.pth"],
            goes_on_from=layout.exp_dir / "checkpoint.pth",
            may_change=_MAY_CHANGE,
        )
    ]


def _feature_statistics(recipe: Recipe) -> Path:
    return recipe.layout.stats_dir / "train/feats_stats.npz"


def run(recipe: Recipe, part: Part) -> None:
    """Train, or go on from the last checkpoint.

    Raises:
        JobFailed: ESPnet's program failed.
    """
    if recipe.options.force:
        _remove_products(part.directory)
    config = recipe.layout.train_config
    if recipe.layout.attention_overlay:
        config = part.directory / "train.yaml"
        write_text(config, dump_yaml(recipe.laid_config))
    import torch  # here: a skipped stage need not wait for it

    ngpu = recipe.options.ngpu
    if ngpu is None:
        ngpu = int(torch.cuda.is_available())
        say(f"--ngpu {ngpu}: CUDA is {'visible' if ngpu else 'not visible'}")
    if not ngpu and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    argv = _arguments(recipe, part.directory, config, ngpu)
    command = shlex.join(["asr_train", *argv])
    log = part.directory / "train.log"
    say(f"The log is {log}")
    with job_log(log, command, append=True) as console, TrainingProgress(console):
        run_training_program(argv)


def _arguments(recipe: Recipe, exp_dir: Path, config: Path | None, ngpu: int) -> list[str]:
    layout, options = recipe.layout, recipe.options
    train_dir = layout.dump_set_dir(layout.train_set)
    valid_dir = layout.dump_set_dir(layout.valid_set)
    argv = [
        *common_arguments(recipe, train_dir, valid_dir),
        *("--resume", "true"),
        *("--ignore_init_mismatch", str(options.ignore_init_mismatch).lower()),
        *("--output_dir", str(exp_dir)),
        *("--ngpu", str(ngpu)),
        *("--multiprocessing_distributed", str(ngpu > 1).lower()),
        # Audio is counted in samples, a fold length in frames of 100 of them.
        *("--fold_length", str(options.asr_speech_fold_length * 100)),
        *("--fold_length", str(options.asr_text_fold_length)),
    ]
    for mode in ("train", "valid"):
        for name in ("speech_shape", f"text_shape.{options.token_type}"):
            argv += [f"--{mode}_shape_file", str(layout.stats_dir / mode / name)]
    if options.feats_normalize == "global_mvn":
        argv += ["--normalize", "global_mvn"]
        argv += ["--normalize_conf", f"stats_file={_feature_statistics(recipe)}"]
    if options.pretrained_model:
        argv += ["--init_param", str(layout.root / options.pretrained_model)]
    if config:
        argv += ["--config", str(config)]
    return argv + shlex.split(options.asr_args)


def _remove_products(exp_dir: Path) -> None:
    for pattern in _PRODUCTS:
        for path in exp_dir.glob(pattern):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
