"""Cut the work of a stage into jobs, and run them side by side with a log each."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mtla_espnet.jobs.log import JobFailed
from mtla_espnet.jobs.parallel import JobKilled, run_jobs


def split_keys(keys: list[str], n_parts: int) -> list[list[str]]:
    """Split into parts of consecutive keys whose sizes differ by one at most.

    Example:
        >>> split_keys(["a", "b", "c"], 2)
        [['a', 'b'], ['c']]
    """
    size, larger = divmod(len(keys), n_parts)
    starts = [number * size + min(number, larger) for number in range(n_parts + 1)]
    return [keys[begin:end] for begin, end in zip(starts, starts[1:], strict=False)]


def run_numbered_jobs(
    function: Callable[[int], Any], n_jobs: int, logs: Path, label: str | None
) -> list[Any]:
    """Call `function(number)` for 1 ... n_jobs, at most one a core at once.

    Args:
        function: a job; it writes its log by `job_log`.
        n_jobs: how many; one alone runs in this process, with all its threads.
        logs: pattern of the log files, for the message.
        label: of a progress bar; None: no bar.

    Returns:
        The results in order.

    Raises:
        JobFailed: a job failed or was killed; says how many there were, and its log.
        UserError: a job raised one.
    """
    workers = min(n_jobs, os.cpu_count() or 1)
    try:
        return run_jobs(function, range(1, n_jobs + 1), workers, progress=label)
    except JobFailed as failure:
        raise failure.among(n_jobs, logs) from None
    except JobKilled as killed:
        raise JobFailed(
            f"run.pl: 1 / {n_jobs} failed, log is in {logs}: {killed}: the same command goes on "
            "from here; where memory is short, give it fewer jobs or smaller batches"
        ) from None
