import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.data.text.sentences import split_sentences


@given(st.text(alphabet="Ab .!?)'", max_size=40))
def test_nothing_but_blanks_and_closing_marks_is_lost(text):
    kept = "".join(split_sentences(text))
    assert [c for c in kept if c not in " )'"] == [c for c in text if c not in " )'"]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", []),
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("See e.g. this. Next", ["See e.g. this.", "Next"]),
        ('He said "no." Then left.', ['He said "no.', "Then left."]),
        ("他说：“不。”然后走了。好！", ["他说：“不。", "然后走了。", "好！"]),
        ("यह पहला है। यह दूसरा।", ["यह पहला है।", "यह दूसरा।"]),
        ("هل تسمع؟ نعم.", ["هل تسمع؟", "نعم."]),
    ],
)
def test_ends(text, sentences):
    assert split_sentences(text) == sentences
