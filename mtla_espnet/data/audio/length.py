"""What the header of a sound file says of its length, and whether the file's bytes prove it.

libsndfile believes headers: it reads most truncated files without a word, and stops where a
stream or a join goes on.
"""

import mmap
import os
import re
from typing import NamedTuple

import soundfile

from mtla_espnet.files import UserError, reading

# libsndfile's remark on a chunk that is longer than its file (wav, aiff, au, w64, rf64).
_SHORT_CHUNK = re.compile(
    r"^ *(?:data|SSND|Data Size|riff|Riff size) *: (\d+) \(should be (\d+)\)$", re.MULTILINE
)
# A program that writes to a pipe does not know the length: it declares about 2 or 4 GiB.
_UNKNOWN_BYTES = (1 << 31, 1 << 32)
_ABOUT_BYTES = 8192
_NIST_FIELD = re.compile(rb"^(\w+) -i (\S+)$", re.MULTILINE)
# No codec packs more samples into a byte (a Vorbis packet holds up to 8192).
_MOST_SAMPLES_PER_BYTE = 8192
_OGG_HEADER_BYTES = 27
_OGG_FIRST_PAGE = 2
_FLAC_FRAME_BYTES = 1 << 16
_ID3_BYTES = 10
# What may follow the last frame of an MP3.
_MP3_TAGS = (b"TAG", b"APETAGEX", b"LYRICSBEGIN")


class Claim(NamedTuple):
    """What a header says.

    Args:
        samples: how many there are; None: it does not say.
        proven: the file's bytes agree.
    """

    samples: int | None
    proven: bool


def claim_of(descriptor: int, size: int, name: str, sound: soundfile.SoundFile) -> Claim:
    """Return what a sound file says of its length.

    Uncompressed formats and blocks of fixed size are proven by the file's size, FLAC by the
    number that its last frame has, Ogg where it is one stream to the end, and MP3 where its
    Xing header gives the file's size.

    Args:
        descriptor: of the open file; its position is not moved.
        size: of the file, in bytes.
        name: of the file, for messages.
        sound: the same file, opened.

    Raises:
        UserError: the file has fewer bytes than its headers say.
    """
    form, samples = sound.format, sound.frames
    if form == "NIST":
        _check_bytes(name, _nist_bytes(descriptor, name), size)
    if not samples:
        return Claim(None, False)  # a recorder that was stopped wrote 0, and samples behind it
    plausible = samples <= size * _MOST_SAMPLES_PER_BYTE
    if form == "FLAC":
        if _flac_samples(descriptor, size) == samples:
            return Claim(samples, True)
        _check_one_flac(descriptor, name)
        return Claim(samples if plausible else None, False)  # it gives 2^63 where none is told
    if form == "OGG":
        one_stream = _is_one_ogg_stream(descriptor, name, size)
        return Claim(samples if one_stream else None, one_stream and plausible)
    if sound.subtype.startswith("MPEG"):
        declared = _xing_bytes(descriptor)
        if declared is None:
            return Claim(None, False)
        tagged = size > declared and os.pread(descriptor, 11, declared).startswith(_MP3_TAGS)
        return Claim(samples, plausible and (size == declared or tagged))
    for declared, present in _SHORT_CHUNK.findall(sound.extra_info):
        if all(abs(int(declared) - unknown) > _ABOUT_BYTES for unknown in _UNKNOWN_BYTES):
            _check_bytes(name, int(declared), int(present))
    return Claim(samples, plausible)


def check_alone(descriptor: int, name: str) -> None:
    """Refuse a wav file behind which another one was appended: readers take the first alone.

    Args:
        descriptor: of the open file; its position is not moved.
        name: of the file, for messages.

    Raises:
        UserError: names the byte at which the second one begins.
    """
    head = os.pread(descriptor, 8, 0)
    if head[:4] != b"RIFF":
        return
    end = 8 + int.from_bytes(head[4:], "little")
    if os.pread(descriptor, 4, end) == b"RIFF":
        raise _joined(name, "wav", end)


def _check_one_flac(descriptor: int, name: str) -> None:
    with mmap.mmap(descriptor, 0, prot=mmap.PROT_READ) as content:
        start = content.find(b"fLaC", 4)
    if start > 0:
        raise _joined(name, "FLAC", start)


def _joined(name: str, form: str, start: int) -> UserError:
    return UserError(
        f"{name}: a second {form} file begins at byte {start}: join their samples, not the files"
    )


def _check_bytes(name: str, declared: int, present: int) -> None:
    if present < declared:
        raise UserError(
            f"{name}: truncated: its header promises {declared} bytes, {present} are there"
        )


