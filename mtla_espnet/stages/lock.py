"""One run at a time in a directory."""

import contextlib
import datetime
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from mtla_espnet.files import UserError


@contextlib.contextmanager
def directory_lock(directory: Path) -> Iterator[None]:
    """Hold `<directory>/.lock` while the block runs.

    The kernel drops the lock when the process ends, however it ends, so a file that a
    killed run left over does not block the next one. Children that a killed run left
    behind keep it until they end too.

    Args:
        directory: created when missing.

    Raises:
        UserError: another run holds it; names its pid, host and start.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / ".lock"
    with open(path, "a+", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            raise UserError(f"{directory} is in use by {_owner(stream.read())}") from None
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


def _owner(text: str) -> str:
    try:
        owner = json.loads(text)
        return f"process {owner['pid']} on {owner['host']} since {owner['start']}"
    except (json.JSONDecodeError, KeyError, TypeError):
        return "another process"
