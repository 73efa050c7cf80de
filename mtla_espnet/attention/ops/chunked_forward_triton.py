"""Triton kernels of the forward of attention over chunks: what is done row by row.

A row is one head of one position, and rows are counted as the folded query lies in
memory: row = (chunk * H + head) * s + residue. Each kernel reads and writes every
number once. `chunked_rows` holds the plain form of all of them, for any device.
"""

import triton
import triton.language as tl
from torch import Tensor

from mtla_espnet.attention.ops.row_sizes import RowSizes

ROWS_A_PROGRAM = 32  # a program


@triton.jit
def row_place(row, HEADS: tl.constexpr, RATE: tl.constexpr):
    """Return position, chunk, head, and the query head r's own index h * s + residue."""
    chunk = row // (HEADS * RATE)
    folded_head = row % (HEADS * RATE)
    head = folded_head // RATE
    return chunk * RATE + folded_head % RATE, chunk, head, folded_head


@triton.jit(do_not_specialize=["size", "rows"])
def _fold_query(
    query, cosine, sine, folded, size, rows, query_batch, query_position, query_head, table_batch,
    HEADS: tl.constexpr, RATE: tl.constexpr, NOPE: tl.constexpr, HALF: tl.constexpr,
    LEFT: tl.constexpr, WIDTH: tl.constexpr, NOPE_BLOCK: tl.constexpr, HALF_BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
):  # fmt: skip
    batch = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    position, _chunk, head, _folded_head = row_place(row, HEADS, RATE)
    exists = (row < rows)[:, None]
    live = (position < size)[:, None] & exists
    source = query + batch * query_batch
    source += (position.to(tl.int64) * query_position + head * query_head)[:, None]
    target = folded + (batch * rows + row)[:, None] * WIDTH + LEFT

    column = tl.arange(0, NOPE_BLOCK)[None]
    nope = tl.load(source + column, live & (column < NOPE), 0.0)
    tl.store(target + 2 * HALF + column, nope, exists & (column < NOPE))

    column = tl.arange(0, 2 * HALF_BLOCK)[None]
    rope = tl.load(source + NOPE + column, live & (column < 2 * HALF), 0.0).to(tl.float32)
    even, odd = tl.split(tl.reshape(rope, (ROWS, HALF_BLOCK, 2)))
    pair = tl.arange(0, HALF_BLOCK)[None]
    angle = batch * table_batch + position[:, None] * HALF + pair
    cos = tl.load(cosine + angle, live & (pair < HALF), 0.0)
    sin = tl.load(sine + angle, live & (pair < HALF), 0.0)
    turned = tl.join(even * cos - odd * sin, even * sin + odd * cos)
    turned = tl.reshape(turned, (ROWS, 2 * HALF_BLOCK))
    tl.store(target + column, turned, exists & (column < 2 * HALF))


