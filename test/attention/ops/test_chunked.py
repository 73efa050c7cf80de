import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.attention.ops import choose, chunked


def dense(query, key, value, rate, scale):
    """The same attention with a dense mask: finished chunks before the own, and itself."""
    size = query.size(2)
    position = torch.arange(size, device=query.device)
    last = (position + 1) % rate == 0
    before = (position // rate)[None] < (position // rate)[:, None]
    mask = (before & last[None]) | torch.eye(size, dtype=torch.bool, device=query.device)
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
        lambda *x: chunked.attend("cpu", *x, rate, 0.3),
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
    assert (chunked.attend("cpu", *low, 2, 0.3) - truth).abs().max() <= 2 * plain


def test_dropout_and_float64_take_the_plain_path():
    x = torch.zeros(1)
    assert choose.chunked_kernel(x, 0.0, 2) == "cpu"
    assert choose.chunked_kernel(x, 0.1, 2) is None
    assert choose.chunked_kernel(x.double(), 0.0, 2) is None


# -- on a GPU ---------------------------------------------------------------------
def draw(size, dtype=torch.float32, value=8):
    torch.manual_seed(size)
    shapes = [(2, 3, size, 12), (2, 3, size, 12), (2, 3, size, value)]
    return [torch.randn(shape, device="cuda").to(dtype).requires_grad_(True) for shape in shapes]


@pytest.mark.gpu
@pytest.mark.parametrize("size", [1, 2, 5, 33, 130])
@pytest.mark.parametrize("rate", [1, 2, 3])
def test_float32_on_cuda_equals_dense_with_all_gradients(rate, size):
    inputs, results = draw(size), []
    assert choose.chunked_kernel(inputs[0].transpose(1, 2), 0.0, rate) == "efficient"
    grad = torch.randn(2, 3, size, 8, device="cuda")
    for output in (chunked.attend("efficient", *inputs, rate, 0.3), dense(*inputs, rate, 0.3)):
        found = torch.autograd.grad(output, inputs, grad, allow_unused=True)
        results.append((output, *found))
    for ours, theirs in zip(*results, strict=True):
        if ours is None:  # a single chunk: scores do not matter
            assert theirs.abs().max() < 1e-6
        else:
            assert (ours - theirs).abs().max() < 1e-4


@pytest.mark.gpu
@pytest.mark.parametrize("size", [2, 65])
def test_dropout_on_cuda_keeps_the_mean_and_has_the_gradients_of_its_forward(size):
    inputs, dropout, rate = draw(size), 0.3, 2

    def attend(*x):
        return chunked.attend("efficient", *x, rate, 0.3, dropout)

    with torch.no_grad():
        mean = sum(attend(*inputs) for _ in range(2000)) / 2000
        assert (mean - dense(*inputs, rate, 0.3)).abs().mean() < 0.03
    weight = torch.randn(2, 3, size, 8, device="cuda")
    step = [torch.randn_like(x) for x in inputs]
    around = []
    for sign in (0, 1e-3, -1e-3):
        torch.manual_seed(7)  # the same weights are dropped
        moved = [
            (x + sign * d).detach().requires_grad_(True) for x, d in zip(inputs, step, strict=True)
        ]
        around.append(((attend(*moved) * weight).sum(), moved))
    grads = torch.autograd.grad(around[0][0], around[0][1], allow_unused=True)
    slope = sum((g * d).sum() for g, d in zip(grads, step, strict=True) if g is not None)
    measured = (around[1][0] - around[2][0]) / 2e-3
    assert (slope - measured).abs() < 0.02 * max(1.0, measured.abs().item())


@pytest.mark.gpu
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_memory_on_cuda_grows_with_the_length_alone(dropout):
    inputs = draw(8192)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    chunked.attend("efficient", *inputs, 2, 0.3, dropout).sum().backward()
    assert torch.cuda.max_memory_allocated() - before < 2 * 3 * 8192 * 4096 * 4 / 4


@given(st.integers(0, 5), st.integers(1, 5))
def test_two_parts_make_one_softmax(first, second):
    torch.manual_seed(first * 7 + second)
    scores, values = torch.randn(3, first + second) * 5, torch.randn(first + second, 4)
    whole = scores.softmax(-1) @ values
    parts = []
    for s, v in ((scores[:, :first], values[:first]), (scores[:, first:], values[first:])):
        parts += [s.softmax(-1) @ v, s.logsumexp(-1)]
    output, lse = chunked.merge(*parts)
    assert (output - whole).abs().max() < 1e-5
    assert (lse - scores.logsumexp(-1)).abs().max() < 1e-5
