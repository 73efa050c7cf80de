"""The game's one file, written by its layout."""

import io
import struct

import numpy as np
import soundfile


def mp3(seconds=1.0):
    """A tone of the game's rate, as MP3."""
    stream = io.BytesIO()
    samples = 0.1 * np.sin(np.arange(round(11025 * seconds)) * 0.3)
    soundfile.write(stream, samples, 11025, format="MP3")
    return stream.getvalue()


def _padded(text, before, align):
    data = before + bytes([len(text)]) + text.encode("cp437")
    return data + bytes(-len(data) % align)


def dialogue(key, joe, other, greetings=("", ""), levels=2):
    """A `.DOG`: id -> text of Joe and of the other, and their later greetings."""
    start = 32 + 96 * levels
    tables = [
        b"".join(_padded(text, struct.pack(">hh", 0, number), 4) for number, text in said.items())
        for said in (joe, other)
    ]
    ends = b"".join(_padded(text, b"", 2) for text in greetings)
    offsets = [start + len(tables[0]), start + len(tables[0]) + len(tables[1])]
    head = bytearray(start)
    struct.pack_into(">hhhhh", head, 0, -levels, 0, key, len(joe), len(other))
    struct.pack_into(">H", head, 22, offsets[0])
    struct.pack_into(">H", head, 26, offsets[1])
    return bytes(20) + bytes(head) + b"".join(tables) + ends


def cutaway(*lines):
    """A `.CUT`; an empty line is one byte, which moves what follows."""
    strings = b""
    for line in lines:
        strings += bytes([len(line)]) + line.encode("cp437")
        strings += bytes(len(strings) % 2 if line else 0)
    return bytes(20) + bytes(8) + struct.pack(">HH", 12, 12 + len(strings)) + strings


def game(files, version=b"CEM10\0", method=1):
    """The whole of it: name -> content."""
    begin = 15 + 21 * len(files)
    head = b"QTBL" + version + bytes(2) + bytes([method]) + struct.pack(">H", len(files))
    entries, contents = b"", b""
    for name, content in files.items():
        place = begin + len(contents)
        entries += struct.pack(">12sBII", name.encode(), 0, place, len(content))
        contents += content
    return head + entries + contents
