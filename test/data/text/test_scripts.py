import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.data.text.scripts import (
    has_case,
    is_han,
    is_hangul,
    is_kana,
    is_unspaced,
    share_of_letters,
)


@pytest.mark.parametrize(
    ("characters", "tests"),
    [
        ("今〇𠀀豈", (is_han, is_unspaced)),
        ("あアーｱ", (is_kana, is_unspaced)),
        ("한ᄒㅎ", (is_hangul,)),
        ("กລខမབㄅ", (is_unspaced,)),
        ("Aaß ЖжΣς", (has_case,)),
        ("ცابאहஅ7.", ()),
    ],
)
def test_scripts(characters, tests):
    for character in characters.replace(" ", ""):
        for test in (is_han, is_kana, is_hangul, is_unspaced, has_case):
            assert test(character) == (test in tests), (character, test)


@given(st.text())
def test_a_share_is_of_letters(text):
    assert share_of_letters([text], str.isalpha) == float(any(map(str.isalpha, text)))
    assert share_of_letters(["12 .", text], lambda _: False) == 0.0


def test_the_share_is_over_all_texts():
    assert share_of_letters(["ab", "天 c."], is_han) == 0.25
