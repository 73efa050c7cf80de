"""Causal attention over chunks: finished chunks before a query's own, and its own partial.

Queries at positions j * s + k of one residue k form a plain causal problem over the chunk keys: row
j sees the chunks before j. Residues are therefore further heads of the query. Without its first row
and the last chunk, "before j" is the causal rule of PyTorch's kernels, which do the work. A
finished chunk is a strided view of its last member. The own key of each query is merged by
log-sum-exp. The backward calls the kernel's backward with the *merged* output and log-sum-exp,
which yields the chunk part's share of the gradients (the identity that ring attention rests on,
arXiv 2310.01889); the own key's share is row by row. At s = 1 each position is a chunk that sees
itself: plain causal attention.

What is done row by row around a kernel (folding, merging, both halves of the backward) exists in
plain PyTorch (`chunked_rows`) and as Triton kernels (`chunked_triton`) of the same signatures.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mtla_espnet.attention.ops import choose, sdpa
from mtla_espnet.attention.ops.autograd import operator
from mtla_espnet.attention.ops.row_sizes import RowSizes


def pack(
    kernel: str, entry: Tensor, weight: Tensor, heads: int, nope: int, rope: int, value: int
) -> Tensor:
    """Return whole keys and values of all heads, side by side.

    Args:
        kernel: of `choose.chunked_kernel`.
        entry: (B, T, r + rope), latent and turned rotary key.
        weight: (H * (nope + v), r), rows of a head: nope, then value.
        heads: H.
        nope: a head's width without position.
        rope: rotary width.
        value: v.

    Returns:
        (B, T, H, packed), a row: value, rotary key, key without position; value and key are
        each filled with zeros to a multiple of 8.
    """
    if choose.has_chunk_kernels(kernel):
        packed = F.linear(entry, pack_weight(weight, heads, nope, rope, value))
        return packed.unflatten(-1, (heads, -1))
    latent, rotary = entry.split((weight.size(1), rope), dim=-1)
    both = F.linear(latent, weight).unflatten(-1, (heads, -1))
    nope_part, value_part = both.split((nope, value), dim=-1)
    rotary = rotary[:, :, None].expand(-1, -1, heads, -1)
    fill = (both.new_zeros(()).expand(*both.shape[:-1], -n % 8) for n in (value, nope + rope))
    return torch.cat((value_part, next(fill), rotary, nope_part, next(fill)), dim=-1)


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
    dropout: float = 0.0,
) -> Tensor:
    """Attend from every position to the finished chunks before its own, and to itself.

    Args:
        kernel: of `choose.chunked_kernel`.
        query: (B, T, H, nope + rope), the rotary part not yet turned.
        key_value: (B, T, H, packed), of `pack`: row t is the partial of t's chunk up to t.
        cosine: (B or 1, T, rope / 2) float32, of the query's angles.
        sine: (B or 1, T, rope / 2) float32, of the same angles.
        down_rate: s, positions a chunk.
        value_width: v.
        scale: of the scores.
        dropout: of the weights, with 'efficient' alone.

    Returns:
        (B, T, H, v).
    """
    inputs = query, key_value.contiguous(), cosine, sine
    return _chunked(kernel, *inputs, down_rate, value_width, scale, dropout)[0]


def _row_sizes(kernel: str, heads: int, sizes: tuple[int, ...], packed: int) -> RowSizes:
    down_rate, nope, rope, value_width = sizes
    value_pad = -(-value_width // 8) * 8
    width = packed - value_pad
    # all but cuDNN want one width: the longer of value and key, read from either end of a row
    width = width if kernel == "cudnn" else max(width, value_pad)
    return RowSizes(heads, down_rate, nope, rope, value_width, packed, width)


def _parts(
    kernel: str, folded: Tensor, key_value: Tensor, layout: RowSizes
) -> tuple[Tensor, Tensor, Tensor]:
    """Return views for the kernel: query (B, H * s, J - first, width), keys and values."""
    rows = folded.size(1) - layout.first
    query = folded[:, layout.first :]
    finished = key_value[:, layout.down_rate - 1 :: layout.down_rate][:, :rows]
    key = finished[..., layout.packed - layout.width :]
    value = finished[..., : layout.value_pad if kernel == "cudnn" else layout.width]
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
    dropout: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return output, folded query, log-sum-exp (B, H * s, J - first), and what dropout did.

    That is the state of the kernel's, and what is left of own keys, (B, T, H).
    """
    rows = choose.chunk_operations(kernel)
    batch, size, heads, width = query.shape
    rope = 2 * cosine.size(-1)
    sizes = down_rate, width - rope, rope, value_width
    layout = _row_sizes(kernel, heads, sizes, key_value.size(-1))
    folded = rows.fold_query(query, cosine, sine, layout)
    chunks = folded.size(1) - layout.first
    if chunks:
        parts = _parts(kernel, folded, key_value, layout)
        part, lse, state = sdpa.kernel_forward(kernel, *parts, scale, dropout)
        lse = lse.float().contiguous()
    else:  # nothing is finished before any query
        part = query.new_empty(batch, heads * down_rate, 0, value_width)
        lse = query.new_empty(batch, heads * down_rate, 0, dtype=torch.float32)
        state = torch.zeros(2, dtype=torch.int64, device="cpu")
    left = lse.new_empty(0)
    if layout.first:
        if dropout:
            left = F.dropout(lse.new_ones(batch, size, heads), dropout)
        own = left if dropout else None
        output = rows.merge_own(folded, key_value, part, lse, scale, layout, own)
    else:
        output = part[..., :value_width].transpose(1, 2).contiguous()
    return output, folded, lse, state, left


