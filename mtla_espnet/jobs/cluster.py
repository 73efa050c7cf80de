"""Jobs on a cluster: Dask's engines, configured by espnet3's keys.

Imported with `--parallel` alone. A shard is sent to a worker when one is free, so that a lost
worker is blamed on the shard that it ran. Dask does not replace a lost job: `scale` is called
again and again. Sources: documentation of dask.distributed and dask-jobqueue,
`espnet3/parallel/parallel.py`.
"""

import collections
import contextlib
import functools
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cloudpickle
import dask
from dask.distributed import (
    Client,
    KilledWorker,
    Status,
    get_worker,
    wait,
)

from mtla_espnet.directories import scratch_directory, without_leftovers
from mtla_espnet.files import UserError, while_wanted
from mtla_espnet.jobs.cluster_config import PROGRAMS, ClusterConfig, check_engine
from mtla_espnet.jobs.cluster_options import (
    PlainSettings,
    check_options,
    engine_options,
    settings_of_ssh,
    try_out,
)
from mtla_espnet.jobs.fan_out import memory_of_worker
from mtla_espnet.jobs.lock import held_lock, is_held_by
from mtla_espnet.jobs.log import say
from mtla_espnet.jobs.parallel import JobKilled, outcome_of, progress_bar, value_of

_LIVES = 4  # of a shard
_SCALE_EVERY_S = 5.0
_TICK_S = 0.5
# One job at a time in a worker: a job has a log that takes all that its process prints. A shard
# is counted dead here, not by Dask, which also blames those that wait.
_DASK = {
    "distributed.scheduler.allowed-failures": 0,
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.logging.distributed": "warning",
    "distributed.scheduler.dashboard.bokeh-application.allow_websocket_origin": [],
}

# What has to be entered in a worker before a job, as it is in this process.
Surroundings = Sequence[Callable[[], contextlib.AbstractContextManager]]


