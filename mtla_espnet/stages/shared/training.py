"""What the trainings of all models share: threads, GPUs, logs, and what an old one left."""

import contextlib
import multiprocessing
import os
import shlex
import shutil
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path

from mtla_espnet.data.kaldi.tables import read_table
from mtla_espnet.files import UserError
from mtla_espnet.jobs.log import JobFailed, job_log, say
from mtla_espnet.jobs.parallel import how_ended, stop_processes
from mtla_espnet.jobs.processes import number_of_gpus, training_place
from mtla_espnet.jobs.training_progress import TrainingProgress
from mtla_espnet.recipe.espnet_arguments import run_espnet_program
from mtla_espnet.recipe.recipe import Recipe

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
        "save_interval_updates",
        "train_graphs",
    )
)
# What an earlier training leaves in its directory.
_FILES = ("*.pth", "training.json", "train*.log", "config.yaml")
# What gloo and NCCL say when another process is gone.
_LOST = ("closed by peer", "reset by peer", "Broken pipe", "NCCL", "ProcessGroup", "timed out")
_DIRECTORIES = ("images", "att_ws", "tensorboard")


def goes_on_from(directory: Path) -> Path:
    """Return the file that a training goes on from, in its first epoch one inside of it."""
    checkpoint, midway = directory / "checkpoint.pth", directory / "midway.pth"
    return midway if midway.exists() and not checkpoint.exists() else checkpoint


def save_arguments(recipe: Recipe) -> list[str]:
    """Return how often ESPnet's training saves inside an epoch; nothing: as its file says."""
    updates = recipe.options.save_interval_updates
    return ["--save_interval_updates", str(updates)] if updates else []


def gpu_arguments(recipe: Recipe) -> list[str]:
    """Return what ESPnet's training is told of GPUs and of the processes that train together."""
    return training_place(recipe.options).arguments(number_of_gpus(recipe.options))


def require_a_share_each(recipe: Recipe, shape_files: Iterable[Path]) -> None:
    """Check that a batch of a whole set can be split over the processes that train.

    Args:
        recipe: its options say how many these are.
        shape_files: one of each set.

    Raises:
        UserError: a set has fewer utterances than there are processes; ESPnet's would end in the
            middle of their start.
    """
    processes = training_place(recipe.options).processes(number_of_gpus(recipe.options))
    for path in shape_files:
        count = len(read_table(path))
        if count < processes:
            raise UserError(
                f"{path}: {count} utterances cannot be split over {processes} processes: "
                "train on fewer GPUs"
            )


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
    place = training_place(recipe.options)
    if recipe.options.force and place.rank == 0:
        remove_products(directory)
    import torch  # here: a skipped stage need not wait for it

    ngpu = number_of_gpus(recipe.options)
    if recipe.options.ngpu is None:
        say(f"--ngpu {ngpu}: CUDA is {'visible' if ngpu else 'not visible'}")
    if not ngpu and place.size == 1 and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    log = directory / place.log_name
    say(f"The log is {log}")
    command = shlex.join([program, *argv])
    unit, share = _unit(recipe, program)
    # Each process reports its own part of a batch; the parts are about equal.
    share *= place.processes(ngpu)
    with (
        job_log(log, command, append=True) as console,
        TrainingProgress(console, unit, share) as progress,
    ):
        # A spawned process logs to the file that it inherits, not to a handler of this one.
        follow = progress.following(log) if ngpu > 1 else contextlib.nullcontext()
        with follow, lost_processes(log, max(ngpu, place.size)):
            run_espnet_program(program, argv)


def _unit(recipe: Recipe, program: str) -> tuple[str, float]:
    """Return what a training reads, in words, and how much of it an update reads an input."""
    is_lm = program == "lm_train"
    accumulated = (recipe.lm_config if is_lm else recipe.train_config).get("accum_grad", 1)
    if is_lm or not recipe.task.speech:
        return "tokens", accumulated
    if recipe.rate and recipe.feats_type == "raw":
        return "s of audio", accumulated / recipe.rate
    return "frames", accumulated


@contextlib.contextmanager
def lost_processes(log: Path, size: int) -> Iterator[None]:
    """Tell the end of one of several processes in one line, and leave none of them running.

    Raises:
        JobFailed: a spawned process ended before its work was done, or one elsewhere did.
    """
    from torch.distributed import destroy_process_group, is_initialized
    from torch.multiprocessing import ProcessExitedException

    try:
        yield
    except ProcessExitedException as error:
        who = f"training process {error.error_index + 1} of {size}"
        raise _lost(f"{who} {how_ended(error.exit_code)}", log) from None
    except RuntimeError as error:
        if size == 1 or not any(words in str(error) for words in _LOST):
            raise
        traceback.print_exc()  # to the log
        raise _lost(f"another of the {size} training processes is gone", log) from None
    finally:
        # Not the forked ones: those that load data belong to a loader, which would miss them.
        spawned = multiprocessing.context.SpawnProcess
        stop_processes(
            [each for each in multiprocessing.active_children() if isinstance(each, spawned)]
        )
        if is_initialized():
            destroy_process_group()


def _lost(what: str, log: Path) -> JobFailed:
    there = (log.parent / "checkpoint.pth").exists()
    after = "the same command goes on from the last checkpoint" if there else "run it again"
    return JobFailed(f"run.pl: job failed, log is in {log}: {what}; {after}", log)


def remove_products(directory: Path) -> None:
    """Remove what an earlier training left."""
    for pattern in _FILES:
        for path in directory.glob(pattern):
            path.unlink()
    for name in _DIRECTORIES:
        shutil.rmtree(directory / name, ignore_errors=True)
