"""Causal attention of latent kinds on CUDA: kernels of PyTorch between Triton kernels.

What `chunked` computes, with fewer passes over memory. Keys and values come packed from
one matrix product and are read in place: a finished chunk is a strided view of its last
member. The query is turned and folded in one pass; residues are further query heads of a
key head (the kernels' own grouped-query mode), so chunk keys are never copied. At s = 1
each position is a chunk that sees itself: plain causal attention, which MLA uses.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mtla_espnet.attention.ops import sdpa
from mtla_espnet.attention.ops.autograd import operator
from mtla_espnet.attention.ops.row_sizes import RowSizes


def pack_weight(weight: Tensor, heads: int, nope: int, rope: int, value: int) -> Tensor:
    """Return the matrix that maps [latent ; rotary key] to packed keys and values.

    Its identity block hands the rotary key to every head, so that one matrix product
    gives whole keys, and its transpose sums their gradients.

    Args:
        weight: (H * (nope + v), r), rows of a head: nope, then value.
        heads: H.
        nope: a head's width without position.
        rope: rotary width.
        value: v.

    Returns:
        (H * packed, r + rope), rows of a head: value, rope, nope; value and key are each
        filled with zero rows to a multiple of 8.
    """
    nope_rows, value_rows = weight.unflatten(0, (heads, -1)).split((nope, value), dim=1)
    rank = weight.size(1)
    identity = F.pad(torch.eye(rope, dtype=weight.dtype, device=weight.device), (rank, 0))
    parts = (
        F.pad(value_rows, (0, rope, 0, -value % 8)),
        identity.expand(heads, -1, -1),
        F.pad(nope_rows, (0, rope, 0, -(nope + rope) % 8)),
    )
    return torch.cat(parts, dim=1).flatten(0, 1)


def attend(
    kernel: str,
    query: Tensor,
    key_value: Tensor,
    cosine: Tensor,
    sine: Tensor,
    down_rate: int,
    value_width: int,
    scale: float,
) -> Tensor:
    """Attend from every position to the finished chunks before its own, and to itself.

    Args:
        kernel: 'flash' or 'cudnn', of `choose.chunked_kernel`.
        query: (B, T, H, nope + rope), the rotary part not yet turned.
        key_value: (B, T, H, packed), by `pack_weight`, the rotary part turned: row t is
            the partial of t's chunk up to t.
        cosine: (B or 1, T, rope / 2) float32, of the query's angles.
        sine: (B or 1, T, rope / 2) float32, of the same angles.
        down_rate: s, positions a chunk.
        value_width: v.
        scale: of the scores.

    Returns:
        (B, T, H, v).
    """
    return _chunked(kernel, query, key_value, cosine, sine, down_rate, value_width, scale)[0]


def _row_sizes(kernel: str, heads: int, sizes: tuple[int, ...], packed: int) -> RowSizes:
    down_rate, nope, rope, value_width = sizes
    value_pad = -(-value_width // 8) * 8
    width = packed - value_pad
    # flash wants one width: the longer of value and key, read from either end of a row
    width = max(width, value_pad) if kernel == "flash" else width
    return RowSizes(heads, down_rate, nope, rope, value_width, packed, width)


def _parts(
    kernel: str, folded: Tensor, key_value: Tensor, layout: RowSizes
) -> tuple[Tensor, Tensor, Tensor]:
    """Return views for the kernel: query (B, H * s, J - first, width), keys and values."""
    rows = folded.size(1) - layout.first
    query = folded[:, layout.first :]
    finished = key_value[:, layout.down_rate - 1 :: layout.down_rate][:, :rows]
    key = finished[..., layout.packed - layout.width :]
    value = finished[..., : layout.width if kernel == "flash" else layout.value_pad]
    return tuple(x.transpose(1, 2) for x in (query, key, value))


def _forward(
    kernel: str,
    query: Tensor,
    key_value: Tensor,
    cosine: Tensor,
    sine: Tensor,
    down_rate: int,
    value_width: int,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return output, folded query, and log-sum-exp (B, H * s, J - first)."""
    from mtla_espnet.attention.ops import chunked_triton  # needs Triton

    batch, size, heads, width = query.shape
    rope = 2 * cosine.size(-1)
    sizes = down_rate, width - rope, rope, value_width
    layout = _row_sizes(kernel, heads, sizes, key_value.size(-1))
    folded = chunked_triton.fold_query(query, cosine, sine, layout)
    rows = folded.size(1) - layout.first
    if rows:
        parts = _parts(kernel, folded, key_value, layout)
        part, lse, _ = sdpa.kernel_forward(kernel, *parts, scale)
    else:  # nothing is finished before any query
        part = query.new_empty(batch, heads * down_rate, 0, value_width)
        lse = query.new_empty(batch, heads * down_rate, 0, dtype=torch.float32)
    if layout.first:
        output = chunked_triton.merge_own(folded, key_value, part, lse, scale, layout)
    else:
        output = part[..., :value_width].transpose(1, 2).contiguous()
    return output, folded, lse


