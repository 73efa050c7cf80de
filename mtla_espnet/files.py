"""Whole files only: temporary name then rename, and one-line user errors."""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

_TEMPORARY = re.compile(r"\..+\.tmp[0-9a-f]{8}(\..*)?")
_DISK_IS_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class UserError(Exception):
    """A mistake in what the user gave; shown as one line, without a traceback.

    The message names the file and line, the utterance id or the YAML key, and
    says what to do. The command line turns it into `error: <message>` on
    stderr and exit code `exit_code`.

    Args:
        message: one line.
        exit_code: 1, or 2 for a wrong command line.
    """

    def __init__(self, message: str, exit_code: int = 1):
        super().__init__(message)
        self.exit_code = exit_code


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` on success.

    On an exception the temporary file (or directory) is removed and `path` is
    left as it was. The temporary name keeps the suffix of `path`, because
    writers such as soundfile choose the format by it.

    Args:
        path: the final file; its directory is created.

    Yields:
        The temporary path, in the same directory, so that the rename is atomic.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / _temporary_name(path)
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if is_disk_full(error):
            raise no_room(path, error) from None
        raise


def _temporary_name(path: Path) -> str:
    return f".{path.stem}.tmp{uuid.uuid4().hex[:8]}{path.suffix}"


@contextlib.contextmanager
def scratch_directory(parent: Path) -> Iterator[Path]:
    """Yield a new directory in `parent` under a temporary name; it is removed at the end."""
    path = parent / _temporary_name(Path("scratch"))
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def remove_leftovers(directory: Path) -> None:
    """Remove what killed processes left under temporary names; call it while none writes there.

    Args:
        directory: it is walked, but for directories that have a lock of their own, and links.
    """
    with os.scandir(directory) as entries:
        for entry in entries:
            is_directory = entry.is_dir(follow_symlinks=False)
            if _TEMPORARY.fullmatch(entry.name):
                if is_directory:
                    shutil.rmtree(entry, ignore_errors=True)
                else:
                    Path(entry).unlink(missing_ok=True)
            elif is_directory and not os.path.exists(f"{entry.path}/.lock"):
                remove_leftovers(Path(entry))


def is_disk_full(error: BaseException) -> bool:
    """Say whether an exception means that the disk, or what one may use of it, is full.

    Libraries may raise another one while they handle it, as PyTorch does.
    """
    return _disk_error(error) is not None


def no_room(path: str | os.PathLike, error: BaseException) -> UserError:
    """Return the error for a file that the disk has no room for.

    Args:
        path: the file, or its directory where the exception names a file.
        error: for which `is_disk_full` holds.
    """
    cause = _disk_error(error)
    return UserError(
        f"{cause.filename or path}: cannot be written: {cause.strerror}: "
        "free some space and run again"
    )


def _disk_error(error: BaseException | None) -> OSError | None:
    while error is not None:
        if isinstance(error, OSError) and error.errno in _DISK_IS_FULL:
            return error
        error = error.__cause__ or error.__context__
    return None


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write UTF-8 text to `path` as a whole (temporary name, then rename)."""
    with atomic_path(path) as temporary:
        with open(temporary, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)


def write_json(path: str | os.PathLike, value) -> None:
    """Write `value` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: str | os.PathLike):
    """Read a JSON file.

    Raises:
        UserError: the file is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a JSON file ({error})") from None


def digest(value) -> str:
    """Return a short SHA-256 of a JSON-able value (options, file stamps)."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
