"""One run at a time in a directory."""

import contextlib
import datetime
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from mtla_espnet.files import UserError

# How long children of a killed run are waited for: they look for their parent once a second.
_ORPHANS_S = 10.0


@contextlib.contextmanager
def directory_lock(directory: Path) -> Iterator[None]:
    """Hold `<directory>/.lock` while the block runs.

    The kernel drops the lock when the process ends, however it ends, so a file that a
    killed run left over does not block the next one. Children that a killed run left
    behind keep it until they end too, which they do within seconds: they are waited for.

    Args:
        directory: created when missing.

    Raises:
        UserError: another run holds it; names its pid, host and start.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / ".lock"
    with open(path, "a+", encoding="utf-8") as stream:
        _acquire(stream, directory)
        owner = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "start": datetime.datetime.now().isoformat(timespec="seconds"),
        }
        stream.truncate(0)
        stream.write(json.dumps(owner) + "\n")
        stream.flush()
        try:
            yield
        finally:
            stream.truncate(0)


def _acquire(stream: TextIO, directory: Path) -> None:
    deadline = time.monotonic() + _ORPHANS_S
    while True:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            stream.seek(0)
            owner = _read_owner(stream.read())
            if not _was_killed(owner) or time.monotonic() > deadline:
                who = "process {pid} on {host} since {start}".format(**owner) if owner else None
                raise UserError(f"{directory} is in use by {who or 'another process'}") from None
        time.sleep(0.1)


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
