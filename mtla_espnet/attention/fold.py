"""Causal attention over chunk keys without a mask: residues folded into the heads.

Queries at positions i = j * s + k of one residue k form a plain causal problem over
the chunk keys: row j sees chunks before j. Dropping the first row and the last chunk
turns "before j" into the kernels' own causal rule. The own key of each query is merged
by log-sum-exp. The backward calls the kernel's backward with the *merged* output and
log-sum-exp, which yields the chunk part's share of the gradients (the identity that
ring attention rests on, arXiv 2310.01889); the own key's share is pointwise.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mtla_espnet.attention import backend
from mtla_espnet.attention.lse import merge


def attend(
    kernel: str, query: Tensor, key: Tensor, value: Tensor, down_rate: int, scale: float
) -> Tensor:
    """Attend from every position to the finished chunks before its own, and to itself.

    Args:
        kernel: of `backend.fold_kernel`.
        query: (B, H, T, D).
        key: (B, H, T, D): row t is the partial of t's chunk up to t, so a finished
            chunk is its last member's row.
        value: (B, H, T, Dv), likewise.
        down_rate: s, positions a chunk.
        scale: of the scores.

    Returns:
        (B, H, T, Dv).
    """
    chunks = -(-query.size(2) // down_rate)
    if chunks < 2:  # nothing is finished before any query
        return value
    return _FoldedAttention.apply(kernel, query, key, value, down_rate, scale)


def _fold(x: Tensor, down_rate: int) -> Tensor:
    """(B, H, T, D) -> (B, s * H, J - 1, D): rows of the chunks after the first."""
    batch, heads, size, width = x.shape
    chunks = -(-size // down_rate)
    x = F.pad(x, (0, 0, 0, chunks * down_rate - size))[:, :, down_rate:]
    x = x.unflatten(2, (chunks - 1, down_rate)).permute(0, 3, 1, 2, 4)
    return x.reshape(batch, down_rate * heads, chunks - 1, width)


def _unfold(x: Tensor, down_rate: int, size: int) -> Tensor:
    """Inverse of `_fold` for T = `size`; the first chunk's rows are 0."""
    x = x.unflatten(1, (down_rate, -1)).permute(0, 2, 3, 1, 4).flatten(2, 3)
    return F.pad(x, (0, 0, down_rate, 0))[:, :, :size]


def _chunk_keys(x: Tensor, down_rate: int) -> Tensor:
    """(B, H, T, D) -> (B, s * H, J - 1, D): finished chunks, once a residue."""
    chunks = -(-x.size(2) // down_rate)
    x = x[:, :, down_rate - 1 :: down_rate][:, :, : chunks - 1]
    return x.repeat(1, down_rate, 1, 1)


class _FoldedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, kernel, query, key, value, down_rate, scale):
        width, size = value.size(-1), query.size(2)
        padded = F.pad(value, (0, query.size(-1) - width))  # the kernels want equal widths
        chunk_query = _fold(query, down_rate)
        chunk_key, chunk_value = _chunk_keys(key, down_rate), _chunk_keys(padded, down_rate)
        output, lse, rest = backend.fold_forward(kernel, chunk_query, chunk_key, chunk_value, scale)
        own_score = (query.float() * key.float()).sum(-1) * scale
        output = _unfold(output[..., :width], down_rate, size)
        lse = _unfold(lse[..., None], down_rate, size)[..., 0].float()
        lse[:, :, :down_rate] = float("-inf")
        output, lse = merge(output, lse, value, own_score)
        ctx.save_for_backward(
            query, key, value, output, lse, *(x for x in rest if torch.is_tensor(x))
        )
        ctx.rest = tuple(None if torch.is_tensor(x) else x for x in rest)
        ctx.kernel, ctx.down_rate, ctx.scale = kernel, down_rate, scale
        return output

    @staticmethod
    def backward(ctx, grad):
        query, key, value, output, lse, *tensors = ctx.saved_tensors
        tensors = iter(tensors)
        rest = tuple(next(tensors) if x is None else x for x in ctx.rest)
        rate, scale = ctx.down_rate, ctx.scale
        extra = query.size(-1) - value.size(-1)

        own = ((query.float() * key.float()).sum(-1) * scale - lse).exp()
        delta = (grad.float() * output.float()).sum(-1)
        own_grad = own * ((grad.float() * value.float()).sum(-1) - delta) * scale
        grad_query = own_grad[..., None] * key.float()
        grad_key = own_grad[..., None] * query.float()
        grad_value = own[..., None] * grad.float()

        folded_lse = _fold(lse[..., None], rate)[..., 0].contiguous()
        parts = backend.fold_backward(
            ctx.kernel,
            _fold(F.pad(grad, (0, extra)), rate),
            _fold(query, rate),
            _chunk_keys(key, rate),
            _chunk_keys(F.pad(value, (0, extra)), rate),
            _fold(F.pad(output, (0, extra)), rate),
            folded_lse,
            rest,
            scale,
        )
        grad_query += _unfold(parts[0], rate, query.size(2))
        chunks = parts[1].size(2)
        for total, part in ((grad_key, parts[1]), (grad_value, parts[2][..., : value.size(-1)])):
            rows = part.unflatten(1, (rate, -1)).float().sum(1)
            total[:, :, rate - 1 :: rate][:, :, :chunks] += rows
        return (
            None,
            grad_query.to(query.dtype),
            grad_key.to(key.dtype),
            grad_value.to(value.dtype),
            None,
            None,
        )