def _fake(kernel, query, key_value, cosine, sine, down_rate, value_width, scale):
    batch, size, heads, width = query.shape
    rope = 2 * cosine.size(-1)
    sizes = down_rate, width - rope, rope, value_width
    layout = _row_sizes(kernel, heads, sizes, key_value.size(-1))
    chunks = -(-size // down_rate)
    folded = query.new_empty(batch, chunks, heads * down_rate, layout.width)
    lse = query.new_empty(batch, heads * down_rate, chunks - layout.first, dtype=torch.float32)
    return query.new_empty(batch, size, heads, value_width), folded, lse


def _backward(
    kernel: str,
    grad: Tensor,
    key_value: Tensor,
    cosine: Tensor,
    sine: Tensor,
    output: Tensor,
    folded: Tensor,
    lse: Tensor,
    down_rate: int,
    key_width: int,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """Return the gradients of query and key_value."""
    from mtla_espnet.attention.ops import chunked_backward_triton  # needs Triton

    heads, value_width = output.shape[2:]
    rope = 2 * cosine.size(-1)
    sizes = down_rate, key_width - rope, rope, value_width
    layout = _row_sizes(kernel, heads, sizes, key_value.size(-1))
    query, key, value = _parts(kernel, folded, key_value, layout)
    folded_grad, folded_output, *weights = chunked_backward_triton.backward_own(
        grad.contiguous(), folded, key_value, output, lse, scale, layout, value.size(-1)
    )
    if query.size(2):
        parts = sdpa.kernel_backward(
            kernel,
            folded_grad.transpose(1, 2),
            query,
            key,
            value,
            folded_output.transpose(1, 2),
            lse,
            scale,
        )
    else:
        parts = query, key, value  # empty
    return chunked_backward_triton.gather_gradients(
        grad.contiguous(), folded, key_value, cosine, sine, weights, parts, layout
    )


def _fake_backward(
    kernel, grad, key_value, cosine, sine, output, folded, lse, down_rate, key_width, scale
):
    batch, size, heads, _ = output.shape
    return output.new_empty(batch, size, heads, key_width), torch.empty_like(key_value)


def _save(ctx, inputs, output):
    ctx.kernel, query, key_value, cosine, sine, ctx.down_rate, _, ctx.scale = inputs
    ctx.key_width = query.size(-1)
    ctx.set_materialize_grads(False)  # of the folded query and the log-sum-exp
    ctx.save_for_backward(key_value, cosine, sine, *output)


def _gradients(ctx, backward, grad, *_):
    grads = backward(ctx.kernel, grad, *ctx.saved_tensors, ctx.down_rate, ctx.key_width, ctx.scale)
    return None, *grads, None, None, None, None, None


_chunked = operator(
    "mtla_espnet::fused_attention", _forward, _fake, _backward, _fake_backward, _save, _gradients
)
