"""Where the jobs of a stage run: in forks of this process, or on a cluster where one is chosen.

Nothing of a cluster is imported here, so that a local run pays nothing for it.
"""

import contextlib
import contextvars
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from mtla_espnet.jobs.parallel import run_jobs

_FEWEST_A_WORKER, _MOST_A_WORKER = 4, 8


class Engine(Protocol):
    """What runs jobs elsewhere, see `mtla_espnet.jobs.cluster`."""

    n_workers: int

    def run_jobs(
        self, function: Callable[[Any], Any], argument_list: Sequence[Any], progress: str | None
    ) -> list[Any]:
        """Call `function(argument)` for each argument; results, errors as `run_jobs` has them."""

    def close(self) -> None:
        """Give the workers back; the next jobs start new ones."""


_engine: contextvars.ContextVar[Engine | None] = contextvars.ContextVar("engine", default=None)
_memory_bytes: contextvars.ContextVar[int | None] = contextvars.ContextVar("memory", default=None)


@contextlib.contextmanager
def jobs_run_by(engine: Engine | None) -> Iterator[None]:
    """Let jobs that are started inside run by an engine; None: in forks."""
    token = _engine.set(engine)
    try:
        yield
    finally:
        _engine.reset(token)


def fan_out(
    function: Callable[[Any], Any],
    argument_list: Sequence[Any],
    n_workers: int,
    progress: str | None = None,
) -> list[Any]:
    """Call `function(argument)` for each argument, on the cluster where one is chosen.

    A job may then run twice at once, where a node is lost and comes back: it writes under
    temporary names, and what it renames is the same whichever copy comes last.

    Args:
        function: takes one argument; on a cluster it is pickled with what it refers to.
        argument_list: one entry a job.
        n_workers: jobs that run side by side on this machine, at most one a processor.
        progress: label of a progress bar; None: no bar.

    Returns:
        The results, in the order of `argument_list`.

    Raises:
        UserError: a job raised one, or the cluster gives no worker.
        JobKilled: a job was killed; on a cluster, with four workers.
        RuntimeError: it failed otherwise.
    """
    engine = _engine.get()
    if engine and argument_list:
        return engine.run_jobs(function, argument_list, progress)
    n_workers = max(1, min(n_workers, os.cpu_count() or 1))
    return run_jobs(function, argument_list, n_workers, progress)


def on_cluster() -> bool:
    """Say whether jobs run on a cluster."""
    return _engine.get() is not None


def number_of_shards(nj: int) -> int:
    """Return in how many jobs to cut work: `nj`, on a cluster four to eight a worker.

    A lost worker then costs a part of its share, and the slowest one is not waited for long.
    """
    engine = _engine.get()
    if engine is None:
        return nj
    fewest, most = (each * engine.n_workers for each in (_FEWEST_A_WORKER, _MOST_A_WORKER))
    return min(max(nj, fewest), most)


@contextlib.contextmanager
def memory_of_worker(size_bytes: int) -> Iterator[None]:
    """Say inside how much memory the worker that runs a job leaves to it."""
    token = _memory_bytes.set(size_bytes)
    try:
        yield
    finally:
        _memory_bytes.reset(token)


def worker_memory_bytes() -> int | None:
    """Return the memory that this job's worker leaves to it; None: it runs in no worker."""
    return _memory_bytes.get()
