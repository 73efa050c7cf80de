"""Whole files only: temporary name then rename, and one-line user errors."""

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path


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
    temporary = path.parent / f".{path.stem}.tmp{uuid.uuid4().hex[:8]}{path.suffix}"
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


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
