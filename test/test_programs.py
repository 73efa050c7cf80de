"""Programs that a run starts end with it, and share its locks."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mtla_espnet.programs import run_program, start_program, stop_program


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_for(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def pids_in(path, n):
    """Wait for a file with process ids, one a line; return them."""
    wait_for(lambda: path.exists() and path.read_text().count("\n") == n)
    return [int(word) for word in path.read_text().split()]


def test_it_gives_what_the_program_printed_and_returned(tmp_path):
    done = run_program(["sh", "-c", "pwd; echo b >&2; exit 3"], cwd=tmp_path, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (3, f"{tmp_path}\n".encode(), b"b\n")
    with pytest.raises(FileNotFoundError):
        run_program(["/no/program"])


@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
def test_a_killed_parent_takes_its_program_along(tmp_path, stopped):
    script = "trap : TERM INT HUP; echo $$ > pid; while :; do sleep 0.1; done"
    program = f"from mtla_espnet.programs import run_program\nrun_program(['sh', '-c', {script!r}])"
    with subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path) as parent:
        (pid,) = pids_in(tmp_path / "pid", 1)
        if stopped:
            os.kill(pid, signal.SIGSTOP)
        parent.kill()
        parent.wait()
        wait_for(lambda: not alive(pid))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_parent_ends_the_program_and_what_it_started(tmp_path, number):
    script = "(sleep 60; :) & echo $! >> pid; echo $$ >> pid; wait"
    program = (
        "from mtla_espnet.programs import run_program\n"
        "from mtla_espnet.signals import end_by_exception\n"
        f"end_by_exception()\nrun_program(['sh', '-c', {script!r}])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=tmp_path, stderr=subprocess.DEVNULL
    ) as parent:
        pids = pids_in(tmp_path / "pid", 2)
        parent.send_signal(number)
        assert parent.wait() != 0
        assert not any(map(alive, pids))


def test_a_signal_while_the_program_starts_ends_it_and_what_it_started(tmp_path):
    script = "(sleep 60; :) & echo $! >> pid; echo $$ >> pid; wait"
    program = f"""
import os, signal, subprocess, time
from pathlib import Path
from mtla_espnet.programs import run_program
from mtla_espnet.signals import end_by_exception

def started(self, *arguments, **options):
    start(self, *arguments, **options)
    while not Path("pid").exists() or Path("pid").read_text().count(chr(10)) < 2:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.01)

start, subprocess.Popen.__init__ = subprocess.Popen.__init__, started
end_by_exception()
run_program(["sh", "-c", {script!r}])
"""
    with open(tmp_path / "errors", "wb") as errors:  # a pipe would stay open with what is left
        subprocess.run([sys.executable, "-c", program], cwd=tmp_path, stderr=errors)
    assert (tmp_path / "errors").read_text().endswith("KeyboardInterrupt\n")
    assert not any(map(alive, pids_in(tmp_path / "pid", 2)))


def test_a_program_that_does_not_listen_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr("mtla_espnet.programs._GRACE_S", 0.2)
    script = "trap '' TERM; echo $$ > pid; while :; do sleep 0.1; done"
    process = start_program(["sh", "-c", script], cwd=tmp_path)
    pids_in(tmp_path / "pid", 1)
    stop_program(process)
    assert process.returncode == -signal.SIGKILL


def test_descriptors_are_inherited_only_where_that_is_said(tmp_path):
    with open(tmp_path / "a", "w") as shared, open(tmp_path / "b", "w") as own:
        os.set_inheritable(shared.fileno(), True)
        command = ["sh", "-c", "ls -l /proc/self/fd"]
        printed = run_program(command, capture_output=True, text=True).stdout
        assert f"{tmp_path / 'a'}\n" in printed
        assert own.name not in printed
