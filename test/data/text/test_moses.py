import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacremoses import MosesTokenizer

from mtla_espnet.data.text.moses import detokenise, normalise_punctuation, tokenise

words = st.sampled_from(["bridge", "cats", "Kiste", "Weg", "12", "the", "und"])
sentences = st.builds(
    lambda parts, end: " ".join(parts) + end,
    st.lists(st.builds(str.__add__, words, st.sampled_from(["", "", ","])), min_size=1),
    st.sampled_from([".", "?", "!"]),
)


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("It's 5 p.m., isn't it?", "en", "It 's 5 p.m. , isn 't it ?"),
        ('He said: "Go!" (twice)', "en", 'He said : " Go ! " ( twice )'),
        ("1,000.5 & more <now>", "en", "1,000.5 & more < now >"),
        ("Das ist z.B. gut.", "de", "Das ist z.B. gut ."),
        ("l'eau d'été", "fr", "l' eau d' été"),
        ("wait... what", "en", "wait ... what"),
    ],
)
def test_tokens_are_those_of_moses_without_entities(text, language, expected):
    assert tokenise(text, language) == expected


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("„Ja“, sagte er – leise…", "de", '"Ja", sagte er - leise...'),
        ("‘so’ it’s", "en", "'so' it's"),
    ],
)
def test_punctuation_is_written_in_ascii(text, language, expected):
    assert normalise_punctuation(text, language) == expected


@given(sentences, st.sampled_from(["en", "de"]), st.booleans())
def test_joining_undoes_the_cutting_of_plain_sentences(text, language, dashes):
    assert detokenise(tokenise(text, language, dashes), language) == text


ORIGINAL = MosesTokenizer(lang="en")


@given(st.text(st.sampled_from("aBé.z'1- ,Ω…!"), max_size=60))
def test_tokens_are_those_of_sacremoses(text):
    expected = ORIGINAL.tokenize(" ".join(text.split()), return_str=True, escape=False)
    assert tokenise(text, "en") == " ".join(expected.split())
