"""Whatever the options of a search are, they are refused or it ends within bounds."""

import math
import re
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.files import UserError
from mtla_espnet.search.options import SearchOptions

NAMES = [field.name for field in fields(SearchOptions)]
numbers = st.floats() | st.integers() | st.floats(-3, 3) | st.integers(-9, 9)


@given(st.dictionaries(st.sampled_from(NAMES), numbers),
       st.integers(1, 3000))  # fmt: skip
def test_bounds(given_options, frames):
    chosen = SearchOptions(**given_options)
    try:
        chosen.check()
    except UserError as error:
        assert any(name in str(error) for name in given_options)
        return
    assert 1 <= chosen.beam_size <= 10_000 and 1 <= chosen.nbest <= 10_000
    least, most = chosen.length_limits(frames)
    assert 0 <= least <= most <= max(100_000, 20 * frames) and most >= 1
    assert chosen.minlenratio <= 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam_size": True}, "beam_size must be a whole number, not True"),
        ({"nbest": 1e9}, "nbest must be a whole number, not 1000000000.0"),
        ({"nbest": 10**9}, "nbest must be in 1 to 10000, not 1000000000"),
        ({"penalty": 10**400}, "penalty must be in -100 to 100, not 1000"),
        ({"penalty": math.inf}, "penalty must be a number, not inf"),
        ({"maxlenratio": 1e9}, "maxlenratio must be in -100000 to 20, not 1000000000.0"),
        ({"minlenratio": 1e6}, "minlenratio must be in -100000 to 20, not 1000000.0"),
        ({"maxlenratio": -0.5}, "maxlenratio below 0 is minus a number of tokens, not -0.5"),
        ({"minlenratio": 0.6, "maxlenratio": 0.5}, "0.6 is more than maxlenratio 0.5 allows"),
        ({"minlenratio": -50, "maxlenratio": -3}, "-50 is more than maxlenratio -3 allows"),
        ({"minlenratio": 1.5}, "minlenratio 1.5 is more than maxlenratio 0.0 allows"),
        ({"normalize_length": 1}, "normalize_length must be true or false, not 1"),
        ({"sampling": "yes"}, "sampling must be true or false, not 'yes'"),
        ({"lenpen": 11}, "lenpen must be in 0 to 10, not 11"),
        ({"normalize_length": True, "lenpen": 0.5}, "normalize_length is lenpen 1, not 0.5: leave"),
        ({"no_repeat_ngram_size": -1}, "no_repeat_ngram_size must be in 0 to 1000, not -1"),
        ({"sampling_topk": 5}, "sampling_topk needs sampling: true"),
        ({"sampling_topp": 0.9}, "sampling_topp needs sampling: true"),
        ({"sampling": True, "ctc_weight": 0.3}, "draws by the decoder: ctc_weight must be 0, not"),
    ],
)
def test_message(options, message):
    with pytest.raises(UserError, match=re.escape(message)):
        SearchOptions(**options).check()


def test_as_many_tokens_as_the_limit_leaves():
    assert SearchOptions(minlenratio=-50).length_limits(30) == (29, 30)
    assert SearchOptions(minlenratio=-5, maxlenratio=1.0).length_limits(30) == (5, 30)