def _fake(kernel, query, key_value, cosine, sine, down_rate, value_width, scale, dropout):
    batch, size, heads, width = query.shape
    rope = 2 * cosine.size(-1)
    sizes = down_rate, width - rope, rope, value_width
    layout = _row_sizes(kernel, heads, sizes, key_value.size(-1))
    chunks = -(-size // down_rate)
    folded = query.new_empty(batch, chunks, heads * down_rate, layout.width)
    lse = query.new_empty(batch, heads * down_rate, chunks - layout.first, dtype=torch.float32)
    left = lse.new_empty((batch, size, heads) if dropout and layout.first else 0)
    state = torch.empty(2, dtype=torch.int64, device="cpu")
    return query.new_empty(batch, size, heads, value_width), folded, lse, state, left


def _backward(
    kernel: str,
    grad: Tensor,
    key_value: Tensor,
    cosine: Tensor,
    sine: Tensor,
    output: Tensor,
    folded: Tensor,
    lse: Tensor,
    state: Tensor,
    left: Tensor,
    down_rate: int,
    key_width: int,
    scale: float,
    dropout: float,
) -> tuple[Tensor, Tensor]:
    """Return the gradients of query and key_value."""
    rows = choose.chunk_operations(kernel)
    heads, value_width = output.shape[2:]
    rope = 2 * cosine.size(-1)
    sizes = down_rate, key_width - rope, rope, value_width
    layout = _row_sizes(kernel, heads, sizes, key_value.size(-1))
    query, key, value = _parts(kernel, folded, key_value, layout)
    grad, own = grad.contiguous(), left if left.numel() else None
    folded_grad, folded_output, *weights = rows.backward_own(
        grad, folded, key_value, output, lse, scale, layout, value.size(-1), own
    )
    parts = query, key, value
    if query.size(2):  # else they are empty
        folded_grad, folded_output = folded_grad.transpose(1, 2), folded_output.transpose(1, 2)
        parts = sdpa.kernel_backward(
            kernel, folded_grad, *parts, folded_output, lse, scale, dropout, state
        )
    return rows.gather_gradients(grad, folded, key_value, cosine, sine, weights, parts, layout)


def _fake_backward(
    kernel, grad, key_value, cosine, sine, output, folded, lse, state, left, down_rate, key_width,
    scale, dropout,
):  # fmt: skip
    batch, size, heads, _ = output.shape
    return output.new_empty(batch, size, heads, key_width), torch.empty_like(key_value)


def _save(ctx, inputs, output):
    ctx.kernel, query, key_value, cosine, sine, ctx.down_rate, _, ctx.scale, ctx.dropout = inputs
    ctx.key_width = query.size(-1)
    ctx.set_materialize_grads(False)  # of all but the output
    ctx.save_for_backward(key_value, cosine, sine, *output)


def _gradients(ctx, backward, grad, *_):
    sizes = ctx.down_rate, ctx.key_width, ctx.scale, ctx.dropout
    grads = backward(ctx.kernel, grad, *ctx.saved_tensors, *sizes)
    return None, *grads, *(None,) * 6


_chunked = operator(
    "mtla_espnet::chunked_attention", _forward, _fake, _backward, _fake_backward, _save, _gradients
)
