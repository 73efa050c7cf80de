"""Triton kernels of the backward of attention over chunks: what is done row by row."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from mtla_espnet.attention.ops.chunked_forward_triton import (
    ROWS_A_PROGRAM,
    row_grid,
    row_place,
    width_blocks,
)
from mtla_espnet.attention.ops.row_sizes import RowSizes


@triton.jit(do_not_specialize=["size", "rows", "chunks"])
def _backward_own(
    grad, folded, key_value, output, lse, folded_grad, folded_output, weight, weight_grad, size,
    rows, chunks, scale,
    HEADS: tl.constexpr, RATE: tl.constexpr, FIRST: tl.constexpr, KEY: tl.constexpr,
    VALUE: tl.constexpr, VALUE_PAD: tl.constexpr, PACKED: tl.constexpr, LEFT: tl.constexpr,
    WIDTH: tl.constexpr, FOLDED: tl.constexpr, KEY_BLOCK: tl.constexpr, VALUE_BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
):  # fmt: skip
    batch = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    position, chunk, head, folded_head = row_place(row, HEADS, RATE)
    exists = row < rows
    live = (position < size) & exists
    v = tl.arange(0, VALUE_BLOCK)[None]
    v_some = live[:, None] & (v < VALUE)
    token = batch * size + position
    place = ((token * HEADS + head) * VALUE)[:, None] + v
    out = tl.load(output + place, v_some, 0.0)
    out_grad = tl.load(grad + place, v_some, 0.0)

    kept = (exists & (chunk >= FIRST))[:, None] & (v < FOLDED)
    first_rows = FIRST * HEADS * RATE
    target = (batch * (rows - first_rows) + row - first_rows)[:, None] * FOLDED + v
    tl.store(folded_grad + target, out_grad, kept)
    tl.store(folded_output + target, out, kept)

    if FIRST:  # rows have an own key beside the chunks
        k = tl.arange(0, KEY_BLOCK)[None]
        k_some = live[:, None] & (k < KEY)
        own = key_value + ((token * HEADS + head) * PACKED)[:, None]
        q = tl.load(folded + ((batch * rows + row) * WIDTH + LEFT)[:, None] + k, k_some, 0.0)
        key = tl.load(own + VALUE_PAD + k, k_some, 0.0)
        value = tl.load(own + v, v_some, 0.0).to(tl.float32)
        score = tl.sum(q.to(tl.float32) * key.to(tl.float32), 1) * scale
        seen = live & (chunk > 0)
        lse_place = (batch * (HEADS * RATE) + folded_head) * (chunks - 1) + chunk - 1
        share = tl.exp(score - tl.load(lse + lse_place, seen, 0.0))
        difference = tl.sum(out_grad.to(tl.float32) * (value - out.to(tl.float32)), 1)
        tl.store(weight + batch * rows + row, tl.where(seen, share, 1.0), exists)
        score_grad = tl.where(seen, share * difference * scale, 0.0)
        tl.store(weight_grad + batch * rows + row, score_grad, exists)


@triton.jit(do_not_specialize=["size", "rows", "chunks"])
def _gather_gradients(
    grad, folded, key_value, cosine, sine, weight, weight_grad, query_part, key_part, value_part,
    query_grad, key_value_grad, size, rows, chunks, table_batch, query_part_batch,
    query_part_head, query_part_chunk, key_part_batch, key_part_head, key_part_chunk,
    value_part_batch, value_part_head, value_part_chunk,
    HEADS: tl.constexpr, RATE: tl.constexpr, FIRST: tl.constexpr, NOPE: tl.constexpr,
    HALF: tl.constexpr, VALUE: tl.constexpr, VALUE_PAD: tl.constexpr, PACKED: tl.constexpr,
    LEFT: tl.constexpr, WIDTH: tl.constexpr, NOPE_BLOCK: tl.constexpr, HALF_BLOCK: tl.constexpr,
    KEY_BLOCK: tl.constexpr, VALUE_BLOCK: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    batch = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    position, chunk, head, folded_head = row_place(row, HEADS, RATE)
    live = ((position < size) & (row < rows))[:, None]
    asked = live & (chunk >= FIRST)[:, None]  # rows that the kernel had as queries
    token = batch * size + position
    row_of_batch = batch * rows + row
    own = key_value + ((token * HEADS + head) * PACKED + VALUE_PAD)[:, None]

    # -- query: both parts, turned back
    part = batch * query_part_batch + folded_head * query_part_head
    part += (chunk.to(tl.int64) - FIRST) * query_part_chunk
    part = query_part + part[:, None] + LEFT
    target = query_grad + ((token * HEADS + head) * (NOPE + 2 * HALF))[:, None]
    n = tl.arange(0, NOPE_BLOCK)[None]
    r = tl.arange(0, 2 * HALF_BLOCK)[None]
    nope = tl.load(part + 2 * HALF + n, asked & (n < NOPE), 0.0).to(tl.float32)
    rope = tl.load(part + r, asked & (r < 2 * HALF), 0.0).to(tl.float32)
    if FIRST:
        score_grad = tl.load(weight_grad + row_of_batch, row < rows, 0.0)[:, None]
        share = tl.load(weight + row_of_batch, row < rows, 0.0)[:, None]
        nope += score_grad * tl.load(own + 2 * HALF + n, live & (n < NOPE), 0.0).to(tl.float32)
        rope += score_grad * tl.load(own + r, live & (r < 2 * HALF), 0.0).to(tl.float32)
    even, odd = tl.split(tl.reshape(rope, (ROWS, HALF_BLOCK, 2)))
    pair = tl.arange(0, HALF_BLOCK)[None]
    angle = batch * table_batch + position[:, None] * HALF + pair
    cos = tl.load(cosine + angle, live & (pair < HALF), 0.0)
    sin = tl.load(sine + angle, live & (pair < HALF), 0.0)
    turned = tl.join(even * cos + odd * sin, odd * cos - even * sin)
    tl.store(target + n, nope, live & (n < NOPE))
    turned = tl.reshape(turned, (ROWS, 2 * HALF_BLOCK))
    tl.store(target + NOPE + r, turned, live & (r < 2 * HALF))

    # -- keys and values: the chunk's share goes to its last member
    last = live & (position % RATE == RATE - 1)[:, None] & (chunk < chunks - FIRST)[:, None]
    k = tl.arange(0, KEY_BLOCK)[None]
    v = tl.arange(0, VALUE_BLOCK)[None]
    part = batch * key_part_batch + head * key_part_head + chunk.to(tl.int64) * key_part_chunk
    k_some = k < PACKED - VALUE_PAD
    key = tl.load(key_part + part[:, None] + LEFT + k, last & k_some, 0.0).to(tl.float32)
    part = batch * value_part_batch + head * value_part_head
    part += chunk.to(tl.int64) * value_part_chunk
    v_some = v < VALUE_PAD
    value = tl.load(value_part + part[:, None] + v, last & v_some, 0.0).to(tl.float32)
    if FIRST:
        q_some = live & (k < WIDTH - LEFT)
        q = tl.load(folded + (row_of_batch * WIDTH + LEFT)[:, None] + k, q_some, 0.0)
        key += score_grad * q.to(tl.float32)
        place = ((token * HEADS + head) * VALUE)[:, None] + v
        value += share * tl.load(grad + place, live & (v < VALUE), 0.0).to(tl.float32)
    target = key_value_grad + ((token * HEADS + head) * PACKED)[:, None]
    tl.store(target + VALUE_PAD + k, key, live & k_some)
    tl.store(target + v, value, live & v_some)


def backward_own(
    grad: Tensor,
    folded: Tensor,
    key_value: Tensor,
    output: Tensor,
    lse: Tensor,
    scale: float,
    sizes: RowSizes,
    value_width: int,
    left: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return what the kernel's backward takes, and the own key's part of the softmax.

    Args:
        grad: (B, T, H, v) contiguous, of the output.
        folded: (B, J, H * s, width), the queries that `fold_query` returned.
        key_value: (B, T, H, packed) contiguous.
        output: (B, T, H, v) contiguous.
        lse: of `merge_own`.
        scale: of the scores.
        sizes: of the problem.
        value_width: of the two folded results, padded with zeros.
        left: None: dropout is left to the plain form.

    Returns:
        Folded grad and output (B, J - first, H * s, value_width); weight of the own key
        and gradient of its unscaled score, (B, J * H * s) float32, unset where s = 1.
    """
    batch, size = key_value.shape[:2]
    chunks, heads = folded.shape[1:3]
    shape = batch, chunks - sizes.first, heads, value_width
    folded_grad, folded_output = grad.new_empty(shape), grad.new_empty(shape)
    rows = chunks * heads
    weight, weight_grad = grad.new_empty(2, batch, rows, dtype=torch.float32)
    _backward_own[row_grid(sizes, chunks, batch)](
        grad,
        folded,
        key_value,
        output,
        lse,
        folded_grad,
        folded_output,
        weight,
        weight_grad,
        size,
        rows,
        chunks,
        scale,
        sizes.heads,
        sizes.down_rate,
        sizes.first,
        sizes.nope + sizes.rope,
        sizes.value_width,
        sizes.value_pad,
        sizes.packed,
        sizes.left,
        sizes.width,
        value_width,
        triton.next_power_of_2(sizes.nope + sizes.rope),
        triton.next_power_of_2(max(value_width, sizes.value_width)),
        ROWS_A_PROGRAM,
    )
    return folded_grad, folded_output, weight, weight_grad


