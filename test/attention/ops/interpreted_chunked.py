"""Run by test_chunked.py in a process of its own, where Triton interprets its kernels.

PyTorch's kernels on CUDA are replaced by plain ones in float32, so that what remains to be
tested is ours: folding, merging, both halves of the backward, and their addresses.
"""

import sys

import torch

from mtla_espnet.attention.ops import chunked, chunked_rows, chunked_triton, sdpa
from mtla_espnet.attention.ops.row_sizes import RowSizes
from mtla_espnet.position import rotation


def scores(query, key, scale):
    causal = torch.ones(query.size(2), key.size(2), dtype=torch.bool).tril()
    return (query @ key.mT * scale).masked_fill(~causal, float("-inf"))


def forward(kernel, query, key, value, scale, dropout):
    key, value = (x.repeat_interleave(query.size(1) // x.size(1), dim=1) for x in (key, value))
    score = scores(query, key, scale)
    return score.softmax(dim=-1) @ value, score.logsumexp(dim=-1), torch.zeros(2)


def backward(kernel, grad, query, key, value, output, lse, scale, dropout, state):
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
                chunked.attend(
                    kernel, query, key_value, *rotation(position, rope), rate, value, 0.3
                ),
                dense(query, key_value, position, sizes, rate, 0.3),
            ):
                results.append((output, *torch.autograd.grad(output, (query, key_value), grad)))
            worst = max((a - b).abs().max().item() for a, b in zip(*results, strict=True))
            print(kernel, rate, sizes, size, worst)
            if not worst < 2e-5:
                sys.exit(1)


def compare_rows(draw):
    """Print how far each kernel is from its plain form, in turn on what the one before gave."""
    for rate, sizes, size in (
        (1, (16, 8, 16), 7),
        (2, (16, 8, 16), 21),
        (2, (9, 6, 9), 2),
        (3, (9, 6, 9), 13),
        (4, (8, 4, 24), 9),
    ):
        nope, rope, value = sizes
        query, key_value, position = (x.detach() for x in draw(size, sizes))
        tables = rotation(position, rope)
        start, end = (-(-width // 8) * 8 for width in (value, nope + rope))
        layout = RowSizes(3, rate, nope, rope, value, start + end, max(start, end))
        chunks = -(-size // rate)
        rows, grad = chunks - layout.first, torch.randn(2, size, 3, value)
        folded = chunked_rows.fold_query(query, *tables, layout)
        pairs = [(folded, chunked_triton.fold_query(query, *tables, layout))]
        lse, output = torch.randn(2, 3 * rate, rows), torch.randn(2, size, 3, value)
        if layout.first:
            part, lses = torch.randn(2, 3 * rate, rows, value), (lse, lse.clone())
            outputs = [
                module.merge_own(folded, key_value, part, each, 0.3, layout)
                for module, each in zip((chunked_rows, chunked_triton), lses, strict=True)
            ]
            # what has no position in the last chunk has no log-sum-exp that means anything
            live = torch.arange(chunks * rate).view(chunks, rate)[layout.first :].T < size
            live = live.repeat(3, 1)
            output = outputs[0]
            pairs += [tuple(outputs), tuple(x.masked_fill(~live, 0.0) for x in lses)]
        width = layout.width
        arguments = grad, folded, key_value, output, lse, 0.3, layout, width
        back = [module.backward_own(*arguments) for module in (chunked_rows, chunked_triton)]
        pairs += zip(*(x[:2] for x in back), strict=True)
        if layout.first:
            live = torch.arange(chunks * rate).view(chunks, 1, rate).expand(-1, 3, -1).flatten()
            pairs += [
                tuple(x[:, live < size] for x in each)
                for each in zip(*(x[2:] for x in back), strict=True)
            ]
        parts = (
            torch.randn(2, 3 * rate, rows, width),
            torch.randn(2, 3, rows, width),
            torch.randn(2, 3, rows, width),
        )
        if not layout.first:
            back[0] = back[1]
        arguments = grad, folded, key_value, *tables, back[0][2:], parts, layout
        pairs += zip(
            *(x.gather_gradients(*arguments) for x in (chunked_rows, chunked_triton)), strict=True
        )
        worst = torch.cat([(a - b).flatten() for a, b in pairs]).abs().max().item()
        print(rate, sizes, size, worst)
        if not worst < 1e-5:
            sys.exit(1)