class ClusterEngine:
    """Runs jobs on a cluster, which is started by the first of them and ended by `close`.

    Args:
        config: what the user's file says.
        place: directory that all machines see; keys and pickled jobs lie there while it runs,
            and the logs of the workers, in `cluster_logs`, stay.
        surroundings: context managers that jobs run inside, picklable.

    Raises:
        UserError: a package, a program or an option is wrong, see `check_engine`.
    """

    def __init__(self, config: ClusterConfig, place: Path, surroundings: Surroundings = ()):
        check_engine(config)
        self.config, self.n_workers = config, config.n_workers
        self._place, self._surroundings = place.absolute(), tuple(surroundings)
        self._logs = self._place / "cluster_logs"
        self._open = contextlib.ExitStack()
        self._client: Client | None = None
        self._private = Path()
        self._jobs: dict[str, str] = {}  # name of a worker -> number of its job
        self._told: set[str] = set()
        self._scaled_s = 0.0
        check_options(config)

    def __enter__(self) -> "ClusterEngine":
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def close(self) -> None:
        """Cancel the jobs of the workers, and remove the keys."""
        self._client = None
        self._open.close()

    def run_jobs(
        self, function: Callable[[Any], Any], argument_list: Sequence[Any], progress: str | None
    ) -> list[Any]:
        """Call `function(argument)` for each argument on the workers.

        Args:
            function: takes one argument; it and its result are pickled.
            argument_list: one entry a job.
            progress: label of a progress bar; None: no bar.

        Returns:
            The results, in the order of `argument_list`.

        Raises:
            UserError: a job raised one, or no worker starts.
            JobKilled: a job was lost with its worker four times.
            RuntimeError: it failed otherwise (its traceback).
        """
        self._start()
        work = self._private / f"jobs.{time.monotonic_ns()}"
        work.write_bytes(cloudpickle.dumps((function, self._surroundings)))
        number = len(argument_list)
        waiting = collections.deque(range(number))
        deaths: collections.Counter[int] = collections.Counter()
        results: list[Any] = [None] * number
        running: dict[Any, tuple[int, str]] = {}  # future -> index, address of its worker
        try:
            with progress_bar(progress, number) as advance:
                while waiting or running:
                    # A worker keeps a result until it is fetched: until then it gets no other
                    # job, which might kill it.
                    busy = {address for _, address in running.values()}
                    free = [address for address in self._workers() if address not in busy]
                    while waiting and free:
                        index, address = waiting.popleft(), free.pop()
                        arguments = (str(work), argument_list[index], os.getcwd(), held_lock())
                        future = self._client.submit(
                            run_in_worker,
                            *arguments,
                            pure=False,
                            workers=[address],
                            allow_other_workers=True,  # where it is gone by now
                            key=f"shard-{index}-{work.name}-{deaths[index]}",
                        )
                        running[future] = index, address
                    for future in self._ended(list(running)):
                        index, _ = running.pop(future)
                        error = future.exception() if future.status != "finished" else None
                        if isinstance(error, KilledWorker):
                            deaths[index] += 1
                            self._tell_death(error, index, number, deaths[index])
                            waiting.appendleft(index)
                        elif error is not None:
                            raise error
                        else:
                            results[index] = value_of(future.result(), index, number)
                            future.release()  # else it is done again when its worker is lost
                            advance()
        except BaseException:
            self._client.cancel(list(running), force=True)
            raise
        finally:
            work.unlink(missing_ok=True)
        return results

    def _ended(self, futures: list) -> list:
        if not futures:
            time.sleep(_TICK_S)
            return []
        with contextlib.suppress(TimeoutError):
            wait(futures, timeout=_TICK_S, return_when="FIRST_COMPLETED")
        return [future for future in futures if future.done()]

    def _tell_death(self, error: KilledWorker, index: int, number: int, count: int) -> None:
        name = str(error.last_worker.name)
        job = self._job_of(name)
        log = next(iter(sorted(self._logs.glob(f"*{job}*"))), self._logs) if job else self._logs
        where = f"job {job}, log {log}" if job else f"worker {name} at {error.last_worker.address}"
        if count >= _LIVES:
            raise JobKilled(
                f"shard {index + 1} of {number} was lost with its worker {count} times (last: "
                f"{where})"
            )
        say(f"shard {index + 1} of {number} was lost with its worker ({where}): it runs again")

    def _job_of(self, worker: str) -> str | None:
        for name in (worker, worker.rpartition("-")[0]):  # of several processes of one job
            if name in self._jobs:
                return self._jobs[name]
        return None

    def _workers(self) -> list[str]:
        """Return the addresses of the workers; ask for those that are missing now and then.

        Raises:
            UserError: there is none, and none comes in time.
        """
        deadline = time.monotonic() + self.config.start_timeout_s
        while True:
            self._keep_number()
            workers = list(self._client.nthreads())
            if workers:
                return workers
            self._check_alive()
            if time.monotonic() > deadline:
                look = PROGRAMS.get(self.config.env, ("", ""))[1]
                raise UserError(
                    f"{self.config.path}: no worker has started after "
                    f"{self.config.start_timeout_s:g} s (parallel.start_timeout)"
                    + (f": look at the queue by `{look}`" if look else "")
                    + (f"; submitted: {' '.join(sorted(self._told))}" if self._told else "")
                    + f"; logs: {self._logs}"
                )
            time.sleep(0.1)

    def _keep_number(self) -> None:
        cluster = self._client.cluster
        for name, worker in dict(cluster.workers).items():
            if getattr(worker, "job_id", None):
                self._jobs[str(name)] = worker.job_id
        new = sorted(set(self._jobs.values()) - self._told, key=lambda job: (len(job), job))
        if new:
            say(f"{self.config.env}: submitted {' '.join(new)} ({self.config.path})")
            self._told.update(new)
        if time.monotonic() - self._scaled_s > _SCALE_EVERY_S:
            self._scaled_s = time.monotonic()
            cluster.scale(self.n_workers)

    def _check_alive(self) -> None:
        cluster = self._client.cluster
        if cluster.status not in (Status.running, Status.starting, Status.created):
            raise UserError(f"{self.config.path}: the cluster ended: {cluster.status}")
        known = list(dict(cluster.workers).values())
        if known and all(getattr(worker, "job_id", "") is None for worker in known):
            program = PROGRAMS[self.config.env][0]
            raise UserError(
                f"{self.config.path}: the queue refuses the job: try "
                f"`{program} {self._logs / 'job.sh'}`"
            )

    def _start(self) -> None:
        if self._client is not None:
            return
        from espnet3.parallel.parallel import get_client  # here: it loads torch

        self._place.mkdir(parents=True, exist_ok=True)
        self._logs.mkdir(exist_ok=True)
        stack = self._open
        try:
            stack.enter_context(without_leftovers(self._place))
            self._private = stack.enter_context(scratch_directory(self._place))
            self._private.chmod(0o700)
            stack.enter_context(
                dask.config.set(_DASK | settings_of_ssh(self.config, self._private))
            )
            options = engine_options(self.config, self._private, self._logs)
            try_out(self.config, options, self._logs)
            settings = {"env": self.config.env, "n_workers": self.n_workers, "options": options}
            say(f"{self.config.describe()} begin")
            with _quiet():
                client = stack.enter_context(get_client(PlainSettings(settings)))
        except UserError:
            self.close()
            raise
        except (ValueError, TypeError, OSError, RuntimeError) as error:
            self.close()
            reason = " ".join(str(error).split())
            raise UserError(f"{self.config.path}: parallel.options: {reason}") from None
        except BaseException:
            self.close()
            raise
        stack.enter_context(_quiet())
        self._client = client
        self._scaled_s = time.monotonic()
        self._workers()
        self._check_place()

    def _check_place(self) -> None:
        """Check that the first worker sees what this process writes, and where it runs.

        Raises:
            UserError: it does not.
        """
        work = self._private / "seen"
        work.touch()
        for path, shown in ((work, self._place), (Path.cwd(), Path.cwd())):
            if not self._client.submit(os.path.exists, str(path), pure=False).result():
                raise UserError(
                    f"{shown}: workers of {self.config.path} do not see this directory: the "
                    "recipe must lie on a disk that all machines share"
                )


def run_in_worker(
    work: str, argument: Any, directory: str, lock: tuple[Path, str] | None
) -> tuple[str, Any]:
    """Run one job in a worker.

    Args:
        work: file with the pickled function and what surrounds it.
        argument: of the function.
        directory: to run in.
        lock: lock of the run, and its name; results are left out when it is another's.

    Returns:
        The kind of outcome and its value, as a forked job sends them.
    """
    os.chdir(directory)
    function, surroundings = _load(work)
    worker = get_worker()
    with contextlib.ExitStack() as stack:
        if lock:
            stack.enter_context(while_wanted(lambda: is_held_by(*lock)))
        limit_bytes = worker.memory_manager.memory_limit
        if limit_bytes:
            used_bytes = worker.monitor.proc.memory_info().rss
            stack.enter_context(memory_of_worker(max(1, limit_bytes - used_bytes)))
        for surrounding in surroundings:
            stack.enter_context(surrounding())
        return outcome_of(function, argument)


@functools.lru_cache(maxsize=1)
def _load(work: str) -> tuple[Callable[[Any], Any], Surroundings]:
    with open(work, "rb") as stream:
        return cloudpickle.load(stream)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what Dask reports of every worker that comes and goes off the console."""
    loggers = [logging.getLogger(name) for name in ("distributed", "asyncssh", "tornado")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
