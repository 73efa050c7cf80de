import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.attention import backend, fold


def dense(query, key, value, rate, scale):
    """The same attention with a dense mask: finished chunks before the own, and itself."""
    size = query.size(2)
    position = torch.arange(size)
    last = (position + 1) % rate == 0
    before = (position // rate)[None] < (position // rate)[:, None]
    mask = (before & last[None]) | torch.eye(size, dtype=torch.bool)
    scores = (query @ key.mT * scale).masked_fill(~mask, float("-inf"))
    return scores.softmax(-1) @ value


@given(st.integers(1, 4), st.integers(1, 23))
def test_folded_equals_dense_with_all_gradients(rate, size):
    torch.manual_seed(size)
    shapes = [(2, 3, size, 12), (2, 3, size, 12), (2, 3, size, 8)]
    inputs = [torch.randn(shape, requires_grad=True) for shape in shapes]
    grad = torch.randn(2, 3, size, 8)
    results = []
    for attend in (
        lambda *x: fold.attend(*x, rate, 0.3),
        lambda *x: dense(*x, rate, 0.3),
    ):
        output = attend(*inputs)
        results.append((output, *torch.autograd.grad(output, inputs, grad, allow_unused=True)))
    for ours, theirs in zip(*results, strict=True):
        if ours is None:  # a single chunk: scores do not matter
            assert theirs.abs().max() < 1e-6
        else:
            assert (ours - theirs).abs().max() < 2e-5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_as_close_as_plain_attention(dtype):
    torch.manual_seed(0)
    exact = [torch.randn(2, 3, 40, 12) for _ in range(2)] + [torch.randn(2, 3, 40, 8)]
    low = [x.to(dtype) for x in exact]
    truth = dense(*[x.float() for x in low], 2, 0.3)
    plain = (dense(*low, 2, 0.3) - truth).abs().max()
    assert (fold.attend(*low, 2, 0.3) - truth).abs().max() <= 2 * plain


def test_dropout_and_float64_take_the_plain_path():
    x = torch.zeros(1)
    assert backend.fold_kernel(x, 0.0, 2) == "cpu"
    assert backend.fold_kernel(x, 0.1, 2) is None
    assert backend.fold_kernel(x.double(), 0.0, 2) is None
