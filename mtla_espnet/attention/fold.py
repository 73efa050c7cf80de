"""Causal attention over chunk keys without a mask, on a CPU: residues folded into the heads.

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


def attend(query: Tensor, key: Tensor, value: Tensor, down_rate: int, scale: float) -> Tensor:
    """Attend from every position to the finished chunks before its own, and to itself.

    Args:
        query: (B, H, T, D).
        key: (B, H, T, D): row t is the partial of t's chunk up to t, so a finished
            chunk is its last member's row.
        value: (B, H, T, Dv), likewise.
        down_rate: s, positions a chunk.
        scale: of the scores.

    Returns:
        (B, H, T, Dv).
    """
    if query.size(2) <= down_rate:  # nothing is finished before any query
        return value
    return _folded(query, key, value, down_rate, scale)[0]


def _widen(x: Tensor, width: int) -> Tensor:
    return F.pad(x, (0, width - x.size(-1)))


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


# Two custom operators, so that torch.compile takes a layer as a whole around them.
@torch.library.custom_op("mtla_espnet::folded_attention", mutates_args=())
def _folded(
    query: Tensor, key: Tensor, value: Tensor, down_rate: int, scale: float
) -> tuple[Tensor, Tensor]:
    """Return output and log-sum-exp (B, H, T)."""
    size, value_width = query.size(2), value.size(-1)
    width = max(query.size(-1), value_width)  # the kernel wants one
    output, lse = backend.kernel_forward(
        "cpu",
        _fold(_widen(query, width), down_rate),
        _chunk_keys(_widen(key, width), down_rate),
        _chunk_keys(_widen(value, width), down_rate),
        scale,
    )
    own_score = (query.float() * key.float()).sum(-1) * scale
    output = _unfold(output[..., :value_width], down_rate, size)
    lse = _unfold(lse[..., None], down_rate, size)[..., 0].float()
    lse[:, :, :down_rate] = float("-inf")
    output, lse = merge(output, lse, value, own_score)
    return output.contiguous(), lse.contiguous()


@_folded.register_fake
def _(query, key, value, down_rate, scale):
    lse = query.new_empty(query.shape[:-1], dtype=torch.float32)
    return torch.empty_like(value, memory_format=torch.contiguous_format), lse


@torch.library.custom_op("mtla_espnet::folded_attention_backward", mutates_args=())
def _folded_backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: Tensor,
    lse: Tensor,
    down_rate: int,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of query, key, value."""
    width = max(query.size(-1), value.size(-1))
    own = ((query.float() * key.float()).sum(-1) * scale - lse).exp()
    delta = (grad.float() * output.float()).sum(-1)
    own_grad = own * ((grad.float() * value.float()).sum(-1) - delta) * scale
    grad_query = own_grad[..., None] * key.float()
    grad_key = own_grad[..., None] * query.float()
    grad_value = own[..., None] * grad.float()

    parts = backend.kernel_backward(
        "cpu",
        _fold(_widen(grad, width), down_rate),
        _fold(_widen(query, width), down_rate),
        _chunk_keys(_widen(key, width), down_rate),
        _chunk_keys(_widen(value, width), down_rate),
        _fold(_widen(output, width), down_rate),
        _fold(lse[..., None], down_rate)[..., 0].contiguous(),
        scale,
    )
    grad_query += _unfold(parts[0], down_rate, query.size(2))[..., : query.size(-1)]
    chunks = parts[1].size(2)
    for total, part in ((grad_key, parts[1]), (grad_value, parts[2])):
        rows = part[..., : total.size(-1)].unflatten(1, (down_rate, -1)).float().sum(1)
        total[:, :, down_rate - 1 :: down_rate][:, :, :chunks] += rows
    return tuple(
        g.to(x.dtype).contiguous()
        for g, x in ((grad_query, query), (grad_key, key), (grad_value, value))
    )


@_folded_backward.register_fake
def _(grad, query, key, value, output, lse, down_rate, scale):
    return tuple(
        torch.empty_like(x, memory_format=torch.contiguous_format) for x in (query, key, value)
    )


def _setup_context(ctx, inputs, output):
    query, key, value, ctx.down_rate, ctx.scale = inputs
    ctx.save_for_backward(query, key, value, *output)


def _backward(ctx, grad, *_):
    grads = _folded_backward(grad, *ctx.saved_tensors, ctx.down_rate, ctx.scale)
    return *grads, None, None


_folded.register_autograd(_backward, setup_context=_setup_context)
