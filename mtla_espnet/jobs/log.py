"""Log lines of a recipe on the console, and the log file of a job."""

import contextlib
import datetime
import logging
import os
import socket
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from mtla_espnet.files import UserError, is_disk_full, place_error, writing


class JobFailed(UserError):
    """A job failed for a reason that its log tells.

    Args:
        message: one line, which names the log.
        log: the log file.
    """

    def __init__(self, message: str, log: Path | None = None):
        super().__init__(message)
        self.log = log

    def among(self, n_jobs: int, logs: Path) -> "JobFailed":
        """Return the failure of one of several jobs, as Kaldi's run.pl words it.

        Args:
            n_jobs: how many there were; the first failure stops the others.
            logs: pattern of their log files.
        """
        if n_jobs == 1:
            return self
        return JobFailed(f"run.pl: 1 / {n_jobs} failed, log is in {logs}", self.log)


_script = "asr.sh"


def script_of_lines(name: str) -> None:
    """Name the recipe's script, for the lines of `say` from now on."""
    global _script
    _script = name


def say(message: str) -> None:
    """Print a line in the form of ESPnet's recipes.

    The file is the recipe's script; the number is the line that calls, in this package.
    """
    now = datetime.datetime.now().isoformat(timespec="seconds")
    line = sys._getframe(1).f_lineno
    print(f"{now} ({_script}:{line}:main) {message}", flush=True)


@contextlib.contextmanager
def job_log(
    path: Path, command: str, append: bool = False, silent: bool = True
) -> Iterator[TextIO]:
    """Send what the block logs and prints to a file, in the form of Kaldi's job logs.

    Args:
        path: the log file; its directory is created.
        command: what runs, for the first line.
        append: keep what the file holds.
        silent: also what is printed goes there, also by libraries, and only the yielded
            stream reaches the console. False: what is logged goes there beside the console.

    Yields:
        The console.

    Raises:
        JobFailed: the block failed; its traceback is in the log.
        UserError: the block raised one; it passes as it is.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = open(path, "a" if append else "w", encoding="utf-8", buffering=1)
    begin = time.monotonic()
    with stream:
        stream.write(f"# {command}\n# Started at {_now()}\n#\n")
        code = 1
        try:
            with _logging_to(stream, alone=silent):
                if silent:
                    with _output_to(stream) as console:
                        yield console
                else:
                    yield sys.stderr
            code = 0
        except UserError as error:
            _note(stream, f"error: {error}\n")
            raise
        except Exception as error:
            _note(stream, traceback.format_exc())
            if told := place_error(error, path.parent):
                raise told from None
            raise JobFailed(f"run.pl: job failed, log is in {path}", path) from None
        finally:
            elapsed = round(time.monotonic() - begin)
            if code == 0 or isinstance(sys.exception(), Exception):  # not killed
                torch = sys.modules.get("torch")  # a job that never loads it has one thread
                threads = torch.get_num_threads() if torch else 1
                _note(
                    stream,
                    f"# Accounting: time={elapsed} threads={threads}\n"
                    f"# Ended (code {code}) at {_now()}, elapsed time {elapsed} seconds\n",
                )


def _note(stream: TextIO, text: str) -> None:
    """Write the end of a log, if there is room for it."""
    with contextlib.suppress(OSError):
        stream.write(text)


class _LogHandler(logging.StreamHandler):
    """Ends the job where there is no room for its log, instead of complaining at each line."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        if is_disk_full(sys.exception()):
            raise
        super().handleError(record)


def _now() -> str:
    return datetime.datetime.now().strftime("%a %b %e %H:%M:%S %Y")


@contextlib.contextmanager
def _logging_to(stream: TextIO, alone: bool) -> Iterator[None]:
    """Send the root logger, and warnings, to `stream`, alone or beside where they go.

    ESPnet calls `logging.basicConfig`, which acts once in a process. A handler of our own
    is there first, so that it never acts and each job has its log.
    """
    host = socket.gethostname().split(".")[0]
    form = f"[{host}] %(asctime)s (%(module)s:%(lineno)d) %(levelname)s: %(message)s"
    handler = _LogHandler(stream)
    handler.setFormatter(logging.Formatter(form))
    root = logging.getLogger()
    old_handlers, old_level = root.handlers[:], root.level
    root.handlers[:] = [handler] if alone else [*old_handlers, handler]
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.handlers[:] = old_handlers
        root.setLevel(old_level)


@contextlib.contextmanager
def _output_to(stream: TextIO) -> Iterator[TextIO]:
    """Send stdout and stderr to `stream`, below Python too; yield the console of before."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    with open(os.dup(2), "w", encoding="utf-8", buffering=1) as console:
        try:
            os.dup2(stream.fileno(), 1)
            os.dup2(stream.fileno(), 2)
            with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
                yield console
        finally:
            for number, copy in zip((1, 2), saved, strict=True):
                os.dup2(copy, number)
                os.close(copy)


def tail(path: Path, n_lines: int = 20) -> str:
    """Return the last lines of a log; empty when it cannot be read."""
    try:
        return "".join(
            path.read_text(encoding="utf-8", errors="replace").splitlines(True)[-n_lines:]
        )
    except OSError:
        return ""
