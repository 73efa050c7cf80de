"""The lock of a directory."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from mtla_espnet.files import UserError
from mtla_espnet.stages.lock import directory_lock


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of tmp_path/d."""
    program = (
        "import sys, time, pathlib; from mtla_espnet.stages.lock import directory_lock\n"
        "with directory_lock(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "d")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_run_is_refused_with_the_firsts_pid_and_host(holder, tmp_path):
    message = rf"d is in use by process {holder.pid} on {socket.gethostname()} since "
    with pytest.raises(UserError, match=message), directory_lock(tmp_path / "d"):
        pass


def test_the_lock_of_a_killed_run_is_stale(holder, tmp_path):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with directory_lock(tmp_path / "d"):
        assert str(os.getpid()) in (tmp_path / "d/.lock").read_text()


def test_children_of_a_killed_run_are_waited_for(tmp_path):
    program = (
        "import os, sys, time, pathlib; from mtla_espnet.stages.lock import directory_lock\n"
        "with directory_lock(pathlib.Path(sys.argv[1])):\n"
        "    if os.fork() == 0: time.sleep(1.5); os._exit(0)\n"
        "    print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "d")], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        process.kill()
        process.wait()
        begin = time.monotonic()
        with directory_lock(tmp_path / "d"):
            assert time.monotonic() - begin > 0.5


def test_a_lock_is_free_again_after_a_failure(tmp_path):
    with pytest.raises(KeyError), directory_lock(tmp_path / "d"):
        raise KeyError
    with directory_lock(tmp_path / "d"):
        pass
