"""Whole files only: temporary name then rename; reading with one-line user errors."""

import contextlib
import contextvars
import errno
import logging
import os
import re
import stat
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from mtla_espnet.user_error import UserError, cut

TEMPORARY = re.compile(r"\..+\.tmp[0-9a-f]{8}(\..*)?")
_DISK_IS_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# What else a place may answer that is read-only, of another user, broken or gone.
_REFUSALS = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ESTALE, errno.ENOTCONN),
    *(errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP),
}
_LONGEST_REASON = 500
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


class UnwritableError(UserError):
    """A file or a directory cannot be written where it is."""


def open_file(path: str | os.PathLike, name: str | os.PathLike | None = None) -> BinaryIO:
    """Open a file for reading, in bytes, if it is a regular one.

    A pipe would wait for its writer, and a device may never end.

    Args:
        path: the file; a link to one is followed.
        name: for messages; None: the path.

    Raises:
        UserError: it is missing, may not be read, or is a directory, a pipe or a device.
    """
    return open(open_descriptor(path, name), "rb")


def open_descriptor(path: str | os.PathLike, name: str | os.PathLike | None = None) -> int:
    """Open a file as `open_file` does, and return its descriptor, for libraries in C.

    Args:
        path: the file; a link to one is followed.
        name: for messages; None: the path.

    Raises:
        UserError: it is missing, may not be read, or is a directory, a pipe or a device.
    """
    with reading(name or path):
        try:
            # Without waiting for the other end of a pipe.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError:
            check_file(path, name)
            raise
    try:
        _check_kind(os.fstat(descriptor).st_mode, name or path)
    except UserError:
        os.close(descriptor)
        raise
    return descriptor


def check_file(path: str | os.PathLike, name: str | os.PathLike | None = None) -> None:
    """Refuse what is not a regular file, for libraries that open a file by its name.

    Args:
        path: the file; a link to one is followed.
        name: for messages; None: the path.

    Raises:
        UserError: it is missing, or is a directory, a pipe or a device.
    """
    name = name or path
    with reading(name):
        try:
            mode = os.stat(path).st_mode
        except FileNotFoundError:
            raise UserError(f"{name}: no such file") from None
    _check_kind(mode, name)


def _check_kind(mode: int, name: str | os.PathLike) -> None:
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "something else")
        raise UserError(f"{name}: is {kind}, not a file")


def read_text(path: str | os.PathLike) -> str:
    """Read a whole file of UTF-8 text; line ends stay as they are.

    Raises:
        UserError: it is missing, no regular file, cannot be read, or is not UTF-8 (with the
            line).
    """
    with open_file(path) as stream, reading(path):
        content = stream.read()
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}:{line}: not UTF-8 text ({error.reason})") from None