@triton.jit(do_not_specialize=["size", "rows", "chunks"])
def _merge_own(
    folded, key_value, part, lse, output, size, rows, chunks, part_batch, part_head, part_chunk,
    scale,
    HEADS: tl.constexpr, RATE: tl.constexpr, KEY: tl.constexpr, VALUE: tl.constexpr,
    VALUE_PAD: tl.constexpr, PACKED: tl.constexpr, LEFT: tl.constexpr, WIDTH: tl.constexpr,
    KEY_BLOCK: tl.constexpr, VALUE_BLOCK: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    batch = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    position, chunk, head, folded_head = row_place(row, HEADS, RATE)
    live = (position < size) & (row < rows)
    seen = live & (chunk > 0)
    k = tl.arange(0, KEY_BLOCK)[None]
    v = tl.arange(0, VALUE_BLOCK)[None]
    k_some, v_some = live[:, None] & (k < KEY), live[:, None] & (v < VALUE)

    token = batch * size + position
    own = key_value + ((token * HEADS + head) * PACKED)[:, None]
    q = tl.load(folded + ((batch * rows + row) * WIDTH + LEFT)[:, None] + k, k_some, 0.0)
    key = tl.load(own + VALUE_PAD + k, k_some, 0.0)
    value = tl.load(own + v, v_some, 0.0).to(tl.float32)
    score = tl.sum(q.to(tl.float32) * key.to(tl.float32), 1) * scale

    place = (batch * (HEADS * RATE) + folded_head) * (chunks - 1) + chunk - 1
    lse_part = tl.load(lse + place, seen, float("-inf"))
    top = tl.maximum(lse_part, score)
    share, share_own = tl.exp(lse_part - top), tl.exp(score - top)
    total = share + share_own
    address = batch * part_batch + folded_head * part_head
    address += (chunk.to(tl.int64) - 1) * part_chunk
    chunk_value = tl.load(part + address[:, None] + v, v_some & seen[:, None], 0.0)
    merged = chunk_value.to(tl.float32) * (share / total)[:, None]
    merged += value * (share_own / total)[:, None]
    tl.store(output + ((token * HEADS + head) * VALUE)[:, None] + v, merged, v_some)
    tl.store(lse + place, top + tl.log(total), seen)


def fold_query(query: Tensor, cosine: Tensor, sine: Tensor, sizes: RowSizes) -> Tensor:
    """Turn the rotary part of the queries and fold residues into the heads.

    Args:
        query: (B, T, H, nope + rope), last axis contiguous; the last `rope` are turned.
        cosine: (B or 1, T, rope / 2) float32, contiguous.
        sine: (B or 1, T, rope / 2) float32, contiguous.
        sizes: of the problem.

    Returns:
        (B, J, H * s, width): [zeros ; rope ; nope ; zeros] a row; zero past T.
    """
    batch, size = query.shape[:2]
    chunks = -(-size // sizes.down_rate)
    padded = sizes.width > sizes.nope + sizes.rope
    make = query.new_zeros if padded else query.new_empty
    folded = make(batch, chunks, sizes.heads * sizes.down_rate, sizes.width)
    _fold_query[row_grid(sizes, chunks, batch)](
        query,
        cosine,
        sine,
        folded,
        size,
        chunks * sizes.heads * sizes.down_rate,
        *query.stride()[:3],
        0 if cosine.size(0) == 1 else cosine.stride(0),
        sizes.heads,
        sizes.down_rate,
        sizes.nope,
        sizes.rope // 2,
        sizes.left,
        sizes.width,
        triton.next_power_of_2(sizes.nope),
        triton.next_power_of_2(sizes.rope // 2),
        ROWS_A_PROGRAM,
    )
    return folded


def merge_own(
    folded: Tensor,
    key_value: Tensor,
    part: Tensor,
    lse: Tensor,
    scale: float,
    sizes: RowSizes,
    left: Tensor | None = None,
) -> Tensor:
    """Merge each position's own key into its attention over finished chunks.

    Args:
        folded: of `fold_query`.
        key_value: (B, T, H, packed) contiguous, [value ; key] a row.
        part: (B, H * s, J - 1, at least v) attention of the chunks after the first.
        lse: (B, H * s, J - 1) its log-sum-exp, float32; that of all keys after the call.
        scale: of the scores.
        sizes: of the problem.
        left: None: dropout is left to the plain form.

    Returns:
        (B, T, H, v).
    """
    batch, size = key_value.shape[:2]
    chunks = folded.size(1)
    output = key_value.new_empty(batch, size, sizes.heads, sizes.value_width)
    _merge_own[row_grid(sizes, chunks, batch)](
        folded,
        key_value,
        part,
        lse,
        output,
        size,
        chunks * sizes.heads * sizes.down_rate,
        chunks,
        *part.stride()[:3],
        scale,
        sizes.heads,
        sizes.down_rate,
        sizes.nope + sizes.rope,
        sizes.value_width,
        sizes.value_pad,
        sizes.packed,
        sizes.left,
        sizes.width,
        *width_blocks(sizes),
        ROWS_A_PROGRAM,
    )
    return output


def row_grid(sizes: RowSizes, chunks: int, batch: int) -> tuple[int, int]:
    """Return the grid of a kernel over all rows of a batch."""
    return triton.cdiv(chunks * sizes.heads * sizes.down_rate, ROWS_A_PROGRAM), batch


def width_blocks(sizes: RowSizes) -> tuple[int, int]:
    """Return the powers of two that hold a key and a value."""
    key, value = sizes.packed - sizes.value_pad, sizes.value_pad
    return triton.next_power_of_2(key), triton.next_power_of_2(value)
