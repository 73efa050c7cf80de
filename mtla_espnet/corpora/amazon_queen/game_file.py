r"""The one file of the game, `queen.1c`: its speech, and the texts that are spoken.

Layout, numbers with the most significant byte first:

    QTBL                     begins a table
    CEM10\0                   version: English, speech
    2 bytes
    1                        how speech is packed: MP3
    u16                      count of entries, each of 21 bytes:
        12 bytes             name, such as `020006J1.SB`, then zeros
        u8                   not used here
        u32, u32             where its content begins, and how long it is

A speech file is a part of a text, `<text><part>.SB`, the part in hexadecimal digits from 1. A text
is cut at each code, as `*03` or `*FL`; `*XY` has 11 more characters. What has no words counts too:

    BOB1.DOG     *03Did a parrot come through here?*04*02     part 2 is `Did a parrot ... here?`

- `<key><id>J`, `<key><id>P`: what Joe and the other say in a dialogue (`.DOG`); SSSS and XXXX in
  place of an id are the first and the later greeting.
- `<cut><index>`: a line of a cutaway (`.CUT`), whose name is padded with `_` to 5.
- `JOE<number>`: what Joe says of what he looks at, lines of `QUEEN2.JAS` from 41 on.

Source of the layout: the game's engine in ScummVM, read for facts alone.
"""

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mtla_espnet.files import UserError, reading

NAME = "queen.1c"
_MAGIC, _VERSION = b"QTBL", b"CEM10"
_HEADER_BYTES, _ENTRY_BYTES = 15, 21
_MP3 = 1
# Of a file of texts, before what its own offsets count from.
_TEXT_HEADER_BYTES = 20
_LEVEL_BYTES = 96
_JOE_OFFSET = 32
_FIRST_LOOK = 41
# Ids of the texts that the first greeting is, by who says it.
_GREETINGS = {"J": 0, "P": 1}
_CODE = re.compile(r"\*(?:XY.{11}|..)", re.DOTALL)


class SpeechFile(NamedTuple):
    """A speech file and what is said in it.

    Args:
        name: of the file, without ending.
        speaker: the character; empty in a cutaway, which does not tell.
        scene: of whom Joe meets, or the cutaway's; empty: Joe looks at something.
        text: as the game shows it.
    """

    name: str
    speaker: str
    scene: str
    text: str


class GameFile:
    """The game's file, as a table of files.

    Args:
        path: of `queen.1c`.

    Raises:
        UserError: it cannot be read, is of another version, or is cut off.
    """

    def __init__(self, path: Path):
        with reading(path):
            self._content = path.read_bytes()
        self._path = path
        head = self._content[:_HEADER_BYTES]
        if head[:4] != _MAGIC or len(head) < _HEADER_BYTES:
            raise UserError(f"{path}: does not begin with the table of {NAME}")
        if not head[4:].startswith(_VERSION) or head[12] != _MP3:
            version = head[4:10].rstrip(b"\0").decode("ascii", "replace")
            raise UserError(
                f"{path}: is version {version!r}, packed by method {head[12]}, not the English "
                f"speech as MP3 ({_VERSION.decode()}, method {_MP3}) that this recipe reads"
            )
        self._places: dict[str, tuple[int, int]] = {}
        (count,) = struct.unpack_from(">H", head, 13)
        table_end = _HEADER_BYTES + _ENTRY_BYTES * count
        if len(self._content) < table_end:
            raise UserError(f"{path}: ends in its table of {count} entries")
        table = self._content[_HEADER_BYTES:table_end]
        for number, (name, _, offset, size) in enumerate(struct.iter_unpack(">12sBII", table)):
            if offset + size > len(self._content):
                raise UserError(f"{path}: is cut off: entry {number} goes to byte {offset + size}")
            self._places[name.split(b"\0")[0].decode("ascii", "replace")] = (offset, size)

    def names(self, ending: str) -> list[str]:
        """List the files of an ending, such as `.SB`, without it, sorted."""
        return sorted(name.removesuffix(ending) for name in self._places if name.endswith(ending))

    def read(self, name: str) -> bytes:
        """Return the content of a file.

        Raises:
            UserError: it is not there.
        """
        if name not in self._places:
            raise UserError(f"{self._path}: has no {name}")
        offset, size = self._places[name]
        return self._content[offset : offset + size]

    def segments(self) -> tuple[list[SpeechFile], list[str]]:
        """Return the speech files with their texts, sorted by name, and the names of those without.

        Raises:
            UserError: a file of texts does not parse.
        """
        said = {}
        for segment in self._texts():
            for number, part in enumerate(_CODE.split(segment.text), 1):
                words = " ".join(part.split())
                if words:
                    name = f"{segment.name}{number:X}"
                    said[name] = segment._replace(name=name, text=words)
        spoken = self.names(".SB")
        return [said[name] for name in spoken if name in said], [
            name for name in spoken if name not in said
        ]

    def _texts(self) -> Iterator[SpeechFile]:
        """Yield whole texts, under the first letters of their files' names."""
        for kind, read in ((".DOG", _dialogue), (".CUT", _cutaway)):
            for name in self.names(kind):
                content = self.read(f"{name}{kind}")[_TEXT_HEADER_BYTES:]
                try:
                    yield from read(name, content)
                except (struct.error, IndexError):
                    raise UserError(f"{self._path}: {name}{kind}: ends in a text") from None
        lines = self.read("QUEEN2.JAS").decode("cp437").split("\r\n")
        for number, line in enumerate(lines, _FIRST_LOOK):
            yield SpeechFile(f"JOE{number:04d}", "JOE", "", line)


def _dialogue(name: str, content: bytes) -> Iterator[SpeechFile]:
    levels, _, key, n_joe, n_other = struct.unpack_from(">hhhhh", content)
    (other_offset,) = struct.unpack_from(">H", content, 22)
    (greetings_offset,) = struct.unpack_from(">H", content, 26)
    character = name.rstrip("0123456789")
    speakers = {"J": "JOE", "P": character}
    joe_offset = _JOE_OFFSET + _LEVEL_BYTES * abs(levels)
    for who, count, offset in (("J", n_joe, joe_offset), ("P", n_other, other_offset)):
        for _ in range(count):
            (number,) = struct.unpack_from(">h", content, offset + 2)
            text, offset = _string(content, offset + 4, align=4)
            yield SpeechFile(f"{key:02d}{number & 0xFFFF:04X}{who}", speakers[who], character, text)
            if number == _GREETINGS[who]:
                yield SpeechFile(f"{key:02d}SSSS{who}", speakers[who], character, text)
    offset = greetings_offset
    for who in "PJ":
        text, offset = _string(content, offset, align=2)
        yield SpeechFile(f"{key:02d}XXXX{who}", speakers[who], character, text)


def _cutaway(name: str, content: bytes) -> Iterator[SpeechFile]:
    offset, end = struct.unpack_from(">HH", content, 8)
    number = 0
    scene = re.match(r"[A-Z]*[0-9]*", name).group()
    while offset < end:
        text, offset = _string(content, offset, align=2 if content[offset] else 1)
        yield SpeechFile(f"{name.ljust(5, '_')}{number:02d}", "", scene, text)
        number += 1


def _string(content: bytes, offset: int, align: int) -> tuple[str, int]:
    """Read u8 length and text; return the text, and where the next begins."""
    end = offset + 1 + content[offset]
    if end > len(content):
        raise IndexError
    return content[offset + 1 : end].decode("cp437"), -(-end // align) * align
