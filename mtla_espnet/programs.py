"""Programs that a run starts: they share its locks, and end when it ends, however it ends."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from mtla_espnet.signals import signals_held

_GRACE_S = 5.0
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def run_program(command: Sequence[str | os.PathLike], **options) -> subprocess.CompletedProcess:
    r"""Run a program as `subprocess.run` does, tied to this process.

    It inherits the locks that this process holds (descriptors that can be inherited), and so
    does what it starts: nothing else writes where it writes, even when this process is gone.
    Where this process is killed, the kernel kills the program too (on Linux). Where an
    exception such as an interruption ends the wait, the program and what it started are asked
    to end, and are killed after 5 seconds.

    Args:
        command: the program and its arguments.
        options: of `subprocess.Popen`, or `capture_output`.

    Returns:
        What it returned, and printed where that was asked for.

    Raises:
        OSError: it cannot be started.

    Example:
        >>> run_program(["echo", "a"], capture_output=True, text=True).stdout
        'a\n'
    """
    if options.pop("capture_output", False):
        options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = None
    try:
        with signals_held():  # one that arrives while it starts would leave it without a parent
            process = start_program(command, **options)
        output, errors = process.communicate()
    except BaseException:
        if process is not None:
            with process:  # closes its pipes
                stop_program(process)
        raise
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def start_program(command: Sequence[str | os.PathLike], **options) -> subprocess.Popen:
    """Start a program that shares the locks of this process, and is killed with it.

    Args:
        command: the program and its arguments.
        options: of `subprocess.Popen`.

    Raises:
        OSError: it cannot be started.
    """
    parent_pid = os.getpid()
    return subprocess.Popen(
        command, close_fds=False, preexec_fn=lambda: end_with_parent(parent_pid), **options
    )


def stop_program(process: subprocess.Popen) -> None:
    """End a program and the programs that it started: ask them first, then kill them."""
    pids = [process.pid, *_descendants(process.pid)]
    for number in (signal.SIGTERM, signal.SIGKILL):
        _send(pids, number)
        deadline = time.monotonic() + _GRACE_S
        while time.monotonic() < deadline and any(map(_runs, pids)):
            process.poll()  # an ended child is there until it is asked for
            time.sleep(0.02)
    process.wait()


def end_with_parent(parent_pid: int) -> None:
    """Let the kernel kill this process when its parent ends, however it ends (on Linux).

    A parent that was killed cannot stop its children, which would write beside the run that
    takes its place.

    Args:
        parent_pid: the parent, as the parent itself names it.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:  # it ended before
        os._exit(1)


def _descendants(pid: int) -> list[int]:
    """Return the processes that one started, and those that they started."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [each for child in map(int, children) for each in (child, *_descendants(child))]


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def _send(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass
