"""When the tokens and words of a recording are spoken, by a model's CTC layer."""

import dataclasses
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from mtla_espnet.files import UserError
from mtla_espnet.inference.places import pauses, places
from mtla_espnet.inference.speech_model import SpeechModel
from mtla_espnet.inference.utterance import Utterance
from mtla_espnet.search.ctc_align import Span, align, least_frames

# A part that is longer is not searched: its times are those of CTC's path.
_LONGEST_S = 60.0
# What made CTC write a word is at most so far from where it does.
_REACH_S = 1.5


@dataclasses.dataclass(frozen=True)
class Timed:
    """A token or a word, and when it is spoken.

    Args:
        text: the token, or the word.
        start_s: where it starts, in seconds of the recording.
        end_s: where it ends.
        confidence: 0 to 1; of a token the geometric mean of CTC's posteriors in its frames, of
            a word the least of its tokens.
    """

    text: str
    start_s: float
    end_s: float
    confidence: float


@dataclasses.dataclass(frozen=True)
class HeardPart:
    """A part of a recording that the encoder heard at once.

    Args:
        utterance: as the model takes it.
        samples: (N,) at the model's rate.
        start_s: where it starts in the recording, in seconds.
        end_s: where it ends.
        frames: that CTC has of it.
    """

    utterance: Utterance
    samples: np.ndarray
    start_s: float
    end_s: float
    frames: int


@dataclasses.dataclass(frozen=True)
class Posteriors:
    """What CTC says of the frames of a recording, or of a part of one.

    Args:
        log_probability: (T, V) of the tokens.
        edges_s: (T, 2) float64: where each frame starts and ends, in seconds of the recording.
        parts: that the frames are of, in order.
    """

    log_probability: torch.Tensor
    edges_s: np.ndarray
    parts: tuple[HeardPart, ...]

    @classmethod
    def joined(cls, parts: Sequence["Posteriors"]) -> "Posteriors":
        """Return the frames of several parts, one after the other."""
        return cls(
            torch.cat([part.log_probability for part in parts]),
            np.concatenate([part.edges_s for part in parts]),
            tuple(inner for part in parts for inner in part.parts),
        )


def check_times(model: SpeechModel, name: str | Path) -> None:
    """Refuse a model that cannot tell times.

    Raises:
        UserError: it has no CTC layer over the words that are spoken.
    """
    if model.task.name not in ("asr", "slu") or getattr(model.model, "ctc", None) is None:
        raise UserError(
            f"{name}: times are found by CTC over the words that are spoken, and the model has "
            "none: train it with `ctc_weight` above 0, or decode without times"
        )


def posteriors(
    model: SpeechModel, name: str, samples: np.ndarray, start_s: float, end_s: float
) -> Posteriors:
    """Return what CTC hears in a recording, or in a part of one.

    The encoder's frames are taken to be equally long and to fill the part, which is true of
    every front end but for a frame at its end.

    Args:
        model: one with CTC over the words that are spoken.
        name: of the part, for messages.
        samples: (N,) at the model's rate.
        start_s: where the part starts in the recording, in seconds.
        end_s: where it ends.

    Raises:
        UserError: the model cannot take it.
    """
    utterance = model.prepare(name, samples)
    log_probability = model.ctc_log_probability(utterance)
    edges = np.linspace(start_s, end_s, len(log_probability) + 1)
    part = HeardPart(utterance, samples, start_s, end_s, len(log_probability))
    return Posteriors(log_probability, np.stack([edges[:-1], edges[1:]], axis=1), (part,))


def _path(model: SpeechModel, heard: Posteriors, token_int: Sequence[int]) -> list[Span]:
    """Return the frames of each token on the best path of CTC.

    Args:
        model: one with CTC over the words that are spoken.
        heard: what CTC says of the frames of the part.
        token_int: ids of the tokens, that CTC knows all.

    Raises:
        UserError: there are more tokens than the frames have place for.
    """
    needed, there = least_frames(token_int), len(heard.log_probability)
    if needed > there:
        raise UserError(
            f"{len(token_int)} tokens need {needed} frames of the encoder, and it makes {there}: "
            "is it the text of this recording?"
        )
    return align(heard.log_probability, token_int, getattr(model.model, "blank_id", 0))


