"""Jobs of Slurm: submit one, see how it is, wait for it, cancel it.

A job is found by its name, so that a run that takes the place of a killed one finds its job,
whenever that run was killed.
"""

import argparse
import contextlib
import dataclasses
import os
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from mtla_espnet.files import UserError
from mtla_espnet.jobs.log import say

_LOOK_S = 1.0  # at the log
_LONGEST_PAUSE_S = 30.0  # of questions to squeue, which a whole site asks
_MOST_FAILURES = 20  # of squeue in a row: a controller that restarts


@dataclasses.dataclass(frozen=True)
class SlurmJob:
    """A job that waits or runs.

    Args:
        number: Slurm's.
        state: such as `PENDING (Resources)` or `RUNNING`.
    """

    number: str
    state: str


def check_accepted(command: Sequence[str]) -> None:
    """Check that the queue would take a job.

    `--test-only` refuses what will never run, which a queue may take and leave there. It also
    refuses a job that waits for a node which is down: where one is, the job is submitted, held,
    and cancelled.

    Args:
        command: sbatch and its words, without a script.

    Raises:
        UserError: sbatch is missing or refuses the job; says its reason and the words.
    """
    nothing = ["--output", "/dev/null", "--wrap", "true"]
    done = _call([*command, "--test-only", *nothing])
    if not done.returncode:
        return
    down = _call(["sinfo", "--noheader", "--states", "down,drain,fail,maint", "--format", "%D"])
    if not down.stdout.strip():
        raise _refusal(command, done)
    cancel(submit([*command, "--hold", *nothing]))


def check_gpus(command: Sequence[str]) -> None:
    """Check that the partition has GPUs, where Slurm knows which have.

    Args:
        command: sbatch and its words.

    Raises:
        UserError: others have, and this one has not.
    """
    done = _call(["sinfo", "--noheader", "--format", "%P %G"])
    rows = [line.split() for line in done.stdout.splitlines()]
    rows = [row for row in rows if len(row) == 2]
    having = {name.rstrip("*") for name, resources in rows if "gpu" in resources}
    default = [name.rstrip("*") for name, _ in rows if name.endswith("*")]
    asked = _partitions(command) or default
    if having and asked and having.isdisjoint(asked):
        raise UserError(
            f"{' '.join(command)}: partition {', '.join(dict.fromkeys(asked))} has no GPUs; "
            f"these have: {', '.join(sorted(having))}"
        )


def _partitions(command: Sequence[str]) -> list[str]:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-p", "--partition", default=os.environ.get("SBATCH_PARTITION", ""))
    found, _ = parser.parse_known_args(command[1:])
    return [name for name in found.partition.split(",") if name]


def submit(command: Sequence[str]) -> str:
    """Submit a job, and return its number.

    Args:
        command: sbatch, its words and the script.

    Raises:
        UserError: sbatch is missing or refuses the job; says its reason and the words.
    """
    done = _call([command[0], "--parsable", *command[1:]])
    if done.returncode or not done.stdout.strip():
        raise _refusal(command, done)
    return done.stdout.strip().splitlines()[-1].split(";")[0]


def _refusal(command: Sequence[str], done: subprocess.CompletedProcess) -> UserError:
    reason = " ".join(done.stderr.split()) or f"it ended with {done.returncode}"
    return UserError(f"the queue refuses {' '.join(command)}: {reason}")


def find(name: str) -> SlurmJob | None:
    """Return this user's job of a name that waits or runs; None: there is none.

    Raises:
        UserError: squeue is missing.
        SqueueFailed: it fails.
    """
    done = _call(["squeue", "--noheader", "--me", "--name", name, "--format", "%A %T (%r)"])
    if done.returncode:
        raise SqueueFailed(f"squeue: {' '.join(done.stderr.split())}")
    for line in done.stdout.splitlines():
        number, _, state = line.strip().partition(" ")
        return SlurmJob(number, state.removesuffix(" (None)"))
    return None


class SqueueFailed(UserError):
    """The queue cannot be asked now."""


def cancel(number: str) -> None:
    """Cancel a job."""
    _call(["scancel", number])


def cancel_named(name: str) -> None:
    """Cancel this user's jobs of a name."""
    _call(["scancel", "--me", "--name", name])


def end_of(number: str) -> str:
    """Say how a job that is over ended, as far as Slurm remembers it, such as `FAILED`."""
    done = _call(["scontrol", "--oneliner", "show", "job", number])
    found = re.search(r"\bJobState=(\S+)", done.stdout)
    return found[1] if found else "unknown"


def wait_for(job: SlurmJob, name: str, log: Path, is_done: Callable[[], bool]) -> None:
    """Wait until a job is over; show what it writes to its log, and each change of its state.

    Args:
        job: as it is now.
        name: by which it is found.
        log: what is in there already is not shown.
        is_done: whether its work is done; then its end is near, and is asked for often.

    Raises:
        UserError: squeue has failed 20 times in a row.
    """
    pause_s, failures, told = _LOOK_S, 0, ""
    position = log.stat().st_size if log.exists() else 0
    while job is not None:
        if job.state != told:
            say(f"Slurm job {job.number}: {job.state}")
            told, pause_s = job.state, _LOOK_S
        until = time.monotonic() + pause_s
        while time.monotonic() < until:
            time.sleep(_LOOK_S)
            position = _show(log, position)
            if is_done():
                pause_s = _LOOK_S
                break
        else:
            pause_s = min(1.5 * pause_s, _LONGEST_PAUSE_S)
        try:
            job, failures = find(name), 0
        except SqueueFailed:
            failures += 1
            if failures == _MOST_FAILURES:
                raise
    _show(log, position)


def _show(log: Path, position: int) -> int:
    """Print the whole lines of a log from a position on; return where they end."""
    with contextlib.suppress(OSError), open(log, "rb") as stream:
        stream.seek(position)
        text = stream.read()
        whole = text[: text.rfind(b"\n") + 1]
        print(whole.decode("utf-8", "replace"), end="", flush=True)
        position += len(whole)
    return position


def _call(command: Sequence[str]) -> subprocess.CompletedProcess:
    try:
        return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except OSError:
        raise UserError(
            f"{command[0]} is not on PATH: run this where jobs are submitted, such as a login node"
        ) from None
