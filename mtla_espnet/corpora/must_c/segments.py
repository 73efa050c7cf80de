r"""MuST-C's list of segments: YAML, an item a segment, line or lines of its own.

    - {duration: 2.5, offset: 7.25, rW: 6, uW: 0, speaker_id: spk.901, wav: ted_901.wav}

The order of the keys varies, `rW` and `uW` may lack. The list of the training set has 230,000
items: it is parsed in blocks of items, by libyaml where PyYAML has it.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mtla_espnet.corpora.shared.raw_files import parse_seconds, read_lines
from mtla_espnet.files import UserError
from mtla_espnet.jobs.parallel import run_jobs
from mtla_espnet.yaml_files import parse_yaml

_ITEMS_PER_BLOCK = 4000
_WAV = re.compile(r"(?P<stem>ted_(?P<number>[0-9]+))\.wav")


class TalkSegment(NamedTuple):
    """A segment of a talk, and the line of the list that it begins on."""

    wav: str
    talk: int
    offset_s: float
    duration_s: float
    line: int


class _TalkLines(NamedTuple):
    path: Path
    text: str
    # Where its items begin, from 1.
    lines: list[int]


def read_talk_segments(path: Path, nj: int, label: str | None) -> list[TalkSegment]:
    """Read the segments of a set, in the order of the list.

    Args:
        path: the YAML file.
        nj: processes that parse blocks side by side.
        label: of a progress bar; None: no bar.

    Raises:
        UserError: the file is missing, is not YAML or not a list of segments, or a segment
            lacks a key or has a wrong value (`path:line`).
    """
    parsed = run_jobs(_parse, list(_blocks(path)), max(1, nj), progress=label)
    return [segment for block in parsed for segment in block]


def _blocks(path: Path) -> Iterator[_TalkLines]:
    """Yield the file in blocks that begin with an item."""
    text: list[str] = []
    lines: list[int] = []
    for number, line in enumerate(read_lines(path, "MUST_C"), 1):
        if line.startswith("-") and line != "---":
            if len(lines) == _ITEMS_PER_BLOCK:
                yield _TalkLines(path, "\n".join(text), lines)
                text, lines = [], []
            lines.append(number)
        elif not lines and line.strip() and not line.startswith(("#", "---", "%")):
            raise UserError(f"{path}:{number}: not the start of a segment (`- {{...}}`)")
        if lines:
            text.append(line)
    if lines:
        yield _TalkLines(path, "\n".join(text), lines)


def _parse(block: _TalkLines) -> list[TalkSegment]:
    path, first = block.path, block.lines[0]
    items = parse_yaml(block.text, path, first)
    if not isinstance(items, list) or len(items) != len(block.lines):
        raise UserError(f"{path}:{first}: not a list with one segment an item")
    return [_segment(path, line, item) for line, item in zip(block.lines, items, strict=True)]


def _segment(path: Path, line: int, item) -> TalkSegment:
    where = f"{path}:{line}"
    if not isinstance(item, dict):
        raise UserError(f"{where}: a segment is `{{duration: ..., offset: ..., wav: ...}}`")
    times = [parse_seconds(item.get(key), where, key) for key in ("offset", "duration")]
    match = _WAV.fullmatch(str(item.get("wav")))
    if match is None:
        raise UserError(f"{where}: wav must be `ted_<number>.wav`, not {item.get('wav')!r}")
    return TalkSegment(match[0], int(match["number"]), *times, line)
