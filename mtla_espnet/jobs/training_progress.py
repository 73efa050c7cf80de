"""A bar and a line on the console for each epoch, read from the trainer's own log records."""

import contextlib
import logging
import re
import resource
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

_STARTED = re.compile(r"(\d+)/(\d+)epoch started")
_RESULTS = re.compile(r"(\d+)epoch results: \[train\] (.*?), \[valid\] (.*)")
_FOLLOW_S = 0.5
PROGRESS_LOGGER = "mtla_espnet.progress"  # that of `tasks.progress`, which imports torch
_VALUE = re.compile(r"(\w+)=([-+.\deE]+|nan|inf)(?=,|$)")


class TrainingProgress(logging.Handler):
    """Prints each epoch's results and the time that is left, while it is entered.

    The log gets the same line. A terminal also sees a bar of the epoch's batches.

    Args:
        console: where to print.
        unit: of the inputs that are counted, in words: s of audio, frames, tokens.
        units_an_update: `inputs` of the trainer's records count a batch; times this they are
            units an update.
    """

    def __init__(self, console: TextIO, unit: str = "inputs", units_an_update: float = 1.0):
        super().__init__(logging.INFO)
        self._console = console
        self._unit, self._units_an_update = unit, units_an_update
        self._batches = _BatchBar(console)
        self._n_epochs = 0
        self._epochs_done = 0
        self._rates: list[float] = []  # of each epoch
        self._begin: float | None = None  # the first epoch's: loading ESPnet is not training

    def __enter__(self):
        logging.getLogger().addHandler(self)
        self._batches.__enter__()
        return self

    def __exit__(self, *exception):
        self._batches.__exit__(*exception)
        if exception[0] is None and (note := late_peak(self._rates)):
            self._tell(f"Note: {note}")
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
            self._begin = self._begin or time.monotonic()
            self._batches.start(f"epoch {started[1]}/{started[2]}")
        elif results := _RESULTS.search(message):
            self._epochs_done += 1
            epoch = int(results[1])
            elapsed_s = time.monotonic() - (self._begin or time.monotonic())
            left_s = elapsed_s / self._epochs_done * (self._n_epochs - epoch)
            self._batches.start(None)
            line = (
                f"epoch {epoch}/{self._n_epochs}"
                f"  train {_summary(results[2])}  valid {_summary(results[3])}"
                f"  {self._cost(results[2])}"
                f"  {clock(elapsed_s)} passed, {clock(left_s)} left"
            )
            self._tell(line)

    def _tell(self, line: str) -> None:
        self._console.write(f"  {line}\n")
        self._console.flush()
        logging.info(line)

    def _cost(self, train: str) -> str:
        """Tell the learning rate, the throughput and the most memory so far."""
        values = dict(_VALUE.findall(train))
        told = []
        if "optim0_lr0" in values:
            told.append(f"lr {values['optim0_lr0']}")
            self._rates.append(float(values["optim0_lr0"]))
        if "inputs" in values and float(values.get("train_time", 0)):
            a_second = float(values["inputs"]) / float(values["train_time"])
            told.append(f"{a_second * self._units_an_update:.4g} {self._unit}/s")
        if "gpu_max_cached_mem_GB" in values:
            told.append(f"GPU {values['gpu_max_cached_mem_GB']} GB")
        else:
            peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # Linux: in KiB
            told.append(f"{peak_kb * 1024 / 1e9:.2f} GB")
        return " ".join(told)


def late_peak(rates: Sequence[float]) -> str | None:
    """Return a note on a schedule that was made for more updates than a training had.

    A constant rate is no schedule.

    Args:
        rates: the learning rate of each epoch.

    Example:
        >>> late_peak([0.1, 0.2, 0.1, 0.01])
        >>> late_peak([0.02, 0.04, 0.06])
        'the learning rate ends at 0.06, near its peak of 0.06: fit scheduler_conf, which counts
        updates, to the length of the training, or train more epochs'
    """
    if not rates or max(rates) < 1.05 * min(rates) or rates[-1] < 0.8 * max(rates):
        return None
    return (
        f"the learning rate ends at {rates[-1]:g}, near its peak of {max(rates):g}: fit "
        "scheduler_conf, which counts updates, to the length of the training, or train more epochs"
    )


class _BatchBar(logging.Handler):
    """A bar of the batches of an epoch, on a terminal only."""

    def __init__(self, console: TextIO):
        super().__init__(logging.DEBUG)
        self._console = console
        self._shown = console.isatty()
        self._logger = logging.getLogger(PROGRESS_LOGGER)
        self._title, self._bar = None, None

    def __enter__(self):
        if self._shown:
            self._logger.addHandler(self)
            self._logger.setLevel(logging.DEBUG)
            self._logger.propagate = False
        return self

    def __exit__(self, *_):
        self.start(None)
        if self._shown:
            self._logger.removeHandler(self)
            self._logger.setLevel(logging.NOTSET)
            self._logger.propagate = True

    def start(self, title: str | None) -> None:
        """Begin a bar at the next batch; None: there is none until the next start."""
        if self._bar is not None:
            self._bar.close()
        self._title, self._bar = title, None

    def emit(self, record: logging.LogRecord) -> None:
        """Show how far the epoch is."""
        if self._bar is None:
            import tqdm  # here: only a terminal needs it

            # Its monitor thread would be copied, dead, into every forked child.
            kind = type("Bar", (tqdm.tqdm,), {"monitor_interval": 0})
            self._bar = kind(
                total=record.total,
                desc=self._title,
                file=self._console,
                unit="batch",
                leave=False,
                miniters=1,  # batches differ in size
            )
        self._bar.update(record.batches - self._bar.n)


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
