"""Directories that are whole or not there, and what killed processes leave in them."""

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

from mtla_espnet.files import TEMPORARY, check_wanted, temporary_name, writing


@contextlib.contextmanager
def scratch_directory(parent: Path) -> Iterator[Path]:
    """Yield a new directory in `parent` under a temporary name; it is removed at the end."""
    path = parent / temporary_name(Path("scratch"))
    with writing(parent):
        path.mkdir(parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def replace_directory(made: Path, path: Path) -> None:
    """Rename a directory, and remove the one that was there: at no moment half of one is.

    Several processes may do so at once, with the same content: one of them is the last.

    Args:
        made: the new one, on the same file system.
        path: where it shall be.
    """
    check_wanted()
    with scratch_directory(path.parent) as scratch:
        while True:
            if path.exists():
                with contextlib.suppress(FileNotFoundError):  # another has removed it
                    path.rename(scratch / uuid.uuid4().hex)
            try:
                made.rename(path)
                return
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # another was quicker
                    raise


@contextlib.contextmanager
def without_leftovers(directory: Path) -> Iterator[None]:
    """Say that this process writes in a directory that others may write in too.

    What killed processes left directly in it under temporary names is removed first, if nobody
    else writes there at that moment, which a lock of the directory tells.

    Args:
        directory: created when missing.
    """
    with writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # in use, or on a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_leftovers(directory, deep=False)
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def remove_leftovers(directory: Path, deep: bool = True) -> None:
    """Remove what killed processes left under temporary names; call it while none writes there.

    Args:
        directory: where to look.
        deep: also in the directories in it, but for those that have a lock of their own, and
            links.
    """
    with os.scandir(directory) as entries:
        for entry in entries:
            is_directory = entry.is_dir(follow_symlinks=False)
            if TEMPORARY.fullmatch(entry.name):
                if is_directory:
                    shutil.rmtree(entry, ignore_errors=True)
                else:
                    Path(entry).unlink(missing_ok=True)
            elif deep and is_directory and not os.path.exists(f"{entry.path}/.lock"):
                remove_leftovers(Path(entry))


def flush_all(directory: Path) -> None:
    """Wait until all files of a directory are on its disk, with one call for any number of them.

    Linux flushes the whole file system, which for 200 short recordings takes a fiftieth of the
    time that flushing one by one does.
    """
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        if sys.platform != "linux" or ctypes.CDLL(None, use_errno=True).syncfs(descriptor):
            os.sync()
    finally:
        os.close(descriptor)
