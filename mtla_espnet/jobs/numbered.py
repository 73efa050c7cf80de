"""Cut the work of a stage into jobs, and run them side by side with a log each."""

import heapq
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mtla_espnet.jobs.fan_out import fan_out
from mtla_espnet.jobs.log import JobFailed
from mtla_espnet.jobs.parallel import JobKilled, run_on_devices


def split_keys(keys: list[str], n_parts: int) -> list[list[str]]:
    """Split into parts of consecutive keys whose sizes differ by one at most.

    Example:
        >>> split_keys(["a", "b", "c"], 2)
        [['a', 'b'], ['c']]
    """
    size, larger = divmod(len(keys), n_parts)
    starts = [number * size + min(number, larger) for number in range(n_parts + 1)]
    return [keys[begin:end] for begin, end in zip(starts, starts[1:], strict=False)]


def split_by_length[Key](lengths: Mapping[Key, int], n_parts: int) -> list[list[Key]]:
    """Split keys into parts of about the same total length, each in the order of the keys.

    The longest goes first, to the part that has least (Graham 1969: at most 4/3 of the best).

    Args:
        lengths: key -> length.
        n_parts: at most the number of keys.

    Example:
        >>> split_by_length({"a": 1, "b": 9, "c": 4, "d": 5}, 2)
        [['a', 'b'], ['c', 'd']]
    """
    order = {key: place for place, key in enumerate(lengths)}
    parts: list[list[Key]] = [[] for _ in range(n_parts)]
    least = [(0, 0, number) for number in range(n_parts)]  # length, keys, part
    for key in sorted(lengths, key=lambda key: -lengths[key]):
        total, count, number = least[0]
        parts[number].append(key)
        heapq.heapreplace(least, (total + lengths[key], count + 1, number))
    return [sorted(part, key=order.get) for part in parts]


def run_numbered_jobs(
    function: Callable[[int], Any],
    n_jobs: int,
    logs: Path,
    label: str | None,
    devices: Sequence[str] = (),
) -> list[Any]:
    """Call `function(number)` for 1 ... n_jobs, at most one a core at once.

    Args:
        function: a job; it writes its log by `job_log`.
        n_jobs: how many; one alone runs in this process, with all its threads.
        logs: pattern of the log files, for the message.
        label: of a progress bar; None: no bar.
        devices: the GPU of each process, see `mtla_espnet.jobs.parallel.run_on_devices`, which
            runs them then; empty: they run by `fan_out`.

    Returns:
        The results in order.

    Raises:
        JobFailed: a job failed or was killed; says how many there were, and its log.
        UserError: a job raised one.
    """
    try:
        if devices:
            return run_on_devices(function, range(1, n_jobs + 1), devices, label)
        return fan_out(function, range(1, n_jobs + 1), n_jobs, label)
    except JobFailed as failure:
        raise failure.among(n_jobs, logs) from None
    except JobKilled as killed:
        raise JobFailed(
            f"run.pl: 1 / {n_jobs} failed, log is in {logs}: {killed}: the same command goes on "
            "from here; where memory is short, give it fewer jobs or smaller batches"
        ) from None
