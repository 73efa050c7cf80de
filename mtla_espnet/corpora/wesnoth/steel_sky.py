r"""Reads Beneath a Steel Sky, an adventure game of 1994: its speech, and what is said.

Layout, numbers with the least significant byte first:

    sky.dnr     u32 count of files, then of each u16 number, u24 place, u24 size. With its highest
                bit a place counts 16 bytes; of a size the lowest 22 bits count, its highest bit
                says that the file is never packed, the next one that its header is not kept.
    sky.dsk     the files; one is packed if bit 7 of its first u16 is set: a header of 22 bytes,
                then what `rnc` unpacks

- A text is known by its section (0 to 7) and its number there. The speech of text t of section s
  is file 50000 + _FIRST[s] + t: the header, then unsigned PCM of 8 bits, 11,025 Hz.
- The texts of a section are file 60600 + s in English, 60608 + s in German: u16 where the steps
  begin, u16 where the bits begin, then a u16 for each block of 32 texts: its size. A step is the
  size of a text, of one byte; with its highest bit it counts 8. Sizes are of 2 bits. The codes of
  the characters are read from the most significant bit.
- The codes are not in the game but in the program that runs it, ScummVM: a tree of nodes of 3
  bytes, left, right and character, the root first. In a leaf left and right are 0. The character
  0 ends a text.

Source of the layout: the game's engine in ScummVM, read for facts alone.
"""

import re
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mtla_espnet.corpora.wesnoth import rnc
from mtla_espnet.files import UserError, reading

RATE_HZ = 11025
INDEX, FILES = "sky.dnr", "sky.dsk"
_HEADER_BYTES = 22
_SPEECH, _TEXTS = 50000, 60600
LANGUAGES = {"en": 0, "de": 1}
_FIRST = (0, 600, 1100, 2430, 3380, 4530, 5080, 5230)
# How the tree begins; that of this game's last version is the first in the program.
_TREE = bytes((1, 20, 0, 2, 7, 0, 3, 4, 0, 0, 0, 32))
_GERMAN = str.maketrans("})*#(~\x7f", "ÜöäüßÄÖ")
_QUOTED = re.compile(r"`([^`']*)'")
_BLOCK = 32


class SkyLine(NamedTuple):
    """A spoken text.

    Args:
        number: of its speech file.
        section: of the game.
        english: as the game shows it.
        german: the same in German.
    """

    number: int
    section: int
    english: str
    german: str


class SteelSky:
    """The game.

    Args:
        directory: of `sky.dnr` and `sky.dsk`.

    Raises:
        UserError: they cannot be read, or are cut off.
    """

    def __init__(self, directory: Path):
        self.path = directory / FILES
        index = directory / INDEX
        with reading(index):
            table = index.read_bytes()
        with reading(self.path):
            self._content = self.path.read_bytes()
        count = int.from_bytes(table[:4], "little")
        if len(table) != 4 + 8 * count or not count:
            raise UserError(f"{index}: is not the index of the game: {len(table)} bytes")
        self._places: dict[int, tuple[int, int, int]] = {}
        for at in range(4, len(table), 8):
            number, place, size = (
                int.from_bytes(table[at + first : at + last], "little")
                for first, last in ((0, 2), (2, 5), (5, 8))
            )
            if place >> 23:
                place = (place & 0x7FFFFF) << 4
            flags, size = size >> 22, size & 0x3FFFFF
            if place + size > len(self._content):
                raise UserError(f"{self.path}: is cut off: file {number} goes to {place + size}")
            self._places[number] = (place, size, flags)

    def lines(self, program: Path) -> list[SkyLine]:
        """Return what is spoken and has a text in both languages, by number.

        Args:
            program: ScummVM, which has the codes of the characters.

        Raises:
            UserError: it has none, or a text does not parse.
        """
        tree = read_tree(program)
        texts = {}
        found = []
        for number in sorted(each - _SPEECH for each in self._places):
            if not 0 <= number < _TEXTS - _SPEECH:
                continue
            section = max(each for each, first in enumerate(_FIRST) if first <= number)
            for language, place in LANGUAGES.items():
                name = _TEXTS + 8 * place + section
                if (language, section) not in texts:
                    texts[language, section] = self.read(name) if name in self._places else b""
            english, german = (
                read_text(texts[language, section], number - _FIRST[section], tree)
                for language in LANGUAGES
            )
            if english.strip() and german.strip():
                german = german.translate(_GERMAN)
                found.append(SkyLine(number, section, _written(english), _written(german)))
        return found

    def speech(self, number: int) -> np.ndarray:
        """Return the recording of a line: (T,) int8, at RATE_HZ."""
        samples = np.frombuffer(self.read(_SPEECH + number)[_HEADER_BYTES:], np.uint8)
        return (samples ^ 0x80).view(np.int8)

    def read(self, number: int) -> bytes:
        """Return a file, unpacked.

        Raises:
            UserError: it is not there, or is damaged.
        """
        if number not in self._places:
            raise UserError(f"{self.path}: has no file {number}")
        place, size, flags = self._places[number]
        data = self._content[place : place + size]
        if flags & 2 or len(data) < _HEADER_BYTES or not data[0] & 0x80:
            return data
        unpacked = rnc.unpack(data[_HEADER_BYTES:], f"{self.path}: file {number}")
        return unpacked if flags & 1 else data[:_HEADER_BYTES] + unpacked


def read_tree(program: Path) -> bytes:
    """Return the codes of the characters, out of ScummVM.

    Raises:
        UserError: it cannot be read, or has none.
    """
    with reading(program):
        content = program.read_bytes()
    start = content.find(_TREE)
    if start < 0:
        raise UserError(f"{program}: has no codes of the game's characters")
    nodes, missing = 0, 1
    while missing:
        left, right, _ = content[start + 3 * nodes : start + 3 * nodes + 3]
        nodes += 1
        missing += 1 if left or right else -1
    return content[start : start + 3 * nodes]


def read_text(texts: bytes, number: int, tree: bytes) -> str:
    """Return a text of a section; empty where it has none of that number.

    Args:
        texts: the section's file.
        number: of the text.
        tree: by `read_tree`.
    """
    block, place = divmod(number, _BLOCK)
    characters = bytearray()
    try:
        steps, bits = struct.unpack_from("<HH", texts)
        at = sum(struct.unpack_from(f"<{block}H", texts, 4))
        for step in texts[steps + _BLOCK * block :][:place]:
            at += (step & 0x7F) << 3 if step & 0x80 else step
        bit = 2 * at
        while True:
            node = 0
            while tree[3 * node] or tree[3 * node + 1]:
                right = texts[bits + (bit >> 3)] >> (7 - (bit & 7)) & 1
                node = tree[3 * node + right]
                bit += 1
            if not tree[3 * node + 2]:
                return characters.decode("latin-1")
            characters.append(tree[3 * node + 2])
    except (IndexError, struct.error):
        return ""


def _written(text: str) -> str:
    """Return a text with usual quotation marks and blanks.

    Example:
        >>> print(_written("The  `best' of `em"))
        The "best" of 'em
    """
    return " ".join(_QUOTED.sub(r'"\1"', text).replace("`", "'").split())
