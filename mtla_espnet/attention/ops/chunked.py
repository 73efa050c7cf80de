"""Causal attention over chunk keys without a mask: residues folded into the heads.

For a CPU, and on CUDA for what `chunked_cuda` does not take: float32, dropout.

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

from mtla_espnet.attention.ops import sdpa
from mtla_espnet.attention.ops.autograd import operator


def attend(
    kernel: str,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    down_rate: int,
    scale: float,
    dropout: float = 0.0,
) -> Tensor:
    """Attend from every position to the finished chunks before its own, and to itself.

    Args:
        kernel: 'cpu' or 'efficient', of `choose.chunked_kernel`.
        query: (B, H, T, D).
        key: (B, H, T, D): row t is the partial of t's chunk up to t, so a finished
            chunk is its last member's row.
        value: (B, H, T, Dv): row t is the partial value of t's chunk up to t.
        down_rate: s, positions a chunk.
        scale: of the scores.
        dropout: of the weights, with 'efficient'.

    Returns:
        (B, H, T, Dv).
    """
    if query.size(2) <= down_rate:  # nothing is finished before any query
        return value * F.dropout(torch.ones_like(value[..., :1]), dropout) if dropout else value
    return _folded(kernel, query, key, value, down_rate, scale, dropout)[0]


def merge(
    output_a: Tensor, lse_a: Tensor, output_b: Tensor, lse_b: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the attention over the union of two sets of keys.

    softmax over a and b = (e^lse_a * output_a + e^lse_b * output_b) / (e^lse_a + e^lse_b).

    Args:
        output_a: (..., D), attention over the first keys.
        lse_a: (...), log-sum-exp of its scores, float32; -inf where it saw none.
        output_b: (..., D), over the second keys.
        lse_b: (...), of its scores; not -inf where `lse_a` is.

    Returns:
        Output (..., D) in the dtype of `output_a`, and log-sum-exp (...).
    """
    lse = torch.logaddexp(lse_a, lse_b)
    share_a, share_b = (lse_a - lse).exp()[..., None], (lse_b - lse).exp()[..., None]
    return (output_a * share_a + output_b * share_b).to(output_a.dtype), lse


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


def _width(query: Tensor, value: Tensor) -> int:
    """Return the one width that the kernels want of all, in eights."""
    return -(-max(query.size(-1), value.size(-1)) // 8) * 8


def _forward(
    kernel: str,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    down_rate: int,
    scale: float,
    dropout: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return output, log-sum-exp (B, H, T), state of dropout, and what it left of own keys."""
    size, value_width = query.size(2), value.size(-1)
    width = _width(query, value)
    output, lse, state = sdpa.kernel_forward(
        kernel,
        _fold(_widen(query, width), down_rate),
        _chunk_keys(_widen(key, width), down_rate),
        _chunk_keys(_widen(value, width), down_rate),
        scale,
        dropout,
    )
    own_score = (query.float() * key.float()).sum(-1) * scale
    output = _unfold(output[..., :value_width], down_rate, size)
    lse = _unfold(lse[..., None], down_rate, size)[..., 0].float()
    lse[:, :, :down_rate] = float("-inf")
    left = F.dropout(torch.ones_like(own_score), dropout) if dropout else lse.new_empty(0)
    own_value = left[..., None] * value if dropout else value
    output, lse = merge(output, lse, own_value, own_score)
    return output.contiguous(), lse.contiguous(), state, left


def _fake(kernel, query, key, value, down_rate, scale, dropout):
    lse = query.new_empty(query.shape[:-1], dtype=torch.float32)
    output = torch.empty_like(value, memory_format=torch.contiguous_format)
    left = torch.empty_like(lse) if dropout else lse.new_empty(0)
    return output, lse, torch.empty(2, dtype=torch.int64, device="cpu"), left


def _backward(
    kernel: str,
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: Tensor,
    lse: Tensor,
    state: Tensor,
    left: Tensor,
    down_rate: int,
    scale: float,
    dropout: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of query, key, value."""
    width = _width(query, value)
    own = ((query.float() * key.float()).sum(-1) * scale - lse).exp()
    delta = (grad.float() * output.float()).sum(-1)
    own_part = (grad.float() * value.float()).sum(-1)
    dropped = own
    if dropout:
        own_part, dropped = own_part * left, own * left
    own_grad = own * (own_part - delta) * scale
    grad_query = own_grad[..., None] * key.float()
    grad_key = own_grad[..., None] * query.float()
    grad_value = dropped[..., None] * grad.float()

    parts = sdpa.kernel_backward(
        kernel,
        _fold(_widen(grad, width), down_rate),
        _fold(_widen(query, width), down_rate),
        _chunk_keys(_widen(key, width), down_rate),
        _chunk_keys(_widen(value, width), down_rate),
        _fold(_widen(output, width), down_rate),
        _fold(lse[..., None], down_rate)[..., 0].contiguous(),
        scale,
        dropout,
        state,
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


def _fake_backward(
    kernel, grad, query, key, value, output, lse, state, left, down_rate, scale, dropout
):  # fmt: skip
    return tuple(
        torch.empty_like(x, memory_format=torch.contiguous_format) for x in (query, key, value)
    )


def _save(ctx, inputs, output):
    ctx.kernel, query, key, value, ctx.down_rate, ctx.scale, ctx.dropout = inputs
    ctx.set_materialize_grads(False)  # of all but the output
    ctx.save_for_backward(query, key, value, *output)


def _gradients(ctx, backward, grad, *_):
    grads = backward(ctx.kernel, grad, *ctx.saved_tensors, ctx.down_rate, ctx.scale, ctx.dropout)
    return None, *grads, None, None, None


_folded = operator(
    "mtla_espnet::folded_attention", _forward, _fake, _backward, _fake_backward, _save, _gradients
)