@contextlib.contextmanager
def reading(name: str | os.PathLike, problem: str = "cannot be read") -> Iterator[None]:
    """Turn whatever a library raises while it reads what a user gave into one UserError.

    Keep the calls of the library alone inside of it: what our own code raises there would be
    told as a fault of the file. UserErrors, interruptions and a full disk pass as they are.

    Args:
        name: of the file, with the line or key if it is known; it begins the message.
        problem: what is wrong with it; the library's reason follows, cut to 500 characters.

    Raises:
        UserError: `<name>: <problem>: <reason>`, or `<name>: no such file`.

    Example:
        >>> with reading("a.tsv:3", "no number"):
        ...     float("x")
        Traceback (most recent call last):
        mtla_espnet.user_error.UserError: a.tsv:3: no number: could not convert string to float: 'x'
    """
    try:
        yield
    except (UserError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except FileNotFoundError as error:
        missing = name if error.filename is None else os.fsdecode(error.filename)
        raise UserError(f"{missing}: no such file") from None
    except BaseException as error:  # libraries in Rust raise panics, which are no Exceptions
        if is_disk_full(error):
            raise
        raise UserError(f"{name}: {problem}: {_reason(error)}") from None


def _reason(error: BaseException) -> str:
    """Return on one line, in at most 500 characters, what an exception says."""
    if getattr(error, "strerror", None):  # also of libraries whose errors are not OSErrors
        return error.strerror
    text = " ".join(str(error).split())
    if isinstance(error, LookupError) or not text:  # a KeyError says its key alone
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return cut(text, _LONGEST_REASON)


_is_wanted: contextvars.ContextVar[Callable[[], bool] | None] = contextvars.ContextVar(
    "is_wanted", default=None
)


@contextlib.contextmanager
def while_wanted(is_wanted: Callable[[], bool]) -> Iterator[None]:
    """Ask inside, before a finished file gets its name, whether it is wanted still.

    A job on another machine may outlive the run that started it.

    Args:
        is_wanted: False: the file is left out by an exception.
    """
    token = _is_wanted.set(is_wanted)
    try:
        yield
    finally:
        _is_wanted.reset(token)


def check_wanted() -> None:
    """Check that what was made is wanted still; call it before it gets its name.

    Raises:
        UserError: it is not, see `while_wanted`.
    """
    is_wanted = _is_wanted.get()
    if is_wanted is not None and not is_wanted():
        raise UserError("the run that started this job has ended: nothing more is written")


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` on success.

    What was written is on the disk before it has its name, so that a power cut leaves no
    file of zeros. On an exception the temporary file (or directory) is removed and `path` is
    left as it was. The temporary name keeps the suffix of `path`, because
    writers such as soundfile choose the format by it.

    Args:
        path: the final file; its directory is created.

    Yields:
        The temporary path, in the same directory, so that the rename is atomic.

    Raises:
        UserError: the file cannot be written; says why.
    """
    path = Path(path)
    _check_replaceable(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / temporary_name(path)
    try:
        yield temporary
        if not temporary.is_symlink():
            _flush(temporary)
        check_wanted()
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        told = isinstance(error, OSError) and error.filename in (str(temporary), temporary)
        if told or is_disk_full(error):
            raise _unwritable(path, error) from None
        raise


def _check_replaceable(path: Path) -> None:
    """Refuse a pipe or a device, also one that a link of the system names, as `/dev/stdout`."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return  # it is not there, or told where it is written
    is_stream = stat.S_ISLNK(mode) and os.readlink(path).startswith("/proc/")
    if is_stream or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
        raise UserError(f"{path}: is no file, and cannot be replaced by one: name a file")


def _flush(path: Path) -> None:
    """Wait until the content of a file is on its disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def temporary_name(path: Path) -> str:
    """Return the name that a file has until it is whole; `TEMPORARY` matches it."""
    # Names have at most 255 bytes, and this one is longer.
    stem = path.stem.encode("utf-8", "ignore")[:100].decode("utf-8", "ignore") or "file"
    suffix = path.suffix if len(path.suffix) < 40 else ""
    return f".{stem}.tmp{uuid.uuid4().hex[:8]}{suffix}"


def is_disk_full(error: BaseException) -> bool:
    """Say whether an exception means that the disk, or what one may use of it, is full.

    Libraries may raise another one while they handle it, as PyTorch does.
    """
    return _cause(error, _DISK_IS_FULL) is not None


@contextlib.contextmanager
def writing(path: str | os.PathLike) -> Iterator[None]:
    """Tell in one line where a file or a directory cannot be written.

    Args:
        path: what the block writes.

    Raises:
        UserError: `<path>: cannot be written: <reason>`.
    """
    try:
        yield
    except OSError as error:
        raise _unwritable(path, error) from None


@contextlib.contextmanager
def if_writable() -> Iterator[None]:
    """Only warn where the block, which writes what its caller also prints, cannot write."""
    try:
        yield
    except UnwritableError as error:
        logging.warning(error)


def _unwritable(path: str | os.PathLike, error: BaseException) -> UnwritableError:
    full = _cause(error, _DISK_IS_FULL)
    advice = ": free some space and run again" if full else ""
    return UnwritableError(f"{path}: cannot be written: {_reason(full or error)}{advice}")


def place_error(error: BaseException, path: str | os.PathLike = "") -> UserError | None:
    """Return the one line for an exception whose cause is the place of a file, not the program.

    Such a place is a full disk, a directory that is read-only or of another user, or a file
    system that fails.

    Args:
        error: whatever was raised.
        path: what was written, where the exception does not say it.

    Returns:
        The error; None: the cause is another one.
    """
    full = _cause(error, _DISK_IS_FULL)
    if full:
        return _unwritable(full.filename or path, full)
    refused = _cause(error, _REFUSALS)
    if refused is None or refused.filename is None:
        return None
    name = refused.filename
    if os.path.isfile(name) and not os.access(name, os.R_OK):
        return UserError(f"{name}: cannot be read: {refused.strerror}")
    return _unwritable(name, refused)


def _cause(error: BaseException | None, numbers: set[int]) -> OSError | None:
    """Return the OSError with one of some numbers that led to an exception."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in numbers:
            return error
        error = error.__cause__ or error.__context__
    return None


def write_text(path: str | os.PathLike, text: str | Iterable[str]) -> None:
    """Write UTF-8 text to `path` as a whole (temporary name, then rename).

    Args:
        path: the file.
        text: all of it, or its parts, which need not be in memory at once.

    Raises:
        UserError: the text names a file whose name is not UTF-8.
    """
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        for part in [text] if isinstance(text, str) else text:
            try:
                stream.write(part.encode("utf-8"))
            except UnicodeEncodeError as error:
                odd = part[max(0, error.start - 40) : error.end]
                problem = f"{path}: cannot hold what is not UTF-8 text: ...{odd}: rename it"
                raise UserError(problem) from None
