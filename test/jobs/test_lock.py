"""The locks of a directory: one writes, or many read."""

import errno
import fcntl
import logging
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from mtla_espnet.files import UserError
from mtla_espnet.jobs import lock
from mtla_espnet.jobs.lock import directory_lock, held_lock, is_held_by, locked_above, reading_locks


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of tmp_path/d."""
    program = (
        "import sys, time, pathlib; from mtla_espnet.jobs.lock import directory_lock\n"
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
        "import os, sys, time, pathlib; from mtla_espnet.jobs.lock import directory_lock\n"
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


def test_readers_share_and_keep_a_writer_out(tmp_path):
    reader = (
        "import sys, time, pathlib; from mtla_espnet.jobs.lock import reading_locks\n"
        "with reading_locks([pathlib.Path(sys.argv[1])]): print('held', flush=True); time.sleep(60)"
    )
    with directory_lock(tmp_path):
        pass
    command = [sys.executable, "-c", reader, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        with reading_locks([tmp_path, tmp_path]):
            pass
        message = rf"{tmp_path} is in use by process {process.pid} \(python.*\), which reads there"
        with pytest.raises(UserError, match=message), directory_lock(tmp_path):
            pass
        process.kill()
    with directory_lock(tmp_path):
        pass


def test_readers_are_kept_out_by_a_writer_and_write_nothing(holder, tmp_path):
    message = rf"d is in use by process {holder.pid} on {socket.gethostname()} since "
    with pytest.raises(UserError, match=message), reading_locks([tmp_path / "d"]):
        pass
    (tmp_path / "never").mkdir()
    with reading_locks([tmp_path / "never", tmp_path / "missing"]):
        assert not list((tmp_path / "never").iterdir())


def test_directories_that_stages_write_are_found_above_a_file(tmp_path):
    for name in ("a", "a/b/c", "foreign"):
        with directory_lock(tmp_path / name):
            pass
    (tmp_path / "a/.done.1").touch()
    (tmp_path / "a/b/c/.begun.12").touch()
    (tmp_path / "a/b/.done.3").touch()  # without a lock
    (tmp_path / "foreign/.bashrc").touch()  # another program's lock
    found = locked_above([tmp_path / "a/b/c/d/e.wav", tmp_path / "foreign/e.wav"])
    assert found == {tmp_path / "a", tmp_path / "a/b/c"}


def test_a_program_that_a_killed_run_started_keeps_the_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "_ORPHANS_S", 0.3)
    # The program starts another one, which no signal of the kernel reaches.
    run = (
        "import sys, pathlib; from mtla_espnet.jobs.lock import directory_lock\n"
        "from mtla_espnet.programs import run_program\n"
        "with directory_lock(pathlib.Path(sys.argv[1])):\n"
        "    run_program(['sh', '-c', 'sleep 60 & echo $!; wait'])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", run, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        orphan = int(process.stdout.readline())
        process.kill()
        process.wait()
        message = rf"in use by process {orphan} \(sleep\), which reads there, or which a killed run"
        with pytest.raises(UserError, match=message), directory_lock(tmp_path):
            pass
        os.kill(orphan, signal.SIGKILL)
        monkeypatch.setattr(lock, "_ORPHANS_S", 10.0)
        with directory_lock(tmp_path):
            pass


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_warned_of_once(tmp_path, monkeypatch, caplog, number):
    def flock(stream, how):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    lock._warn_once.cache_clear()
    caplog.set_level(logging.WARNING)
    with directory_lock(tmp_path / "a"), reading_locks([tmp_path / "a"]):
        with directory_lock(tmp_path / "b"):
            pass
    (record,) = caplog.records
    assert record.getMessage() == (
        f"directories cannot be locked here ({os.strerror(number)}): see to it that no two runs "
        "write in one"
    )


def test_a_directory_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError) as raised, directory_lock(tmp_path / "file/d"):
        pass
    assert str(raised.value) == f"{tmp_path}/file/d/.lock: cannot be written: Not a directory"


def test_jobs_of_a_run_know_when_another_has_the_lock(tmp_path):
    assert held_lock() is None
    with directory_lock(tmp_path):
        first = held_lock()
        assert first[0] == tmp_path / ".lock"
        assert is_held_by(*first)
    assert held_lock() is None
    assert not is_held_by(*first)
    with directory_lock(tmp_path):
        assert is_held_by(*held_lock())
        assert not is_held_by(*first)
    assert not is_held_by(tmp_path / "gone", first[1])
