"""What a model makes of recordings, long ones in pieces, and of texts."""

import dataclasses
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from mtla_espnet.data.audio.cut_recordings import cut
from mtla_espnet.files import UserError
from mtla_espnet.inference.meter import Meter
from mtla_espnet.inference.samples import resampled
from mtla_espnet.inference.speech_activity import by_silero, speech_bounds
from mtla_espnet.inference.speech_model import SpeechModel
from mtla_espnet.inference.times import Timed, times_or_none
from mtla_espnet.inference.trained_model import TrainedModel
from mtla_espnet.inference.utterance import Outcome

LONGEST_S = 20.0


@dataclasses.dataclass(frozen=True)
class Piece:
    """What a model makes of a recording, or of a part of one.

    Args:
        path: the recording.
        start_s: where the part starts, in seconds of the recording.
        end_s: where it ends.
        text: what was recognised, translated or understood.
        whole: the part is the whole recording.
        times: of its words or tokens, where they were asked for and found.
    """

    path: Path
    start_s: float
    end_s: float
    text: str
    whole: bool
    times: tuple[Timed, ...] = ()

    @property
    def name(self) -> str:
        """The path, with the times of a part."""
        times = "" if self.whole else f" {self.start_s:.2f}-{self.end_s:.2f}"
        return f"{self.path}{times}"


def check_cut(cut_at: str, longest_s: float) -> None:
    """Refuse a way to cut recordings that means nothing.

    Raises:
        UserError: `cut_at` is unknown, or `longest_s` too short.
        ModuleNotFoundError: it is `vad`, and `silero-vad` is not installed.
    """
    cut(np.zeros(1), 1, longest_s, "silence" if cut_at == "vad" else cut_at)
    if cut_at == "vad":
        by_silero()


def pieces_of(
    recordings: Iterable[tuple[Path, tuple[np.ndarray, int]]],
    rate_hz: int,
    cut_at: str,
    longest_s: float,
) -> Iterator[tuple[Piece, np.ndarray]]:
    """Cut recordings, one in memory at a time.

    Args:
        recordings: each with its (T,) float32 samples and their rate.
        rate_hz: that the model takes.
        cut_at: where longer recordings are cut: `silence`, `length` or `none`; `vad`: all are cut
            into what Silero VAD finds to be speech.
        longest_s: of a piece, in seconds.

    Yields:
        Pieces without text, and their samples at the model's rate.

    Raises:
        UserError: `cut_at` or `longest_s` means nothing.
    """
    for path, (samples, own_rate_hz) in recordings:
        if cut_at == "vad":
            bounds = speech_bounds(samples, own_rate_hz, longest_s, by_silero())
            if not bounds:
                logging.warning(f"{path}: no speech was found")
        else:
            bounds = cut(samples, own_rate_hz, longest_s, cut_at)
        for start, end in bounds:
            times = start / own_rate_hz, end / own_rate_hz
            piece = Piece(path, *times, text="", whole=bounds == [(0, len(samples))])
            yield piece, resampled(samples[start:end], own_rate_hz, rate_hz)


def recognised(
    model: SpeechModel,
    pieces: Iterable[tuple[Piece, np.ndarray]],
    refuse: Callable[[Path, UserError], None],
    times: str | None = None,
    batch_size: int = 8,
    meter: Meter | None = None,
) -> Iterator[Piece]:
    """Recognise, translate or understand pieces of recordings.

    Args:
        model: one that hears.
        pieces: without text, and their samples at the model's rate.
        refuse: is given the recording of a piece that cannot be recognised, and why; it may
            raise the error.
        times: `word` or `token`: find when each is spoken, by CTC. None: do not.
        batch_size: pieces that are searched together.
        meter: adds up what the search costs.

    Yields:
        The pieces with their texts, but for those that were refused.
    """
    for batch in itertools.batched(pieces, batch_size):
        outcomes = outcomes_of(model, [(piece.name, wave) for piece, wave in batch], meter)
        for (piece, wave), outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, UserError):
                refuse(piece.path, UserError(f"{piece.name}: {outcome}"))
                continue
            if not outcome:
                logging.warning(f"{piece.path}: nothing was recognised from {piece.start_s:.2f} s")
            text = (outcome[0][0] or "") if outcome else ""
            timed: tuple[Timed, ...] = ()
            if times and outcome:
                bounds, token_int = (piece.start_s, piece.end_s), outcome[0][2]
                timed = times_or_none(model, piece.name, wave, bounds, token_int, times)
            yield dataclasses.replace(piece, text=text, times=timed)


def outcomes_of(
    model: TrainedModel, values: Sequence[tuple[str, object]], meter: Meter | None = None
) -> list[Outcome]:
    """Return what a model makes of named inputs, in one search.

    Args:
        model: of any task.
        values: names for messages, and inputs that `prepare` of the model takes.
        meter: adds up what it costs.

    Returns:
        Of each input the n best hypotheses, or why the model cannot take it.
    """
    found: dict[int, Outcome] = {}
    prepared = {}
    for number, (name, value) in enumerate(values):
        try:
            prepared[number] = model.prepare(name, value)
        except UserError as error:
            found[number] = error
    measured = {} if meter is None else {"meter": meter}
    found |= zip(prepared, model.decode_prepared(list(prepared.values()), **measured), strict=True)
    return [found[number] for number in range(len(values))]
