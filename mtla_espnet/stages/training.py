"""What the trainings of all models share: threads, GPUs, logs, and what an old one left."""

import os
import shlex
import shutil
from pathlib import Path

from mtla_espnet.stages.espnet_arguments import run_espnet_program
from mtla_espnet.stages.log import job_log, say
from mtla_espnet.stages.recipe import Recipe
from mtla_espnet.stages.training_progress import TrainingProgress

# Settings that may change between the beginning of a training and its end.
MAY_CHANGE = frozenset(
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
_FILES = ("*.pth", "training.json", "train.log", "config.yaml")
_DIRECTORIES = ("images", "att_ws", "tensorboard")


def gpu_arguments(recipe: Recipe) -> list[str]:
    """Return what ESPnet's training is told of GPUs."""
    ngpu = number_of_gpus(recipe)
    return ["--ngpu", str(ngpu), "--multiprocessing_distributed", str(ngpu > 1).lower()]


def number_of_gpus(recipe: Recipe) -> int:
    """Return `--ngpu`; where it is not given, 1 if CUDA is visible, else 0."""
    if recipe.options.ngpu is not None:
        return recipe.options.ngpu
    import torch  # here: a skipped stage need not wait for it

    return int(torch.cuda.is_available())


def run_training(recipe: Recipe, program: str, argv: list[str], directory: Path) -> None:
    """Train in this process, with all its threads on a CPU, and a line an epoch on the console.

    Args:
        recipe: the recipe; with its option `force`, an earlier training is removed.
        program: `asr_train` or `lm_train`.
        argv: its arguments.
        directory: of the training, also for its log.

    Raises:
        JobFailed: ESPnet's program failed.
    """
    if recipe.options.force:
        remove_products(directory)
    import torch  # here: a skipped stage need not wait for it

    ngpu = number_of_gpus(recipe)
    if recipe.options.ngpu is None:
        say(f"--ngpu {ngpu}: CUDA is {'visible' if ngpu else 'not visible'}")
    if not ngpu and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    log = directory / "train.log"
    say(f"The log is {log}")
    command = shlex.join([program, *argv])
    with job_log(log, command, append=True) as console, TrainingProgress(console):
        run_espnet_program(program, argv)


def remove_products(directory: Path) -> None:
    """Remove what an earlier training left."""
    for pattern in _FILES:
        for path in directory.glob(pattern):
            path.unlink()
    for name in _DIRECTORIES:
        shutil.rmtree(directory / name, ignore_errors=True)
