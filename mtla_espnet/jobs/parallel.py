"""Fan-out of independent jobs over local processes.

Importing the recognition toolkit costs 9 s and 790 MB, so a job is a forked
child of the loaded process: it shares that memory and starts in milliseconds.
"""

import contextlib
import functools
import itertools
import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mtla_espnet.files import UserError, place_error
from mtla_espnet.jobs.log import JobFailed
from mtla_espnet.programs import end_with_parent

_STOP_GRACE_S = 5.0
# A fork copies the page tables of its parent: more of them than these, where the parent holds a
# list of the whole corpus, would take a time that grows with the square of the corpus.
_MOST_FORKS = 1000


class JobKilled(UserError, RuntimeError):
    """A job ended before it had a result, as where the system kills it for its memory."""


def run_jobs(
    function: Callable[[Any], Any],
    argument_list: Sequence[Any],
    n_workers: int,
    progress: str | None = None,
    fresh: bool = False,
) -> list[Any]:
    """Call `function(argument)` for each argument and return the results in order.

    Each job has a forked child of its own, so `function` may be a closure, and
    only its result is pickled. Where there are more than a thousand arguments, a child takes
    several. A child computes on one thread and sees no GPU. With one worker
    (or one argument) the calls are made in this process, with its own threads.

    Args:
        function: takes one argument; its result must be picklable.
        argument_list: one entry a job.
        n_workers: jobs that run side by side, at least 1.
        progress: label of a progress bar on a terminal, of plain lines elsewhere
            (one a tenth of the jobs); None shows neither.
        fresh: use a new child for every job even with one worker, for libraries
            whose output depends on what the process did before.

    Returns:
        The results, in the order of `argument_list`.

    Raises:
        UserError: the first job that failed did so with a UserError (that one).
        JobKilled: it was killed, or ended by itself.
        RuntimeError: it failed otherwise (its traceback). The other jobs are
            stopped, and none is left running on return.

    Example:
        >>> run_jobs(len, ["a", "bcd"], n_workers=1)
        [1, 3]
    """
    if n_workers < 1:
        raise ValueError(f"n_workers must be at least 1, not {n_workers}")
    if not fresh and len(argument_list) > _MOST_FORKS:
        size = -(-len(argument_list) // _MOST_FORKS)
        starts = range(0, len(argument_list), size)
        shares = [argument_list[start : start + size] for start in starts]
        found = run_jobs(functools.partial(call_each, function), shares, n_workers, progress)
        return [result for share in found for result in share]
    with progress_bar(progress, len(argument_list)) as advance:
        if not fresh and min(n_workers, len(argument_list)) <= 1:
            results = []
            for argument in argument_list:
                results.append(function(argument))
                advance()
            return results
        return _run_children(function, argument_list, [None] * n_workers, advance)


def call_each(function: Callable[[Any], Any], arguments: Sequence[Any]) -> list[Any]:
    """Call `function(argument)` for each argument, one after the other."""
    return [function(argument) for argument in arguments]


def run_on_devices(
    function: Callable[[Any], Any],
    argument_list: Sequence[Any],
    devices: Sequence[str],
    progress: str | None = None,
) -> list[Any]:
    """Call `function(argument)` for each argument, a process at a time on each device.

    CUDA does not survive a fork, so a process is started anew, with its device alone in
    `CUDA_VISIBLE_DEVICES`. A device whose process is killed or fails is given no other job, and
    the job goes to another, as long as there is one.

    Args:
        function: takes one argument; it is pickled.
        argument_list: one entry a job.
        devices: one a process; a name that is there twice is shared.
        progress: as of `run_jobs`.

    Returns:
        The results, in the order of `argument_list`.

    Raises:
        UserError: as of `run_jobs`; JobKilled and failures of the last device too.
    """
    with progress_bar(progress, len(argument_list)) as advance:
        return _run_children(function, argument_list, list(devices), advance)


def _run_children(function, argument_list, devices: list[str | None], advance) -> list[Any]:
    """Run jobs in children; None for a device: a fork, that sees none, and has one try."""
    results: list[Any] = [None] * len(argument_list)
    waiting = list(reversed(range(len(argument_list))))
    running = {}  # the reading end of a job's pipe -> (index, process, device)
    free = list(reversed(devices))
    try:
        while waiting or running:
            while waiting and free:
                index, device = waiting.pop(), free.pop()
                reader, process = _start_child(function, argument_list[index], device)
                running[reader] = (index, process, device)
            for reader in multiprocessing.connection.wait(list(running)):
                index, process, device = running[reader]
                try:
                    results[index] = _receive(reader, process, index, len(argument_list))
                except (JobKilled, JobFailed, RuntimeError) as error:
                    if device is None or not (free or len(running) > 1):
                        raise
                    logging.warning("GPU %s takes no more jobs: %s", device, error)
                    waiting.append(index)
                else:
                    free.append(device)
                    advance()
                reader.close()
                process.join()
                del running[reader]
    finally:
        stop_processes([process for _, process, _ in running.values()])
    return results


def _start_child(function, argument, device: str | None):
    """Start a child; return the reading end of its pipe, and the process."""
    context = multiprocessing.get_context("fork" if device is None else "spawn")
    reader, writer = context.Pipe(duplex=False)
    arguments = (writer, function, argument, os.getpid(), device)
    process = context.Process(target=_child, args=arguments)
    with warnings.catch_warnings(), _environment(device):
        # A forked child first sets one thread, which makes the fork safe (see _child).
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    writer.close()
    return reader, process


@contextlib.contextmanager
def _environment(device: str | None) -> Iterator[None]:
    """Let a process that is started inside see one GPU alone."""
    name = "CUDA_VISIBLE_DEVICES"
    before = os.environ.get(name)
    if device is not None:
        os.environ[name] = device
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before


def _child(writer, function, argument, parent_pid: int, device: str | None) -> None:
    """Body of a child: one thread where it is a fork, run the job, send (kind, value)."""
    if device is None:
        os.environ["OMP_NUM_THREADS"] = "1"
    if device is None and "torch" in sys.modules:
        # Without this a parallel operation hangs in a child of a process that made one before.
        sys.modules["torch"].set_num_threads(1)
        # CUDA does not work after a fork of a process that has looked at it, and libraries that
        # merely ask what there is (for a log line, say) would fail: there is no GPU here.
        sys.modules["torch"].cuda.is_available = lambda: False
    end_with_parent(parent_pid)
    # The parent answers Ctrl-C; SIGTERM unwinds, so that temporary files are removed.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        message = outcome_of(function, argument)
        try:
            writer.send(message)
        except Exception:
            writer.send(("error", traceback.format_exc()))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGTERM)


