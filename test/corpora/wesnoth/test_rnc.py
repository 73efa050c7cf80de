import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtla_espnet.corpora.wesnoth.rnc import crc16, unpack
from mtla_espnet.files import UserError
from wesnoth_games import pack_rnc


@st.composite
def packable(draw):
    """Data in which some pieces repeat what is before them, and which pieces these are."""
    data = bytearray(draw(st.binary(min_size=1, max_size=300)))
    copies = []
    for _ in range(draw(st.integers(0, 130))):
        data += draw(st.binary(max_size=3))
        place, distance = len(data), draw(st.integers(1, min(len(data), 400)))
        length = draw(st.integers(2, 40))
        for _ in range(length):
            data.append(data[-distance])
        copies.append((place, distance, length))
    data += draw(st.binary(max_size=5))
    return bytes(data), copies


@settings(deadline=None, max_examples=40, print_blob=True)
@given(packable())
def test_what_is_packed_is_unpacked(packed):
    data, copies = packed
    assert unpack(pack_rnc(data, copies) + b"rest", "here") == data


def test_the_checksum_is_crc_16_arc():
    assert (crc16(b""), crc16(b"123456789")) == (0, 0xBB3D)  # the algorithm's check value


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda packed: b"RNC\x02" + packed[4:], "does not begin as a file that ProPack packed"),
        (lambda packed: packed[:12], "does not begin as a file that ProPack packed"),
        (lambda packed: packed[:-1], "what ProPack packed is cut off or damaged"),
        (lambda packed: packed[:-1] + b"\x55", "what ProPack packed is cut off or damaged"),
        (lambda packed: packed[:12] + b"\0\0" + packed[14:], "unpacks to something else than"),
    ],
)
def test_damage_is_told(damage, message):
    with pytest.raises(UserError) as raised:
        unpack(damage(pack_rnc(b"some data, some data", [(11, 11, 9)])), "file 7")
    assert str(raised.value).startswith(f"file 7: {message}")
