"""ESPnet's collection of statistics in jobs: what stages 6 and 10 share."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mtla_espnet.data.tables import write_table
from mtla_espnet.stages.espnet_arguments import (
    aggregate_statistics,
    load_espnet,
    run_espnet_program,
)
from mtla_espnet.stages.jobs import run_numbered_jobs, split_keys
from mtla_espnet.stages.layout import Text
from mtla_espnet.stages.log import job_log
from mtla_espnet.stages.recipe import Recipe


def collect_statistics(
    recipe: Recipe,
    directory: Path,
    program: str,
    keys: Mapping[str, Sequence[str]],
    arguments: Callable[[Path, str], list[str]],
    texts: list[Text],
) -> None:
    """Run an ESPnet training program's collection of statistics in nj jobs, and add them up.

    Args:
        recipe: for nj.
        directory: where the statistics go; `logdir` in it is the jobs'.
        program: such as `asr_train`.
        keys: ids by mode, train and valid.
        arguments: of the program, from log directory and job number.
        texts: of the data.

    Raises:
        JobFailed: ESPnet's program failed.
    """
    log_dir = directory / "logdir"
    load_espnet()  # once: the jobs are forked children
    n_jobs = max(1, min(recipe.options.nj, *map(len, keys.values())))
    for mode, names in keys.items():
        for number, shard in enumerate(split_keys(list(names), n_jobs), 1):
            write_table(log_dir / f"{mode}.{number}.scp", {key: key for key in shard})

    def collect(number: int) -> Path:
        argv = arguments(log_dir, str(number))
        with job_log(log_dir / f"stats.{number}.log", shlex.join([program, *argv])):
            run_espnet_program(program, argv)
        return log_dir / f"stats.{number}"

    outputs = run_numbered_jobs(collect, n_jobs, log_dir / "stats.*.log", "statistics")
    aggregate_statistics(outputs, directory, texts)
