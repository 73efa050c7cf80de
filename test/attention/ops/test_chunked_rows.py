import torch
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.attention.ops import chunked_rows


@given(st.integers(0, 5), st.integers(1, 5))
def test_two_parts_make_one_softmax(first, second):
    torch.manual_seed(first * 7 + second)
    scores, values = torch.randn(3, first + second) * 5, torch.randn(first + second, 4)
    whole = scores.softmax(-1) @ values
    parts = []
    for s, v in ((scores[:, :first], values[:first]), (scores[:, first:], values[first:])):
        parts += [s.softmax(-1) @ v, s.logsumexp(-1)]
    output, lse = chunked_rows.merge(*parts)
    assert (output - whole).abs().max() < 1e-5
    assert (lse - scores.logsumexp(-1)).abs().max() < 1e-5
