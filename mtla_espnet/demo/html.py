"""What the page shows of answers: text, words over the waveform, and a table of costs."""

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from mtla_espnet.demo.models import Answer, ShownModel

_WIDTH, _HEIGHT = 1000, 60  # of the waveform's own units
_PIXELS_A_SECOND = 90


def error_html(message: str) -> str:
    """Return a message to the reader."""
    return f'<p class="mistake">{escape(message)}</p>'


def answers_html(
    answers: Sequence[tuple["ShownModel", "Answer"]], samples: np.ndarray, rate_hz: int
) -> str:
    """Return what models made of one input, one below the other, and what each cost.

    Args:
        answers: models with what they made of it.
        samples: (T,) of the recording; empty: the input was a text.
        rate_hz: of the samples.
    """
    length_s = len(samples) / rate_hz
    wave = waveform_svg(samples) if len(samples) else ""
    parts = []
    for model, answer in answers:
        parts.append(f'<section class="answer"><h3>{escape(model.name)}</h3>')
        parts.append(f'<p class="text">{escape(answer.text) or "(nothing)"}</p>')
        if wave and model.tells_times:
            parts.append(_words_html(answer, wave, length_s))
        elif wave:
            parts.append('<p class="note">This model does not tell when words are spoken.</p>')
        parts.append("</section>")
    return "".join(parts) + costs_html(answers, length_s)


def waveform_svg(samples: np.ndarray) -> str:
    """Draw the extent of (T,) samples, T >= 1, in each of up to 1,000 stretches of time.

    Example:
        >>> waveform_svg(np.array([0.0, 1.0])).count("M")
        2
    """
    loudest = float(np.abs(samples).max()) or 1.0
    middle = _HEIGHT / 2
    lines = []
    columns = np.array_split(samples / loudest, min(_WIDTH, len(samples)))
    for number, part in enumerate(columns):
        x = (number + 0.5) * _WIDTH / len(columns)
        top, bottom = middle - middle * part.max(), middle - middle * part.min()
        lines.append(f"M{x:.1f} {top:.1f}V{max(bottom, top + 0.5):.1f}")
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" aria-hidden="true">'
        f'<path d="{"".join(lines)}"/></svg>'
    )


def _words_html(answer: "Answer", wave: str, length_s: float) -> str:
    words = []
    timed = [word for piece in answer.pieces for word in piece.times]
    for number, word in enumerate(timed):
        left, width = 100 * word.start_s / length_s, 100 * (word.end_s - word.start_s) / length_s
        title = f"{word.start_s:.2f} to {word.end_s:.2f} s, confidence {word.confidence:.2f}"
        words.append(
            f'<span class="word row{number % 2}" data-start="{word.start_s:.3f}" '
            f'data-end="{word.end_s:.3f}" title="{title}" '
            f'style="left:{left:.3f}%;width:{width:.3f}%">{escape(word.text)}</span>'
        )
    pixels = round(_PIXELS_A_SECOND * length_s)
    return (
        f'<div class="wave"><div class="time" style="min-width:{pixels}px">{wave}'
        f"{''.join(words)}</div></div>"
    )


def costs_html(answers: Sequence[tuple["ShownModel", "Answer"]], length_s: float) -> str:
    """Return a table: a column a model, a row a measure."""
    rows = [
        ("time", [_seconds(answer.cost.encoder_s + answer.cost.search_s) for _, answer in answers]),
        ("encoder", [_seconds(answer.cost.encoder_s) for _, answer in answers]),
        ("search", [_seconds(answer.cost.search_s) for _, answer in answers]),
        (
            "key/value cache, at most",
            [_size(answer.cost.cache_bytes_peak) for _, answer in answers],
        ),
        ("of it the prefix", [_size(each.cost.cache_bytes_prefix_peak) for _, each in answers]),
    ]
    if length_s:
        rates = [
            f"{(answer.cost.encoder_s + answer.cost.search_s) / length_s:.3f}"
            for _, answer in answers
        ]
        rows.insert(1, (f"time / {length_s:.1f} s of audio", rates))
    head = "".join(f"<th>{escape(model.name)}</th>" for model, _ in answers)
    body = "".join(
        f"<tr><th>{escape(name)}</th>{''.join(f'<td>{value}</td>' for value in values)}</tr>"
        for name, values in rows
    )
    return f'<table class="costs"><tr><th></th>{head}</tr>{body}</table>'


def _seconds(value: float) -> str:
    return f"{value:.3f} s"


def _size(n_bytes: int | None) -> str:
    """Write a size; None is that of a decoder that keeps no such cache.

    Example:
        >>> _size(20480), _size(None)
        ('20 kB', 'not measured')
    """
    return "not measured" if n_bytes is None else f"{n_bytes / 1000:,.0f} kB"
