"""One run at a time writes in a directory, and none while others read what is there."""

import contextlib
import contextvars
import datetime
import errno
import fcntl
import functools
import json
import logging
import os
import socket
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TextIO

from mtla_espnet.files import UserError, writing

_NAME = ".lock"
# How long the children of a killed run are waited for: the kernel ends them, or asks them to.
_ORPHANS_S = 10.0
# What flock answers where a file system has no locks: Lustre without its option, NFS without
# its daemon, some of FUSE.
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL}
_held: contextvars.ContextVar[tuple[Path, str] | None] = contextvars.ContextVar(
    "held", default=None
)


@contextlib.contextmanager
def directory_lock(directory: Path) -> Iterator[None]:
    """Hold `<directory>/.lock` alone while the block runs.

    The kernel drops the lock when the process ends, however it ends, so a file that a
    killed run left over does not block the next one. Children and programs that the block
    starts share the lock. Those that a killed run left behind keep it until they end too,
    which they do within seconds: they are waited for. On a file system without locks a
    warning says so, and the block runs.

    Args:
        directory: created when missing.

    Raises:
        UserError: another run writes or reads there, and names itself; or the directory cannot
            be written.
    """
    path = directory / _NAME
    with writing(path):
        directory.mkdir(parents=True, exist_ok=True)
        stream = open(path, "a+", encoding="utf-8")
    with stream:
        _acquire(stream, directory, fcntl.LOCK_EX)
        owner = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "start": datetime.datetime.now().isoformat(timespec="seconds"),
            "run": uuid.uuid4().hex,
        }
        with writing(path):
            stream.truncate(0)
            stream.write(json.dumps(owner) + "\n")
            stream.flush()
        token = _held.set((path.absolute(), owner["run"]))
        try:
            yield
        finally:
            _held.reset(token)
            stream.truncate(0)


def held_lock() -> tuple[Path, str] | None:
    """Return the lock that this process holds, and the name of its run; None: it holds none."""
    return _held.get()


def is_held_by(path: Path, run: str) -> bool:
    """Say whether a lock is that of a run still, for its jobs on other machines.

    They do not share the lock itself: where their run was killed, another may have begun.

    Args:
        path: the lock's file.
        run: its name, see `held_lock`.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))["run"] == run
    except (OSError, ValueError, KeyError, TypeError):
        return False


@contextlib.contextmanager
def reading_locks(directories: Iterable[Path]) -> Iterator[None]:
    """Keep other runs from writing in some directories while the block runs.

    Several runs may read at once. Nothing is written: a directory without a lock file, where
    no run has ever written, needs none.

    Args:
        directories: where the block reads.

    Raises:
        UserError: another run writes in one of them, and names itself.
    """
    with contextlib.ExitStack() as held:
        for directory in sorted(set(directories)):
            try:
                stream = held.enter_context(open(directory / _NAME, encoding="utf-8"))
            except OSError:
                continue
            _acquire(stream, directory, fcntl.LOCK_SH)
        yield


def locked_above(paths: Iterable[Path]) -> set[Path]:
    """Return the directories, of those that files are in, which stages write and so lock."""
    above = {parent for path in paths for parent in path.parents}
    return {
        directory
        for directory in above
        if (directory / _NAME).exists() and any(directory.glob(".[bd]*.[0-9]*"))  # marks
    }


def _acquire(stream: TextIO, directory: Path, how: int) -> None:
    os.set_inheritable(stream.fileno(), True)  # for the programs that this process starts
    deadline = time.monotonic() + _ORPHANS_S
    while True:
        try:
            fcntl.flock(stream, how | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            stream.seek(0)
            owner = _read_owner(stream.read())
            if not _was_killed(owner) or time.monotonic() > deadline:
                raise UserError(f"{directory} is in use by {_users(owner, stream)}") from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            _warn_once(error.strerror)
            return
        time.sleep(0.1)


@functools.cache
def _warn_once(reason: str) -> None:
    logging.warning(
        "directories cannot be locked here (%s): see to it that no two runs write in one", reason
    )


def _users(owner: dict | None, stream: TextIO) -> str:
    """Say who holds a lock, for a message."""
    if owner and not _was_killed(owner):
        return "process {pid} on {host} since {start}".format(**owner)
    programs = _open_in(stream) or "another process"
    return f"{programs}, which reads there, or which a killed run left: wait for its end"


def _open_in(stream: TextIO) -> str:
    """Name the other processes of this machine that have a file open."""
    path, own, found = os.path.realpath(stream.name), str(os.getpid()), {}
    for link in Path("/proc").glob("[1-9]*/fd/*"):
        pid = link.parts[2]
        with contextlib.suppress(OSError):
            if pid != own and pid not in found and os.readlink(link) == path:
                found[pid] = (link.parents[1] / "comm").read_text().strip()
    return ", ".join(f"process {pid} ({name})" for pid, name in sorted(found.items()))


def _read_owner(text: str) -> dict | None:
    """Return the owner with `pid`, `host` and `start`; None where the file does not say."""
    try:
        owner = json.loads(text)
        return {"pid": int(owner["pid"]), "host": owner["host"], "start": owner["start"]}
    except (ValueError, KeyError, TypeError):
        return None


def _was_killed(owner: dict | None) -> bool:
    """Say whether an owner of this machine is gone, so that only its children hold the lock."""
    if owner is None or owner["host"] != socket.gethostname():
        return False
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # another user's process
    return False
