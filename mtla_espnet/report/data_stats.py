"""`mtla-espnet data stats`: hours, speakers and words of data directories, lengths as PNG."""

import argparse
import collections
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mtla_espnet.data.checks.check import text_tables
from mtla_espnet.data.features.durations import durations_s
from mtla_espnet.data.kaldi.tables import read_table
from mtla_espnet.files import UserError, atomic_path, if_writable

_BINS = 40


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("data_dir", type=Path, nargs="+", help="data directories")
    parser.add_argument("--png", type=Path, help="default: lengths.png in each directory")
    parser.add_argument("--nj", type=int, default=os.cpu_count() or 1, help="processes")


def run(arguments: argparse.Namespace) -> None:
    """Print the statistics of each directory and plot its lengths.

    Raises:
        UserError: a directory is not sound; or one PNG file is asked for and there are several.
    """
    if arguments.png and len(arguments.data_dir) > 1:
        raise UserError("--png names one file, and there are several directories", exit_code=2)
    for data_dir in arguments.data_dir:
        if not data_dir.is_dir():
            raise UserError(f"{data_dir}: no such directory")
        speech = (data_dir / "wav.scp").exists() or (data_dir / "feats.scp").exists()
        seconds = durations_s(data_dir, arguments.nj) if speech else {}
        print("\n".join([f"{data_dir}", *describe(data_dir, seconds)]))
        texts = text_tables(data_dir)
        words = [len(line.split()) for line in read_table(data_dir / texts[0]).values()]
        path = arguments.png or data_dir / "lengths.png"
        with if_writable():
            plot_lengths(path, data_dir.name, list(seconds.values()), words)
            print(f"  plot        {path}")


def describe(data_dir: Path, seconds: Mapping[str, float]) -> list[str]:
    """Return lines on utterances, speakers, hours and the words of each table of text.

    Args:
        data_dir: a data directory.
        seconds: utterance -> duration; empty where there is no speech.

    Raises:
        UserError: a table is malformed, or there is no text.
    """
    texts = text_tables(data_dir)
    if not texts:
        raise UserError(f"{data_dir}: has no text")
    tables = {name: read_table(data_dir / name) for name in texts}
    lines = [f"  utterances  {len(tables[texts[0]])}"]
    if (data_dir / "utt2spk").exists():
        speakers = collections.Counter(read_table(data_dir / "utt2spk").values())
        counts = f"{min(speakers.values())} to {max(speakers.values())} utterances each"
        lines.append(f"  speakers    {len(speakers)} ({counts})")
    if seconds:
        values = np.array(list(seconds.values()))
        lines.append(
            f"  speech      {values.sum() / 3600:.2f} h; {values.min():.2f} to "
            f"{values.max():.2f} s, mean {values.mean():.2f}, median {np.median(values):.2f}"
        )
    for name, table in tables.items():
        counts = collections.Counter(word for line in table.values() for word in line.split())
        letters = {letter for word in counts for letter in word}
        empty = sum(not line for line in table.values())
        lines.append(
            f"  {name:<11} {counts.total()} words, {len(counts)} different, "
            f"{sum(count == 1 for count in counts.values())} once; {len(letters)} characters"
            f"{f'; {empty} lines are empty' if empty else ''}"
        )
    return lines


def plot_lengths(path: Path, title: str, seconds: list[float], words: list[int]) -> None:
    """Draw histograms of durations and of words an utterance into a PNG file.

    Args:
        path: the file, written as a whole.
        title: above the plots.
        seconds: durations; may be empty.
        words: of the utterances.
    """
    panels = [(seconds, "seconds"), (words, "words")] if seconds else [(words, "words")]
    figure = Figure(figsize=(4.5 * len(panels), 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    (axes,) = figure.subplots(1, len(panels), squeeze=False)
    for axis, (values, unit) in zip(axes, panels, strict=True):
        most = max(values, default=0)
        one_a_word = np.arange(most + 2) - 0.5 if unit == "words" and most < _BINS else _BINS
        axis.hist(values, bins=one_a_word, rwidth=0.9, color="#0072B2")
        median = float(np.median(values)) if values else 0.0
        axis.axvline(median, color="#D55E00", label="median")
        axis.set_xlabel(f"{unit} of an utterance")
        axis.set_ylabel("utterances")
        axis.set_xlim(left=0)
        axis.legend(frameon=False)
    figure.suptitle(title)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)
