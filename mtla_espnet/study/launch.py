"""Runs the trainings of a study side by side, then decodes them one after another.

Each is a call of the recipe's own `run.sh`, which passes over what is done: a study that was
interrupted goes on by the same command.
"""

import itertools
import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from mtla_espnet.jobs.log import say, tail
from mtla_espnet.programs import start_program, stop_program
from mtla_espnet.signals import signals_held
from mtla_espnet.study.plan import Study

_POLL_S = 0.2


def run_study(study: Study, side: int, gpus: Sequence[str] = ()) -> list[str]:
    """Prepare the data, train all runs, decode and score them.

    Decoding runs alone, so that its times can be compared.

    Args:
        study: what to run.
        side: trainings at once, on each of the GPUs where there are any.
        gpus: as of CUDA_VISIBLE_DEVICES, taken in turn; empty: trainings see what this
            process sees.

    Returns:
        Names of what failed; their logs are told. The other runs are complete.
    """
    (study.directory / "logs").mkdir(parents=True, exist_ok=True)
    lanes = list(gpus) * side or [None] * side
    prepare, *others = commands(study)
    if failed := _side_by_side(study, dict([prepare]), lanes[:1]):
        return failed
    n_runs = len(study.runs)
    train, decode = dict(others[:n_runs]), others[n_runs:]
    failed = _side_by_side(study, train, lanes)
    trained = [call for name, call in zip(train, decode, strict=True) if name not in failed]
    return failed + _side_by_side(study, dict(trained), lanes[:1])


def commands(study: Study) -> list[tuple[str, list[str]]]:
    """Return what would be called, with a name each."""
    calls = [("prepare", study.prepare())]
    calls += [(f"train {run.name}", study.train(run)) for run in study.runs]
    return calls + [(f"decode {run.name}", study.decode(run)) for run in study.runs]


def log_of(study: Study, name: str) -> Path:
    """Return the file that a call's output goes to."""
    return study.directory / "logs" / f"{name.replace(' ', '_')}.log"


def _side_by_side(
    study: Study, calls: dict[str, list[str]], lanes: Sequence[str | None]
) -> list[str]:
    """Run calls, one a lane at a time; return the names of those that failed."""
    waiting, free = list(calls), list(lanes)
    running: dict[str, tuple[subprocess.Popen, str | None, float]] = {}
    failed, finished = [], itertools.count(1)
    try:
        while waiting or running:
            while waiting and free:
                name, lane = waiting.pop(0), free.pop(0)
                with signals_held():  # one that arrives while it starts would leave it behind
                    process = _start(study, name, calls[name], lane, len(lanes))
                    running[name] = process, lane, time.monotonic()
            time.sleep(_POLL_S)
            for name, (process, lane, since) in list(running.items()):
                if process.poll() is None:
                    continue
                del running[name]
                free.append(lane)
                count = f"{next(finished)}/{len(calls)}"
                if process.returncode == 0:
                    say(f"{count} {name}: {time.monotonic() - since:.0f} s")
                    continue
                failed.append(name)
                log = log_of(study, name)
                say(f"{count} {name} failed (code {process.returncode}), log is in {log}")
                print(tail(log), end="", flush=True)
    finally:
        for process, _, _ in running.values():
            stop_program(process)
    return failed


def _start(study: Study, name: str, command: list[str], gpu: str | None, n_lanes: int):
    environment = dict(os.environ)
    if gpu is not None:
        environment["CUDA_VISIBLE_DEVICES"] = gpu
    # Side by side, each would take all cores.
    cores = len(os.sched_getaffinity(0))
    environment.setdefault("OMP_NUM_THREADS", str(max(1, cores // n_lanes)))
    with log_of(study, name).open("w", encoding="utf-8") as log:
        return start_program(
            command,
            cwd=study.recipe,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
