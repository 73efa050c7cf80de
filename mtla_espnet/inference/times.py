"""When the tokens and words of a recording are spoken, by a model's CTC layer."""

import dataclasses
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from mtla_espnet.files import UserError
from mtla_espnet.inference.speech_model import SpeechModel
from mtla_espnet.search.ctc_align import align, least_frames


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
class Posteriors:
    """What CTC says of the frames of a recording, or of a part of one.

    Args:
        log_probability: (T, V) of the tokens.
        edges_s: (T, 2) float64: where each frame starts and ends, in seconds of the recording.
    """

    log_probability: torch.Tensor
    edges_s: np.ndarray

    @classmethod
    def joined(cls, parts: Sequence["Posteriors"]) -> "Posteriors":
        """Return the frames of several parts, one after the other."""
        return cls(
            torch.cat([part.log_probability for part in parts]),
            np.concatenate([part.edges_s for part in parts]),
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
    log_probability = model.ctc_log_probability(model.prepare(name, samples))
    edges = np.linspace(start_s, end_s, len(log_probability) + 1)
    return Posteriors(log_probability, np.stack([edges[:-1], edges[1:]], axis=1))


def timed_tokens(model: SpeechModel, heard: Posteriors, token_int: Sequence[int]) -> list[Timed]:
    """Return when each token is spoken.

    Args:
        model: one with CTC over the words that are spoken.
        heard: what CTC says of the frames of the part.
        token_int: ids of the tokens. Those at the beginning that CTC does not know, such as an
            intent, have no times and are left out.

    Raises:
        UserError: there are more tokens than the frames have place for.
    """
    token_int = list(token_int)[getattr(model.model, "ctc_skip_tokens", 0) :]
    needed, there = least_frames(token_int), len(heard.log_probability)
    if needed > there:
        raise UserError(
            f"{len(token_int)} tokens need {needed} frames of the encoder, and it makes {there}: "
            "is it the text of this recording?"
        )
    spans = align(heard.log_probability, token_int, getattr(model.model, "blank_id", 0))
    return [
        Timed(
            model.model.token_list[token],
            float(heard.edges_s[span.start, 0]),
            float(heard.edges_s[span.end - 1, 1]),
            span.confidence,
        )
        for token, span in zip(token_int, spans, strict=True)
    ]


def words_of(tokens: Iterable[Timed], to_text: Callable[[list[str]], str]) -> list[Timed]:
    """Join tokens to words: what blanks part in their text.

    A word lasts from the start of its first token to the end of its last one; tokens that add
    nothing to the text but a blank are no part of it.

    Args:
        tokens: in order.
        to_text: turns the tokens of a text into it, as `tokens2text` of ESPnet's tokenizers.

    Example:
        >>> tokens = [Timed("a", 0.0, 0.1, 0.9), Timed(" ", 0.2, 0.3, 0.5), Timed("b", 1, 2, 0.8)]
        >>> [(word.text, word.start_s, word.end_s) for word in words_of(tokens, "".join)]
        [('a', 0.0, 0.1), ('b', 1, 2)]
    """
    words: list[list[Timed]] = []
    texts: list[str] = []
    open_: list[str] = []  # all tokens since the word began, blanks among them
    for token in tokens:
        text = to_text([*open_, token.text]).strip()
        if open_ and len(text.split()) > 1:
            open_, text = [], to_text([token.text]).strip()
        if not open_ and text:
            words.append([])
            texts.append("")
        if text and text != texts[-1]:
            words[-1].append(token)
            texts[-1] = text
        if text:
            open_.append(token.text)
    return [
        Timed(text, word[0].start_s, word[-1].end_s, min(token.confidence for token in word))
        for text, word in zip(texts, words, strict=True)
    ]


def times_of(
    model: SpeechModel, heard: Posteriors, token_int: Sequence[int], of: str
) -> tuple[Timed, ...]:
    """Return the times of the words or of the tokens of a text.

    Args:
        model: one with CTC over the words that are spoken.
        heard: what CTC says of the frames of the part.
        token_int: ids of the tokens of the text.
        of: `word` or `token`.

    Raises:
        UserError: there are more tokens than the frames have place for.
    """
    tokens = timed_tokens(model, heard, token_int)
    if of == "token" or model.tokenizer is None:
        return tuple(tokens)
    return tuple(words_of(tokens, model.tokenizer.tokens2text))


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
