r"""Reads Drascula: The Vampire Strikes Back, an adventure game of 1996: speech, and texts.

Layout, numbers with the most significant byte first:

    drascula.dat    tables of texts, one after another: u16 count; then for each of six languages
                    u16 size, 2 bytes, and entries: u16 size (its own two bytes too), text, NULs
    <X><n>.ALS      unsigned PCM of 8 bits, 11,025 Hz: entry n of the table that X stands for

Texts are in CP850, mostly in capitals. German writes ae, oe and ue, also among capitals.

Source of the layout: the game's engine in ScummVM, read for facts alone.
"""

import re
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mtla_espnet.files import UserError, reading

RATE_HZ = 11025
NAME = "drascula.dat"
# The first text of the first table, and how much is before it there.
_FIRST_TEXT, _BEFORE = b"THAT'S THE SECOND BIGGEST DOOR", 12
# Tables in their order, by the letters before the number of a speech file.
_TABLES = ("", "D", "B", "BJ", "E", "I", "L", "P", "T", "VB")
LANGUAGES = ("en", "es", "de", "fr", "it", "ru")
_RECORDING = re.compile(r"([A-Z]*)([0-9]+)\.ALS")


class DrasculaLine(NamedTuple):
    """A spoken text.

    Args:
        name: of its speech file, without ending.
        character: who says it, by the letters of the name.
        english: as the game shows it.
        german: the same in German.
    """

    name: str
    character: str
    english: str
    german: str


def read_lines(directory: Path) -> list[DrasculaLine]:
    """Return what is spoken and has a text in both languages, by name.

    Args:
        directory: of `drascula.dat` and the speech files.

    Raises:
        UserError: the texts cannot be read or do not parse.
    """
    path = directory / NAME
    with reading(path):
        content = path.read_bytes()
    start = content.find(_FIRST_TEXT) - _BEFORE
    if start < 0:
        raise UserError(f"{path}: has not the texts that this recipe reads")
    tables = {}
    try:
        for prefix in _TABLES:
            tables[prefix], start = _table(content, start)
    except struct.error:
        raise UserError(f"{path}: ends in a table of texts") from None
    found = []
    for file in sorted(directory.glob("*.ALS")):
        match = _RECORDING.fullmatch(file.name)
        table = tables.get(match[1]) if match else None
        if table is None or int(match[2]) >= len(table["en"]):
            continue
        english, german = (table[language][int(match[2])] for language in ("en", "de"))
        if english and german:
            found.append(DrasculaLine(file.stem, match[1] or "HERO", english, german))
    return found


def read_speech(path: Path) -> np.ndarray:
    """Return a recording: (T,) int8, at RATE_HZ.

    Raises:
        UserError: it cannot be read.
    """
    with reading(path):
        samples = np.fromfile(path, np.uint8)
    return (samples ^ 0x80).view(np.int8)


def _table(content: bytes, at: int) -> tuple[dict[str, list[str]], int]:
    """Read a table: language -> entries; and where the next one begins."""
    (count,) = struct.unpack_from(">H", content, at)
    at += 2
    table = {}
    for language in LANGUAGES:
        struct.unpack_from(">HH", content, at)
        at += 4
        table[language] = []
        for _ in range(count):
            (size,) = struct.unpack_from(">H", content, at)
            text = content[at + 2 : at + size].split(b"\0")[0]
            table[language].append(" ".join(text.decode("cp850").split()))
            at += size
    return table, at