def words_of(
    tokens: Sequence[str], to_text: Callable[[list[str]], str]
) -> list[tuple[str, list[int]]]:
    """Join tokens to words: what blanks part in their text.

    Tokens that add nothing to the text but a blank are of no word.

    Args:
        tokens: in order.
        to_text: turns the tokens of a text into it, as `tokens2text` of ESPnet's tokenizers.

    Returns:
        Each word, and the places of its tokens.

    Example:
        >>> words_of(["a", "b", " ", "c"], "".join)
        [('ab', [0, 1]), ('c', [3])]
    """
    words: list[tuple[str, list[int]]] = []
    open_: list[str] = []  # all tokens since the word began, blanks among them
    for place, token in enumerate(tokens):
        text = to_text([*open_, token]).strip()
        if open_ and len(text.split()) > 1:
            open_, text = [], to_text([token]).strip()
        if not open_ and text:
            words.append(("", []))
        if text and text != words[-1][0]:
            words[-1] = (text, [*words[-1][1], place])
        if text:
            open_.append(token)
    return words


def times_of(
    model: SpeechModel, heard: Posteriors, token_int: Sequence[int], of: str
) -> tuple[Timed, ...]:
    """Return the times of the words or of the tokens of a text.

    They are those of the input that CTC's scores of the word depend on
    (`mtla_espnet.inference.places`); in a part of more than a minute those of CTC's path itself.

    Args:
        model: one with CTC over the words that are spoken.
        heard: what CTC says of the frames of the part.
        token_int: ids of the tokens of the text. Those at the beginning that CTC does not know,
            such as an intent, have no times and are left out.
        of: `word` or `token`.

    Raises:
        UserError: there are more tokens than the frames have place for.
    """
    token_int = list(token_int)[getattr(model.model, "ctc_skip_tokens", 0) :]
    spans = _path(model, heard, token_int)
    tokens = [model.model.token_list[token] for token in token_int]
    units = [(token, [place]) for place, token in enumerate(tokens)]
    if of == "word" and model.tokenizer is not None:
        units = words_of(tokens, model.tokenizer.tokens2text)
    labelled = [(token, span.start, span.end) for token, span in zip(token_int, spans, strict=True)]
    placed: list[np.ndarray] = []
    first = 0
    for part in heard.parts:
        last = first + part.frames
        own = [[labelled[place] for place in places] for _, places in units]
        own = [unit for unit in own if first <= unit[0][1] < last]
        if own:
            texts = [text for text, _ in units[len(placed) : len(placed) + len(own)]]
            placed += list(_places(model, part, own, texts, first, heard.edges_s))
        first = last
    return tuple(
        Timed(text, *map(float, times), min(spans[place].confidence for place in places))
        for (text, places), times in zip(units, placed, strict=True)
    )


def _places(
    model: SpeechModel,
    part: HeardPart,
    units: Sequence[Sequence[tuple[int, int, int]]],
    texts: Sequence[str],
    first: int,
    edges_s: np.ndarray,
) -> np.ndarray:
    """Return (U, 2) seconds at which units begin and end, that begin in a part.

    Args:
        model: one with CTC over the words that are spoken.
        part: of the recording.
        units: labels of each, with their first frame on CTC's path and the one after the last,
            counted from the beginning of the recording.
        texts: of the units.
        first: frame of the part, counted so.
        edges_s: of all frames.
    """
    length_s = part.end_s - part.start_s
    if length_s <= _LONGEST_S:
        inside = [
            [(label, max(a - first, 0), min(b - first, part.frames)) for label, a, b in unit]
            for unit in units
        ]
        inside = [[each for each in unit if each[1] < each[2]] for unit in inside]
        reach = _REACH_S / length_s * part.frames
        evidence = model.ctc_evidence(part.utterance, inside, reach)
        is_pause = pauses(part.samples, evidence.shape[1], length_s)
        sizes = np.array([len(text.strip("▁ ")) + 1 for text in texts])
        found = places(evidence, is_pause, sizes)
        if found is not None:
            return part.start_s + found * (length_s / evidence.shape[1])
    return np.array([(edges_s[unit[0][1], 0], edges_s[unit[-1][2] - 1, 1]) for unit in units])


def times_or_none(
    model: SpeechModel, name: str, samples: np.ndarray, bounds: tuple[float, float],
    token_int: Sequence[int], of: str,
) -> tuple[Timed, ...]:  # fmt: skip
    """Return the times of what was recognised in a part; none where they cannot be found.

    Args:
        model: one with CTC over the words that are spoken.
        name: of the part, for the log, which says why there are none.
        samples: (N,) of the part, at the model's rate.
        bounds: where the part starts and ends in the recording, in seconds.
        token_int: ids of the tokens that were recognised.
        of: `word` or `token`.
    """
    try:
        return times_of(model, posteriors(model, name, samples, *bounds), token_int, of)
    except UserError as error:
        logging.warning(f"{name}: no times: {error}")
        return ()
