from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.corpora.shared.summary_pairs import FIRST_MARK, GAP_MARK, Pair, auxiliary_pairs


@given(st.lists(st.integers(1, 30), min_size=1, max_size=5))
def test_auxiliary_pairs_are_made_of_the_document_alone(lengths):
    sentences = [
        " ".join(f"S{number}w{word}" for word in range(length)) + "."
        for number, length in enumerate(lengths)
    ]
    document = " ".join(sentences)
    pair = Pair("f", "function f in m", "not used", document)
    made = {each.name: each for each in auxiliary_pairs(pair)}
    fitting = [number for number, length in enumerate(lengths) if 4 <= length <= 25]
    assert ("f~first" in made) == (0 in fitting)
    assert ("f~gap" in made) == any(fitting)
    if "f~first" in made:
        assert made["f~first"].summary == sentences[0]
        assert made["f~first"].source == f"function f in m {FIRST_MARK} {document}"
    if "f~gap" in made:
        summary = made["f~gap"].summary
        rest = [sentence for sentence in sentences if sentence != summary]
        assert len(rest) == len(sentences) - 1 and summary != sentences[0]
        assert made["f~gap"].source == f"function f in m {GAP_MARK} {' '.join(rest)}"


def test_the_gap_is_the_sentence_that_shares_most_words():
    document = "It sorts the list. Nothing else is ever done. The list it sorts stays."
    made = {pair.name: pair for pair in auxiliary_pairs(Pair("f", "", "", document))}
    assert made["f~gap"].summary == "The list it sorts stays."


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_share_of_the_auxiliary_pairs(one, other):
    pairs = [
        Pair(f"f{number}", "", "", "It sorts the list. It keeps the list.") for number in range(200)
    ]

    def made(share):
        return {each for pair in pairs for each in auxiliary_pairs(pair, share)}

    assert made(min(one, other)) <= made(max(one, other))
    # four standard deviations of 400 draws
    assert abs(len(made(one)) - 400 * one) <= 4 * (400 * one * (1 - one)) ** 0.5 + 1
    assert (len(made(0)), len(made(1))) == (0, 400)
