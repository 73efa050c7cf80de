"""Run by test_chunked_cuda.py in a process of its own, where Triton interprets its kernels.

PyTorch's kernels on CUDA are replaced by plain ones in float32, so that what remains to be
tested is ours: folding, merging, both halves of the backward, and their addresses.
"""

import sys

import torch

from mtla_espnet.attention.ops import chunked_cuda, sdpa
from mtla_espnet.position import rotation


def scores(query, key, scale):
    causal = torch.ones(query.size(2), key.size(2), dtype=torch.bool).tril()
    return (query @ key.mT * scale).masked_fill(~causal, float("-inf"))


def forward(kernel, query, key, value, scale):
    key, value = (x.repeat_interleave(query.size(1) // x.size(1), dim=1) for x in (key, value))
    score = scores(query, key, scale)
    return score.softmax(dim=-1) @ value, score.logsumexp(dim=-1), None


def backward(kernel, grad, query, key, value, output, lse, scale):
    heads = query.size(1) // key.size(1)
    key, value = (x.repeat_interleave(heads, dim=1) for x in (key, value))
    weight = (scores(query, key, scale) - lse[..., None]).exp()
    delta = (grad * output).sum(dim=-1, keepdim=True)
    score_grad = weight * (grad @ value.mT - delta) * scale
    grouped = (score_grad.mT @ query, weight.mT @ grad)
    return score_grad @ key, *(x.unflatten(1, (-1, heads)).sum(dim=2) for x in grouped)


def main(dense):
    sdpa.kernel_forward, sdpa.kernel_backward = forward, backward
    torch.manual_seed(0)
    for kernel in ("flash", "cudnn"):
        for rate, sizes, size in (
            (1, (16, 8, 16), 7),
            (2, (16, 8, 16), 21),
            (2, (9, 6, 9), 2),
            (3, (9, 6, 9), 13),
            (4, (8, 4, 24), 9),
        ):
            nope, rope, value = sizes
            start, end = (-(-width // 8) * 8 for width in (value, nope + rope))
            query = torch.randn(2, size, 3, nope + rope, requires_grad=True)
            key_value = torch.randn(2, size, 3, start + end)
            key_value[..., value:start] = key_value[..., start + nope + rope :] = 0
            key_value.requires_grad_()
            position = torch.arange(size) + torch.tensor([[0], [5]])
            grad = torch.randn(2, size, 3, value)
            results = []
            for output in (
                chunked_cuda.attend(
                    kernel, query, key_value, *rotation(position, rope), rate, value, 0.3
                ),
                dense(query, key_value, position, sizes, rate, 0.3),
            ):
                results.append((output, *torch.autograd.grad(output, (query, key_value), grad)))
            worst = max((a - b).abs().max().item() for a, b in zip(*results, strict=True))
            print(kernel, rate, sizes, size, worst)
            if not worst < 2e-5:
                sys.exit(1)