def _nist_bytes(descriptor: int, name: str) -> int:
    """Return the length of a NIST sphere file: `NIST_1A`, size of the header, fields, samples."""
    with reading(name, "not a NIST sphere header"):
        header_bytes = int(os.pread(descriptor, 16, 0).split()[1])
        fields = dict(_NIST_FIELD.findall(os.pread(descriptor, header_bytes, 0)))
        names = (b"sample_count", b"sample_n_bytes", b"channel_count")
        count, width, channels = (int(fields.get(name, 1)) for name in names)
    if min(count, width, channels) < 0:
        raise UserError(f"{name}: its header has a negative number of samples")
    return header_bytes + count * width * channels


def _is_one_ogg_stream(descriptor: int, name: str, size: int) -> bool:
    """Tell whether an Ogg file is pages of one stream, from its first byte to its last.

    A page (RFC 3533) is a header of 27 bytes, whose last is the number of lengths that follow,
    and bytes as many as their sum. Streams may follow one another.

    Raises:
        UserError: the last page is not whole.
    """
    offset = 0
    while offset < size:
        head = os.pread(descriptor, _OGG_HEADER_BYTES + 255, offset)
        if len(head) < _OGG_HEADER_BYTES:
            _check_bytes(name, offset + _OGG_HEADER_BYTES, size)
        if head[:4] != b"OggS" or (offset and head[5] & _OGG_FIRST_PAGE):
            return False
        lengths = head[_OGG_HEADER_BYTES : _OGG_HEADER_BYTES + head[26]]
        offset += _OGG_HEADER_BYTES + head[26] + sum(lengths)
    _check_bytes(name, offset, size)
    return True


def _flac_samples(descriptor: int, size: int) -> int | None:
    """Return how many samples a FLAC file has, by the number of its last frame.

    A frame (RFC 9639) begins with 15 bits of synchronisation, and its header ends with a
    checksum.

    Returns:
        None where there is no frame near the end.
    """
    head = os.pread(descriptor, 26, 0)  # `fLaC`, the header of STREAMINFO, its first fields
    if head[:4] != b"fLaC" or len(head) < 26:
        return None
    block_samples = int.from_bytes(head[8:10])
    longest_bytes = int.from_bytes(head[15:18]) or _FLAC_FRAME_BYTES
    tail = os.pread(descriptor, longest_bytes, max(0, size - longest_bytes))
    start = len(tail)
    while (start := tail.rfind(b"\xff", 0, start)) >= 0:
        end = _flac_frame_end(tail[start : start + 16], block_samples)
        if end is not None:
            return end
    return None


def _flac_frame_end(head: bytes, block_samples: int) -> int | None:
    """Return the number of the sample behind a FLAC frame; None where no frame begins so.

    Args:
        head: where it begins, 16 bytes.
        block_samples: of every frame but the last, where the size is fixed.
    """
    if len(head) < 6 or head[1] & 0xFE != 0xF8 or head[3] & 1 or head[3] >> 4 > 10:
        return None
    # The number is coded as UTF-8 codes a character, in up to seven bytes.
    ones = 8 - (head[4] ^ 0xFF).bit_length()
    if ones in (1, 8):
        return None
    number = head[4] & (0x7F >> ones)
    place = 5 + max(0, ones - 1)
    for byte in head[5:place]:
        number = number << 6 | byte & 0x3F
    size_code, rate_code = head[2] >> 4, head[2] & 15
    size_bytes = {6: 1, 7: 2}.get(size_code, 0)
    rate_bytes = {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    check = place + size_bytes + rate_bytes
    if not size_code or len(head) <= check or _crc8(head[:check]) != head[check]:
        return None
    if size_bytes:
        samples = int.from_bytes(head[place : place + size_bytes]) + 1
    elif size_code == 1:
        samples = 192
    else:
        samples = 576 << size_code - 2 if size_code < 8 else 256 << size_code - 8
    by_sample = head[1] & 1
    return (number if by_sample else number * block_samples) + samples


def _crc8(data: bytes) -> int:
    """Return the checksum of a FLAC frame's header: x^8 + x^2 + x + 1."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc << 1 ^ (0x107 if crc & 0x80 else 0)
    return crc


def _xing_bytes(descriptor: int) -> int | None:
    """Return the file's size by the Xing header of an MP3, with the ID3 tag before it.

    The header stands in the first frame, behind its side information: `Xing` or `Info`, four
    bytes of flags, then the number of frames (flag 1) and of bytes (flag 2).

    Returns:
        None where it does not say.
    """
    start = 0
    head = os.pread(descriptor, _ID3_BYTES, 0)
    if head[:3] == b"ID3" and len(head) == _ID3_BYTES:
        size = 0
        for byte in head[6:]:  # seven bits a byte
            size = size << 7 | byte & 0x7F
        start = _ID3_BYTES + size
    frame = os.pread(descriptor, 64, start)
    found = max(frame.find(b"Xing"), frame.find(b"Info"))
    if found < 0 or len(frame) < found + 16 or frame[found + 7] & 3 != 3:
        return None
    return start + int.from_bytes(frame[found + 12 : found + 16])
