"""AMI: from annotated segments to utterances, by the rules of Kaldi's recipe.

- A segment lasts from the first to the last time of its words and marks, not as long as
  the transcriber said.
- It is cut at `.` and `?`. A piece of more than 30 words and marks (they count in Kaldi) is
  cut at the comma nearest to its middle, and so are its parts.
- Upper case; `. , ? ! :` dropped; `-` is a space; `X_M_L` is `X. M. L`; `MM HMM` and
  `UH HUH` are written with a hyphen.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mtla_espnet.corpora.ami.annotations import Token
from mtla_espnet.data.text.spaces import plain_spaces

# How times become centiseconds: to the nearest, or as Kaldi's script cuts binary products off
# (4.35 s times 100 is 434.99..., which is 434 there).
TIMES = ("rounded", "kaldi")

_LONGEST_WORDS = 30
_STOPS = (".", "?")
_MARKS = re.compile(r"[.,?!:]")


class UtterancePiece(NamedTuple):
    """An utterance to be: normalised text, start and end in centiseconds."""

    text: str
    start_cs: int
    end_cs: int


class _TimedToken(NamedTuple):
    text: str
    is_mark: bool
    start_s: float
    end_s: float


def cut_segment(tokens: Sequence[Token], times: str = "rounded") -> list[UtterancePiece] | None:
    """Cut a segment into utterances.

    A mark or word without a time takes that of what comes before it, or at the start of the
    segment after it.

    Args:
        tokens: words and marks in their order.
        times: one of `TIMES`.

    Returns:
        The utterances, also those without text or duration, which a corpus drops; None:
        no word of the segment has a time.

    Example:
        >>> cut_segment([Token("Mm-hmm", False, 1.3, 1.62), Token(",", True, 1.62, 1.62)])
        [UtterancePiece(text='MM-HMM', start_cs=130, end_cs=162)]
    """
    timed = _with_times(tokens)
    if timed is None:
        return None
    centiseconds = {"rounded": round, "kaldi": int}[times]
    return [
        UtterancePiece(
            normalise(token.text for token in piece),
            centiseconds(start * 100),
            centiseconds(end * 100),
        )
        for piece, start, end in _cut_at_stops(timed)
    ]


def normalise(words) -> str:
    """Return the words of an utterance as they are trained and scored.

    Example:
        >>> normalise(["Uh-huh", ",", "the", "X_M_L", "anti-trust", "file"])
        'UH-HUH THE X. M. L ANTI TRUST FILE'
    """
    text = _MARKS.sub(" ", " ".join(words).upper())
    text = plain_spaces(text.replace("-", " ").replace("_", ". "))
    return text.replace("MM HMM", "MM-HMM").replace("UH HUH", "UH-HUH")


def _with_times(tokens: Sequence[Token]) -> list[_TimedToken] | None:
    known = [time for token in tokens for time in (token.start_s, token.end_s) if time is not None]
    if not known:
        return None
    latest = known[0]
    timed = []
    for token in tokens:
        start = latest if token.start_s is None else token.start_s
        end = start if token.end_s is None else token.end_s
        timed.append(_TimedToken(token.text, token.is_mark, start, end))
        latest = end
    return timed


def _cut_at_stops(tokens: list[_TimedToken]) -> Iterator[tuple[list[_TimedToken], float, float]]:
    """Yield pieces with the times of the stops around them."""
    start = min(token.start_s for token in tokens)
    piece: list[_TimedToken] = []
    for token in tokens:
        if token.is_mark and token.text in _STOPS:
            yield from _cut_at_commas(piece, start, token.start_s)
            piece, start = [], token.start_s
        else:
            piece.append(token)
    yield from _cut_at_commas(piece, start, max(token.end_s for token in tokens))


def _cut_at_commas(
    piece: list[_TimedToken], start: float, end: float
) -> Iterator[tuple[list[_TimedToken], float, float]]:
    commas = [
        place
        for place, token in enumerate(piece)
        if token.is_mark and token.text == "," and start < token.start_s < end
    ]
    if len(piece) <= _LONGEST_WORDS or not commas:
        yield piece, start, end
        return
    middle = (start + end) / 2
    place = min(commas, key=lambda comma: abs(piece[comma].start_s - middle))
    time = piece[place].start_s
    yield from _cut_at_commas(piece[:place], start, time)
    yield from _cut_at_commas(piece[place + 1 :], time, end)
