"""Kaldi tables: `text`, `wav.scp`, `utt2spk` and the like.

A table has one entry a line, `<id> <value>`, in UTF-8 with LF line ends. Ids are
unique and sorted by their bytes (the order of `sort` under LC_ALL=C, which is the
order of code points), so tables can be walked side by side.
"""

import io
import os
import re
from collections.abc import Iterator, Mapping

from mtla_espnet.files import UserError, open_file, read_text, write_text

# The only characters that separate an id from its value.
_BLANKS = " \t"
# What nobody sees, and programs take for something else: control characters (but the tab, which
# is a blank), and the mark of byte order.
INVISIBLE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\ufeff]")


def read_table(path: str | os.PathLike) -> dict[str, str]:
    """Read a table.

    Args:
        path: the file.

    Returns:
        Id -> value, in the order of the file: entry i is line i + 1. The value is
        the rest of the line without the blanks around it; it is empty where a line
        holds an id only.

    Raises:
        UserError: the file is missing, or a line has no id, a doubled, unsorted or
            one with an invisible character, a CR, or no newline at its end; the message starts
            with `path:line`.
    """
    try:
        return _read_entries(path)
    except UserError:
        read_text(path)  # a line that is not UTF-8 is told first, wherever it is
        raise


def _read_entries(path: str | os.PathLike) -> dict[str, str]:
    table: dict[str, str] = {}
    previous = ""
    for number, line in enumerate(_read_lines(path), 1):
        where = f"{path}:{number}"
        key, value = _split_entry(line.removesuffix("\n"))
        if not line.endswith("\n"):
            raise UserError(f"{where}: no newline at the end: the file may have been cut off")
        if "\r" in line:
            raise UserError(f"{where}: has a carriage return: write LF line ends")
        if not key:
            raise UserError(f"{where}: the line does not start with an id")
        if invisible_in(key):
            raise UserError(f"{where}: id {key!r} {invisible_in(key)}: remove it")
        if key <= previous:
            problem = f"id {key!r} is there twice" if key in table else f"{key!r} < {previous!r}"
            raise UserError(
                f"{where}: file is not sorted or has duplicates: {problem} "
                "(make ids unique and sort by id under LC_ALL=C)"
            )
        table[key] = value
        previous = key
    return table


def write_table(path: str | os.PathLike, table: Mapping[str, object]) -> None:
    """Write a table as a whole, sorted by id.

    Args:
        path: the file; its directory is created.
        table: id -> value, written as `str(value)` without the blanks around it.

    Raises:
        UserError: an id is unusable (`problem_of_id`), or a value has a line end.
    """

    def lines() -> Iterator[str]:
        for key in sorted(table):
            value = str(table[key])
            problem = problem_of_id(key)
            if problem:
                raise UserError(f"{path}: id {key!r} {problem}")
            if "\n" in value or "\r" in value:
                raise UserError(f"{path}: the value of {key!r} has a line end: {value!r}")
            yield f"{key} {value.strip(_BLANKS)}".rstrip(_BLANKS) + "\n"

    write_text(path, lines())


def problem_of_id(key: str) -> str:
    r"""Say why a text cannot be an id; empty where it can.

    Example:
        >>> problem_of_id("utt-1"), problem_of_id("utt 1"), problem_of_id("utt\x001")
        ('', 'has white space', 'has the invisible character U+0000')
    """
    if not key:
        return "is empty"
    return "has white space" if key.split() != [key] else invisible_in(key)


def invisible_in(text: str) -> str:
    r"""Say which character of a text nobody sees and programs misread; empty where none is.

    Example:
        >>> invisible_in("caf\u00e9"), invisible_in("caf\u00e9\x7f")
        ('', 'has the invisible character U+007F')
    """
    found = None if text.isprintable() else INVISIBLE.search(text)
    return f"has the invisible character U+{ord(found[0]):04X}" if found else ""


def spk2utt_from(utt2spk: Mapping[str, str]) -> dict[str, str]:
    """Turn utterance -> speaker into speaker -> its utterances, sorted and joined by blanks.

    Example:
        >>> spk2utt_from({"b-2": "b", "a-1": "a", "b-1": "b"})
        {'a': 'a-1', 'b': 'b-1 b-2'}
    """
    utterances: dict[str, list[str]] = {}
    for utterance in sorted(utt2spk):
        utterances.setdefault(utt2spk[utterance], []).append(utterance)
    return {speaker: " ".join(utterances[speaker]) for speaker in sorted(utterances)}


def _split_entry(line: str) -> tuple[str, str]:
    """Split a line at its first blank; the id is empty when the line starts with one."""
    end = next((i for i, character in enumerate(line) if character in _BLANKS), len(line))
    return line[:end], line[end:].strip(_BLANKS)


def _read_lines(path: str | os.PathLike) -> Iterator[str]:
    """Yield the lines of a UTF-8 file, split at LF only, which they keep."""
    try:
        with io.TextIOWrapper(open_file(path), encoding="utf-8", newline="\n") as stream:
            yield from stream
    except UnicodeDecodeError:
        read_text(path)  # which names the line
        raise
