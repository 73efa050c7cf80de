from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.data.text.spaces import plain_spaces


@given(st.text())
def test_plain_spaces_are_single_and_lose_no_word(text):
    plain = plain_spaces(text)
    assert plain.split(" ") == (text.split() or [""])
