"""A line on the console for each epoch, read from the trainer's own log records."""

import contextlib
import logging
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

_STARTED = re.compile(r"(\d+)/(\d+)epoch started")
_RESULTS = re.compile(r"(\d+)epoch results: \[train\] (.*?), \[valid\] (.*)")
_FOLLOW_S = 0.5
_VALUE = re.compile(r"(\w+)=([-+.\deE]+|nan|inf)(?=,|$)")


class TrainingProgress(logging.Handler):
    """Prints each epoch's results and the time that is left, while it is entered.

    Args:
        console: where to print.
    """

    def __init__(self, console: TextIO):
        super().__init__(logging.INFO)
        self._console = console
        self._n_epochs = 0
        self._epochs_done = 0
        self._begin = time.monotonic()

    def __enter__(self):
        logging.getLogger().addHandler(self)
        return self

    def __exit__(self, *_):
        logging.getLogger().removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Print a line if the record ends an epoch."""
        self.read(record.getMessage())

    @contextlib.contextmanager
    def following(self, log: Path) -> Iterator[None]:
        """Read what other processes write to a log while the block runs, from its end on."""
        with open(log, encoding="utf-8", errors="replace") as stream:
            stream.seek(0, 2)
            over = threading.Event()
            reader = threading.Thread(target=self._follow, args=(stream, over), daemon=True)
            reader.start()
            try:
                yield
            finally:
                over.set()
                reader.join()

    def _follow(self, stream: TextIO, over: threading.Event) -> None:
        line = ""
        last = False
        while not last:
            last = over.wait(_FOLLOW_S)  # what was written until now is read before the end
            while piece := stream.readline():
                line += piece
                if line.endswith("\n"):
                    self.read(line)
                    line = ""

    def read(self, message: str) -> None:
        """Print a line if a line of the log ends an epoch."""
        if started := _STARTED.search(message):
            self._n_epochs = int(started[2])
        elif results := _RESULTS.search(message):
            self._epochs_done += 1
            epoch = int(results[1])
            elapsed_s = time.monotonic() - self._begin
            left_s = elapsed_s / self._epochs_done * (self._n_epochs - epoch)
            self._console.write(
                f"  epoch {epoch}/{self._n_epochs}"
                f"  train {_summary(results[2])}  valid {_summary(results[3])}"
                f"  {clock(elapsed_s)} passed, {clock(left_s)} left\n"
            )
            self._console.flush()


def _summary(text: str) -> str:
    values = dict(_VALUE.findall(text))
    return " ".join(f"{name} {values[name]}" for name in ("loss", "acc") if name in values)


def clock(seconds: float) -> str:
    """Return minutes:seconds.

    Example:
        >>> clock(75.4)
        '1:15'
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
