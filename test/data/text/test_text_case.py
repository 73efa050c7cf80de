import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.data.text.text_case import CASES, is_in_case, to_case


@given(st.text(), st.sampled_from(CASES))
def test_a_text_in_a_case_stays_as_it_is(text, case):
    once = to_case(text, case)
    assert to_case(once, case) == once
    assert is_in_case(once, case)


@given(st.text())
def test_bare_text_comes_from_lower_case(text):
    assert to_case(to_case(text, "lc"), "lc.rm") == to_case(text, "lc.rm")


def test_only_the_apostrophe_stays():
    marks = "“Wie geht's?” – sagte er; «gut»… $5 + 3 = a_b ¿no?"
    assert to_case(marks, "lc.rm") == "wie geht's sagte er gut 5 3 ab no"


def test_an_unknown_case():
    with pytest.raises(ValueError, match="tc, lc, lc.rm, not 'uc'"):
        to_case("a", "uc")