def outcome_of(function: Callable[[Any], Any], argument: Any) -> tuple[str, Any]:
    """Call `function(argument)`; return the kind of outcome and its value, see `value_of`."""
    try:
        return "result", function(argument)
    except UserError as error:
        return "user error", error
    except Exception as error:
        if told := place_error(error, os.getcwd()):
            return "user error", told
        return "error", traceback.format_exc()


def _receive(reader, process, index: int, n_jobs: int) -> Any:
    try:
        kind, value = reader.recv()
    except EOFError:
        process.join()
        how = how_ended(process.exitcode)
        raise JobKilled(f"job {index + 1} of {n_jobs} {how}") from None
    return value_of((kind, value), index, n_jobs)


def value_of(outcome: tuple[str, Any], index: int, n_jobs: int) -> Any:
    """Return the result of a job that ran in another process, or raise its error.

    Args:
        outcome: what `outcome_of` returned there.
        index: of the job, from 0, for the message.
        n_jobs: how many there are.
    """
    kind, value = outcome
    if kind == "user error":
        raise value
    if kind == "error":
        raise RuntimeError(f"job {index + 1} of {n_jobs} failed:\n{value}")
    return value


def how_ended(exit_code: int) -> str:
    """Say how a child ended that did not finish its work.

    Args:
        exit_code: as `multiprocessing` gives it: negative for a signal.

    Example:
        >>> how_ended(-9), how_ended(3)
        ('was killed by SIGKILL (out of memory?)', 'ended with 3')
    """
    if exit_code >= 0:
        return f"ended with {exit_code}"
    memory = " (out of memory?)" if exit_code == -signal.SIGKILL else ""
    return f"was killed by {signal.Signals(-exit_code).name}{memory}"


def stop_processes(processes: Sequence[multiprocessing.process.BaseProcess]) -> None:
    """End children: ask them first, and kill those that do not end within seconds."""
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + _STOP_GRACE_S
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()


@contextlib.contextmanager
def progress_bar(label: str | None, total: int) -> Iterator[Callable[[], Any]]:
    """Yield a function that advances a progress bar, or the plain lines, by one job."""
    if label is None:
        yield lambda: None
        return
    if not sys.stderr.isatty():
        done = itertools.count(1)

        def tell() -> None:
            count = next(done)
            if count * 10 // total > (count - 1) * 10 // total:
                print(f"{label}: {count} of {total}", file=sys.stderr, flush=True)

        yield tell
        return
    import tqdm  # here: only who shows a bar needs it

    # A bar's monitor thread would be copied, dead, into every child.
    bar_class = type("Bar", (tqdm.tqdm,), {"monitor_interval": 0})
    with bar_class(total=total, desc=label, disable=None) as bar:
        yield bar.update