def gather_gradients(
    grad: Tensor,
    folded: Tensor,
    key_value: Tensor,
    cosine: Tensor,
    sine: Tensor,
    weights: tuple[Tensor, Tensor],
    parts: tuple[Tensor, Tensor, Tensor],
    sizes: RowSizes,
) -> tuple[Tensor, Tensor]:
    """Add the own key's gradients to the kernel's, unfold, and turn the queries back.

    Args:
        grad: (B, T, H, v) contiguous, of the output.
        folded: of `fold_query`.
        key_value: (B, T, H, packed) contiguous.
        cosine: (B or 1, T, rope / 2) float32, contiguous, of the queries' angles.
        sine: (B or 1, T, rope / 2) float32, contiguous, of the same angles.
        weights: the last two results of `backward_own`.
        parts: the kernel's gradients of query (B, H * s, J - first, width), key and value
            (B, H, J - first, at least their width), last axes contiguous.
        sizes: of the problem.

    Returns:
        Gradients of the unturned query (B, T, H, nope + rope) and of `key_value`.
    """
    batch, size = key_value.shape[:2]
    chunks = folded.size(1)
    query_grad = grad.new_empty(batch, size, sizes.heads, sizes.nope + sizes.rope)
    key_value_grad = torch.empty_like(key_value)
    _gather_gradients[row_grid(sizes, chunks, batch)](
        grad,
        folded,
        key_value,
        cosine,
        sine,
        *weights,
        *parts,
        query_grad,
        key_value_grad,
        size,
        chunks * sizes.heads * sizes.down_rate,
        chunks,
        0 if cosine.size(0) == 1 else cosine.stride(0),
        *(stride for part in parts for stride in part.stride()[:3]),
        sizes.heads,
        sizes.down_rate,
        sizes.first,
        sizes.nope,
        sizes.rope // 2,
        sizes.value_width,
        sizes.value_pad,
        sizes.packed,
        sizes.left,
        sizes.width,
        triton.next_power_of_2(sizes.nope),
        triton.next_power_of_2(sizes.rope // 2),
        *width_blocks(sizes),
        ROWS_A_PROGRAM,
    )
    return query_grad, key_value_grad
