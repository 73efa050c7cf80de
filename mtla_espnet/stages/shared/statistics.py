"""ESPnet's collection of statistics in jobs: what stages 6 and 10 share."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mtla_espnet.data.kaldi.tables import read_table, write_table
from mtla_espnet.directories import replace_directory, scratch_directory
from mtla_espnet.files import atomic_path, write_text
from mtla_espnet.jobs.fan_out import number_of_shards, on_cluster
from mtla_espnet.jobs.log import job_log
from mtla_espnet.jobs.numbered import run_numbered_jobs, split_keys
from mtla_espnet.recipe.espnet_arguments import load_espnet, run_espnet_program
from mtla_espnet.recipe.recipe import Recipe
from mtla_espnet.recipe.texts import Text

# A block is summed on its own, and belongs to one job. It does not depend on the number of
# jobs; a small set has small ones, so that there is something for every job.
_MOST_IN_A_BLOCK = 16
_BLOCKS_OF_A_SMALL_SET = 64


def collect_statistics(
    recipe: Recipe,
    directory: Path,
    program: str,
    keys: Mapping[str, Sequence[str]],
    arguments: Callable[[Path, str], list[str]],
    texts: list[Text],
) -> None:
    """Run an ESPnet training program's collection of statistics in nj jobs, and add them up.

    What is written does not depend on nj.

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
    if not on_cluster():
        load_espnet()  # once: the jobs are forked children
    sizes = {mode: block_size(len(names)) for mode, names in keys.items()}
    nj = number_of_shards(recipe.options.nj)
    shards = {mode: split_blocks(list(keys[mode]), nj, sizes[mode]) for mode in keys}
    n_jobs = min(map(len, shards.values()))
    for mode in keys:
        shards[mode] = split_blocks(list(keys[mode]), n_jobs, sizes[mode])
        for number, shard in enumerate(shards[mode], 1):
            write_table(log_dir / f"{mode}.{number}.scp", {key: key for key in shard})
    # The last words win: a batch is a block.
    batches = ["--batch_size", str(sizes["train"]), "--valid_batch_size", str(sizes["valid"])]

    def collect(number: int) -> Path:
        from mtla_espnet.tasks.statistics import sums_in_blocks  # here: a worker loads it

        made = log_dir / f"stats.{number}"
        argv = [*arguments(log_dir, str(number)), *batches]
        with job_log(log_dir / f"stats.{number}.log", shlex.join([program, *argv])):
            # ESPnet's files do not appear whole, and a job may run twice at once.
            with scratch_directory(log_dir) as scratch, sums_in_blocks():
                run_espnet_program(program, [*argv, "--output_dir", str(scratch / made.name)])
                replace_directory(scratch / made.name, made)
        return made

    jobs = run_numbered_jobs(collect, n_jobs, log_dir / "stats.*.log", "statistics")
    for mode in keys:
        add_statistics([job / mode for job in jobs], directory / mode, texts)


def block_size(n_keys: int) -> int:
    """Return how many utterances a block has.

    Example:
        >>> [block_size(n) for n in (1, 100, 400, 100_000)]
        [1, 1, 6, 16]
    """
    return max(1, min(_MOST_IN_A_BLOCK, n_keys // _BLOCKS_OF_A_SMALL_SET))


def split_blocks(keys: list[str], n_parts: int, size: int) -> list[list[str]]:
    """Split into at most `n_parts` parts of whole blocks; only the last block may be short.

    Example:
        >>> split_blocks(["a", "b", "c", "d", "e"], 2, 2)
        [['a', 'b', 'c', 'd'], ['e']]
    """
    starts = [str(start) for start in range(0, len(keys), size)]
    parts = split_keys(starts, max(1, min(n_parts, len(starts))))
    return [keys[int(part[0]) : int(part[-1]) + size] for part in parts]


def add_statistics(jobs: list[Path], output: Path, texts: list[Text]) -> None:
    """Join the shapes of jobs and add up their sums; beside shapes of texts, their vocabulary.

    Args:
        jobs: directories of one mode of the jobs, in the order of the data.
        output: directory of the mode.
        texts: whose shapes there are.
    """
    import numpy as np  # here: a skipped stage need not wait for it

    from mtla_espnet.tasks.statistics import add_blocks

    for name in sorted(path.name for path in jobs[0].glob("*_shape")):
        shapes: dict[str, str] = {}
        for job in jobs:
            shapes |= read_table(job / name)
        write_table(output / name, shapes)
    for name, sums in add_blocks(jobs).items():
        with atomic_path(output / f"{name}_stats.npz") as path, open(path, "wb") as stream:
            np.savez(stream, **sums)
    for text in texts:
        n_tokens = len(text.tokens.token_list.read_text(encoding="utf-8").splitlines())
        shapes = read_table(output / f"{text.name}_shape")
        lines = [f"{key} {shape},{n_tokens}\n" for key, shape in shapes.items()]
        write_text(output / text.shape_file, "".join(lines))
