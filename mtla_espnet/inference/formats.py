"""What was recognised, as text, lines of JSON, subtitles, CTM and Praat's TextGrid.

Sources: SRT as SubRip writes it; WebVTT, https://www.w3.org/TR/webvtt1; CTM as NIST's sclite reads
it (file, channel, start, duration, word, confidence); TextGrid in Praat's long text form.
"""

import dataclasses
import json
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # they load torch, and names of formats are for the help
    from mtla_espnet.inference.from_files import Piece
    from mtla_espnet.inference.times import Timed

# Of subtitles: two lines of so many characters, so many seconds, no longer pause inside.
_LINE, _LINES = 42, 2
_LONGEST_CUE_S, _PAUSE_S = 6.0, 0.8


@dataclasses.dataclass(frozen=True)
class Format:
    """A way to write recordings that were recognised.

    Args:
        suffix: of its files.
        write: turns the pieces of one recording into the text of a file.
        times: `word`: it needs the times of words; `""`: it can do without.
        by_piece: what is written of a piece does not depend on the others.
    """

    suffix: str
    write: Callable[[Sequence["Piece"]], str]
    times: str = ""
    by_piece: bool = False


def text(pieces: Sequence["Piece"]) -> str:
    """A line a piece, `name: text`; then a line for each word or token that has times."""
    lines = []
    for piece in pieces:
        lines.append(f"{piece.name}: {piece.text}\n")
        lines += [
            f"  {each.start_s:.2f}-{each.end_s:.2f} {each.confidence:.2f} {each.text}\n"
            for each in piece.times
        ]
    return "".join(lines)


def json_lines(pieces: Sequence["Piece"], ascii_only: bool = False) -> str:
    """An object a line and piece; `times` is there where there are any."""
    return "".join(json.dumps(_as_json(piece), ensure_ascii=ascii_only) + "\n" for piece in pieces)


def _as_json(piece: "Piece") -> dict:
    value = {"file": str(piece.path), "start_s": piece.start_s, "end_s": piece.end_s}
    value["text"] = piece.text
    if piece.times:
        value["times"] = [
            {
                "text": each.text,
                "start_s": round(each.start_s, 3),
                "end_s": round(each.end_s, 3),
                "confidence": round(each.confidence, 4),
            }
            for each in piece.times
        ]
    return value


def srt(pieces: Sequence["Piece"]) -> str:
    """SubRip's subtitles."""
    return "".join(
        f"{number}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{lines}\n\n"
        for number, (start, end, lines) in enumerate(_cues(pieces), 1)
    )


def webvtt(pieces: Sequence["Piece"]) -> str:
    """Subtitles for the web."""
    cues = [
        f"{_clock(start, '.')} --> {_clock(end, '.')}\n{_escaped(lines)}\n\n"
        for start, end, lines in _cues(pieces)
    ]
    return "WEBVTT\n\n" + "".join(cues)


def ctm(pieces: Sequence["Piece"]) -> str:
    """A line a word: file, channel, start, duration, word, confidence."""
    lines = []
    for piece in pieces:
        name = "_".join(piece.path.stem.split()) or "-"
        for each in piece.times:
            length = each.end_s - each.start_s
            lines.append(
                f"{name} 1 {each.start_s:.3f} {length:.3f} {each.text} {each.confidence:.4f}\n"
            )
    return "".join(lines)


def textgrid(pieces: Sequence["Piece"]) -> str:
    """Praat's TextGrid: a tier of pieces and, where there are times, one of words."""
    tiers = {"pieces": [(piece.start_s, piece.end_s, piece.text) for piece in pieces]}
    words = [(each.start_s, each.end_s, each.text) for piece in pieces for each in piece.times]
    if words:
        tiers["words"] = words
    end_s = max(piece.end_s for piece in pieces)
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', ""]
    lines += ["xmin = 0", f"xmax = {end_s:.6f}", "tiers? <exists>", f"size = {len(tiers)}"]
    lines += ["item []:"]
    for number, (name, intervals) in enumerate(tiers.items(), 1):
        filled = list(_without_gaps(intervals, end_s))
        lines += [f"    item [{number}]:", '        class = "IntervalTier"']
        lines += [f'        name = "{name}"', "        xmin = 0", f"        xmax = {end_s:.6f}"]
        lines += [f"        intervals: size = {len(filled)}"]
        for index, (start, end, label) in enumerate(filled, 1):
            quoted = label.replace('"', '""')
            lines += [f"        intervals [{index}]:", f"            xmin = {start:.6f}"]
            lines += [f"            xmax = {end:.6f}", f'            text = "{quoted}"']
    return "\n".join(lines) + "\n"


FORMATS = {
    "text": Format(".txt", text, by_piece=True),
    "json": Format(".jsonl", json_lines, by_piece=True),
    "srt": Format(".srt", srt),
    "vtt": Format(".vtt", webvtt),
    "ctm": Format(".ctm", ctm, times="word", by_piece=True),
    "textgrid": Format(".TextGrid", textgrid),
}


def _cues(pieces: Sequence["Piece"]) -> Iterator[tuple[float, float, str]]:
    """Yield start, end and lines of each subtitle: of words with times, else of whole pieces."""
    for piece in pieces:
        if piece.times:
            yield from _cues_of_words(piece.times)
        elif piece.text:
            yield piece.start_s, piece.end_s, "\n".join(textwrap.wrap(piece.text, _LINE))


def _cues_of_words(words: Sequence["Timed"]) -> Iterator[tuple[float, float, str]]:
    cue = [words[0]]
    for word in words[1:]:
        longer = textwrap.wrap(" ".join(each.text for each in (*cue, word)), _LINE)
        ends = (
            len(longer) > _LINES
            or word.end_s - cue[0].start_s > _LONGEST_CUE_S
            or word.start_s - cue[-1].end_s > _PAUSE_S
        )
        if ends:
            yield _cue(cue)
            cue = []
        cue.append(word)
    yield _cue(cue)


def _cue(words: Sequence["Timed"]) -> tuple[float, float, str]:
    lines = textwrap.wrap(" ".join(word.text for word in words), _LINE)
    return words[0].start_s, words[-1].end_s, "\n".join(lines)


def _clock(seconds: float, point: str) -> str:
    """Return hours, minutes, seconds and milliseconds.

    Example:
        >>> _clock(3661.5, ",")
        '01:01:01,500'
    """
    whole, thousandth = divmod(round(seconds * 1000), 1000)
    minutes, second = divmod(whole, 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour:02}:{minute:02}:{second:02}{point}{thousandth:03}"


def _escaped(lines: str) -> str:
    return lines.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _without_gaps(
    intervals: Sequence[tuple[float, float, str]], end_s: float
) -> Iterator[tuple[float, float, str]]:
    """Yield intervals that follow one another from 0 to the end, with empty ones between."""
    now = 0.0
    for start, end, label in intervals:
        if start > now:
            yield now, start, ""
        if end > start:
            yield start, end, label
            now = end
    if end_s > now:
        yield now, end_s, ""
