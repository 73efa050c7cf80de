"""Is a sound file as long as it says? libsndfile reads most truncated ones without a word."""

import os
import re

import soundfile

from mtla_espnet.files import UserError

# libsndfile's remark on a chunk that is longer than its file (wav, aiff, au, w64, rf64).
_SHORT_CHUNK = re.compile(
    r"^ *(?:data|SSND|Data Size|riff|Riff size) *: (\d+) \(should be (\d+)\)$", re.MULTILINE
)
# A program that writes to a pipe does not know the length: it declares one near 2 or 4 GiB.
_UNKNOWN_BYTES = 0x7F000000
_NIST_FIELD = re.compile(rb"^(\w+) -i (\d+)$", re.MULTILINE)
_LONGEST_OGG_PAGE_BYTES = 27 + 255 + 255 * 255


def check_length(path: str, sound: soundfile.SoundFile) -> None:
    """Refuse a truncated file whose format tells its length in bytes.

    In other formats (flac, mp3) truncation shows when the samples are read.

    Args:
        path: the file.
        sound: the same, opened.

    Raises:
        UserError: the file is shorter than its headers say.
    """
    if sound.format == "NIST":
        declared, present = _nist_bytes(path), os.path.getsize(path)
    elif sound.format == "OGG":
        declared, present = _ogg_bytes(path), os.path.getsize(path)
    else:
        remark = _SHORT_CHUNK.search(sound.extra_info)
        declared, present = map(int, remark.groups()) if remark else (0, 0)
    if present < declared < _UNKNOWN_BYTES:
        raise UserError(
            f"{path}: truncated: its header promises {declared} bytes, {present} are there"
        )


def _nist_bytes(path: str) -> int:
    """Return the length of a NIST sphere file: `NIST_1A`, size of the header, fields, samples."""
    with open(path, "rb") as stream:
        header_bytes = int(stream.read(16).split()[1])
        stream.seek(0)
        fields = dict(_NIST_FIELD.findall(stream.read(header_bytes)))
    names = (b"sample_count", b"sample_n_bytes", b"channel_count")
    count, width, channels = (int(fields.get(name, 1)) for name in names)
    return header_bytes + count * width * channels


def _ogg_bytes(path: str) -> int:
    """Return where the last page of an Ogg file ends by its own header (RFC 3533)."""
    size = os.path.getsize(path)
    with open(path, "rb") as stream:
        stream.seek(max(0, size - _LONGEST_OGG_PAGE_BYTES))
        tail = stream.read()
    page = tail[tail.rfind(b"OggS") :]
    header_bytes = 27 + page[26] if len(page) > 26 else 27
    return size - len(page) + header_bytes + sum(page[27:header_bytes])
