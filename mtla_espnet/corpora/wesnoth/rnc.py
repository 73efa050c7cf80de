r"""Unpacks what Rob Northen's ProPack packed by its method 1 (1991).

Layout, numbers with the most significant byte first:

    RNC\x01
    u32, u32        length unpacked, length packed
    u16, u16        CRC-16 of what is unpacked, and of what is packed
    u8, u8          not used here; count of parts
    packed data

Packed data are words of 16 bits with the least significant byte first, whose bits are read from the
least significant one, and between them bytes as they are. After two bits, each part has

    three tables    of codes: of counts of bytes that follow, of distances and of lengths of copies
    16 bits         count of steps

A step takes a count, and that many bytes as they are; but for the last, it then copies: a distance
less 1, and a length less 2, from what is unpacked already. Bytes begin where the first word is of
which no bit has been read. A table has 5 bits for the count of codes and 4 for the length of each;
codes are given in the order of lengths, and are read from their most significant bit. Code n is the
number n where it is below 2; otherwise the number is 2^(n-1) and n-1 bits more.

Source of the layout: descriptions of the format that are in public use, read for facts alone.
"""

import struct

from mtla_espnet.files import UserError

MAGIC = b"RNC\x01"
HEADER_BYTES = 18
_LENGTH_BITS, _COUNT_BITS = 4, 5
_CRC_POLYNOMIAL = 0xA001


def unpack(data: bytes, where: str) -> bytes:
    """Unpack.

    Args:
        data: from the header on; what follows is ignored.
        where: it comes from, for messages.

    Returns:
        What was packed.

    Raises:
        UserError: it is not packed so, is cut off, or a checksum is wrong.
    """
    if not data.startswith(MAGIC) or len(data) < HEADER_BYTES:
        raise UserError(f"{where}: does not begin as a file that ProPack packed")
    length, size, crc, packed_crc, _, parts = struct.unpack_from(">IIHHBB", data, len(MAGIC))
    packed = data[HEADER_BYTES : HEADER_BYTES + size]
    if len(packed) < size or crc16(packed) != packed_crc:
        raise UserError(f"{where}: what ProPack packed is cut off or damaged")
    try:
        unpacked = _unpack(packed, length, parts)
    except IndexError:
        raise UserError(f"{where}: what ProPack packed has a code of no table") from None
    if len(unpacked) != length or crc16(unpacked) != crc:
        raise UserError(f"{where}: unpacks to something else than ProPack packed")
    return bytes(unpacked)


def crc16(data: bytes) -> int:
    """Return the checksum, CRC-16/ARC.

    Example:
        >>> hex(crc16(b"123456789"))
        '0xbb3d'
    """
    crc = 0
    for byte in data:
        crc = (crc >> 8) ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc


def _crc_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (_CRC_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return table


_CRC_TABLE = _crc_table()


class _Bits:
    """Bits of words, and bytes between them.

    Args:
        data: packed data.
    """

    def __init__(self, data: bytes):
        self._data = data + bytes(4)  # the last word may be read ahead
        self._at = 0  # of the word that was taken last
        self._held = int.from_bytes(self._data[:2], "little")
        self._count = 16

    def take(self, count: int) -> int:
        """Return the next bits as a number; at most 16."""
        value = self._held & ((1 << count) - 1)
        self._drop(count)
        return value

    def take_code(self, table: list[tuple[int, int]]) -> int:
        """Return the number that the next code of a table is for."""
        bits, number = table[self._held & (len(table) - 1)]
        if not bits:
            raise IndexError
        self._drop(bits)
        return number if number < 2 else (1 << (number - 1)) + self.take(number - 1)

    def take_bytes(self, count: int) -> bytes:
        """Return the next bytes that are as they are."""
        found = self._data[self._at : self._at + count]
        self._at += count
        self._count -= 16
        self._held &= (1 << self._count) - 1
        self._fill()
        return found

    def _drop(self, count: int) -> None:
        self._held >>= count
        self._count -= count
        if self._count < 16:
            self._at += 2
            self._fill()

    def _fill(self) -> None:
        word = self._data[self._at : self._at + 2]
        self._held |= int.from_bytes(word, "little") << self._count
        self._count += 16


def _unpack(packed: bytes, length: int, parts: int) -> bytearray:
    bits, out = _Bits(packed), bytearray()
    bits.take(2)
    for _ in range(parts):
        counts, distances, lengths = (_table(bits) for _ in range(3))
        steps = bits.take(16)
        for step in range(steps):
            count = bits.take_code(counts)
            if count:
                out += bits.take_bytes(count)
            if step == steps - 1:
                break
            distance = bits.take_code(distances) + 1
            count = bits.take_code(lengths) + 2
            start = len(out) - distance
            if start < 0 or len(out) > length:
                raise IndexError
            piece = out[start : start + count]
            out += (piece * (count // distance + 1))[:count]
    return out


def _table(bits: _Bits) -> list[tuple[int, int]]:
    """Read a table: next bits, as many as its longest code has -> length of the code, number."""
    lengths = [bits.take(_LENGTH_BITS) for _ in range(bits.take(_COUNT_BITS))]
    longest = max(lengths, default=0)
    table = [(0, 0)] * (1 << longest)
    code = 0
    for length in range(1, longest + 1):
        for number, own in enumerate(lengths):
            if own == length:
                read = int(f"{code:0{length}b}"[::-1], 2)
                for more in range(read, len(table), 1 << length):
                    table[more] = (length, number)
                code += 1
        code <<= 1
    return table
