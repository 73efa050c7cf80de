"""Stamps of the files that a table points to: what tells that a recording changed.

A stamp is cheap, a call of `stat`, where a digest would read hours of audio.
"""

import io
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from mtla_espnet.files import open_file

# What follows the file in `feats.ark:25`, `feats.zip:40:5` or `feats.ark:25[0:9]`.
_PLACE = re.compile(r":\d+(:\d+)?(\[.*\])?$")
_GONE = "-"


def is_table_of_places(path: Path) -> bool:
    """Say whether the values of a table are files, or places in files."""
    return path.name in ("wav.scp", "feats.scp")


def files_of(table: Path) -> list[str]:
    """Return the files that a table points to, each once, sorted; none of commands.

    Args:
        table: with an id and a place a line; what is malformed is left out.
    """
    with io.TextIOWrapper(open_file(table), "utf-8", errors="surrogateescape") as stream:
        entries = {place[0].rstrip() for line in stream if (place := line.split(None, 1)[1:])}
    others = {entry for entry in entries if ":" in entry or entry[-1] == "|"}
    inside = {_PLACE.sub("", entry) for entry in others if entry[-1] != "|"}
    return sorted((entries - others) | inside)


def stamps(paths: Iterable[str | os.PathLike]) -> str:
    """Return size and time of change of some files, or directories, in their order."""
    found = []
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            found.append(_GONE)
        else:
            found.append(f"{status.st_size}:{status.st_mtime_ns}")
    return " ".join(found)


def first_changed(
    paths: Sequence[str | os.PathLike], before: str, now: str, may_be_gone: bool
) -> str | None:
    """Name the first of some files whose stamp is not as it was; None: all are.

    Args:
        paths: the files, for which there were as many stamps before.
        before: what `stamps` returned then.
        now: what it returns now.
        may_be_gone: a file that is no longer there is not a change.

    Returns:
        The file; where the number of files is another one, the first.

    Example:
        >>> first_changed(["a", "b"], "1:1 2:1", "- 2:5", may_be_gone=True)
        'b'
    """
    if before == now:
        return None
    stamps_before = before.split(" ")
    if len(stamps_before) != len(paths):
        return os.fspath(paths[0]) if paths else None
    for path, old, new in zip(paths, stamps_before, now.split(" "), strict=True):
        if old != new and not (may_be_gone and new == _GONE):
            return os.fspath(path)
    return None
