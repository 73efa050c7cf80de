"""Triton kernels that write a `GraphCache`; `decode` explains each operation."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from mtla_espnet.cache.graph import GraphCache

# Slots of a hypothesis whose rows are moved at once.
_ANCESTORS = 64


def power(size: int, least: int = 1) -> int:
    """Return the least power of two that is at least both numbers."""
    return max(least, triton.next_power_of_2(size))


@triton.jit
def newest(lengths, step, n, beams, capacity, RATE: tl.constexpr):
    """Where row n's newest position is: position, residue, slot, its plane, turn."""
    t = tl.load(step)
    length = tl.load(lengths + n // beams)
    offset = length % RATE + t
    slot, residue = offset // RATE, offset % RATE
    turn = t % 2
    plane = tl.where(residue == RATE - 1, slot, capacity + turn)
    return length + t, residue, slot, plane, turn


@triton.jit(do_not_specialize=["rows", "beams", "capacity"])
def _advance(
    ancestor, parents, lengths, step, rows, beams, capacity, RATE: tl.constexpr, BLOCK: tl.constexpr
):
    n = tl.program_id(0)
    _, _, slot, _, turn = newest(lengths, step, n, beams, capacity, RATE)
    parent = tl.load(parents + n)
    before = ancestor + ((1 - turn) * rows + parent) * capacity
    now = ancestor + (turn * rows + n) * capacity
    for first in range(0, capacity, BLOCK):
        index = first + tl.arange(0, BLOCK)
        row = tl.load(before + index, mask=index < capacity, other=0)
        tl.store(now + index, tl.where(index == slot, n, row), mask=index < capacity)


def advance(cache: GraphCache) -> None:
    """Let the ancestor index follow the parents, as `decode.advance` does."""
    _advance[(cache.rows,)](
        cache.ancestor,
        cache.parents,
        cache.lengths,
        cache.step,
        cache.rows,
        cache.beams,
        cache.capacity,
        RATE=cache.form.down_rate,
        BLOCK=_ANCESTORS,
        num_warps=1,
    )


@triton.jit
def _turn(x, index, held, angles, position, pair, half):
    """Turn adjacent pairs: `index` (..., 2) from pointer `x`, in float32."""
    value = tl.load(x + index, mask=held, other=0.0).to(tl.float32)
    even, odd = tl.split(value)
    angle = angles + (position * half + pair) * 2
    cosine = tl.load(angle, mask=pair < half, other=0.0)
    sine = tl.load(angle + 1, mask=pair < half, other=0.0)
    return tl.join(even * cosine - odd * sine, even * sine + odd * cosine)


@triton.jit
def _pairs(stride, heads, half, HEADS: tl.constexpr, HALF: tl.constexpr):
    """Index the pairs of heads, (HEADS, HALF, 2): index, which are there, pair."""
    head = tl.arange(0, HEADS)[:, None, None]
    pair = tl.arange(0, HALF)[None, :, None]
    index = head * stride + 2 * pair + tl.arange(0, 2)[None, None, :]
    held = (head < heads) & (pair < half) & (index >= 0)
    return index, held, tl.arange(0, HALF)[None, :]


@triton.jit(do_not_specialize=["rows", "beams", "capacity"])
def _write_latent(
    joint, query, norm_weight, norm_bias, vectors, numbers, store, angles,
    parents, lengths, step, rows, beams, capacity, eps, rank, half, heads, head_width,
    joint_stride, query_stride,
    RATE: tl.constexpr, MERGE: tl.constexpr, GROUPED: tl.constexpr,
    RANK: tl.constexpr, HALF: tl.constexpr, HEADS: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0)
    # one group, of MLA and MTLA, is known to the compiler
    group = tl.program_id(1) if GROUPED else 0
    position, residue, _, plane, turn = newest(lengths, step, n, beams, capacity, RATE)
    latents = tl.num_programs(1) * rank if GROUPED else rank
    width = latents + 2 * half
    index = tl.arange(0, RANK)
    held = index < rank
    if GROUPED:
        index += group * rank
    joint += n.to(tl.int64) * joint_stride
    entry = store + (plane.to(tl.int64) * rows + n) * width

    latent = tl.load(joint + index, mask=held, other=0.0).to(tl.float32)
    latent = tl.where(held, latent - tl.sum(latent) / rank, 0.0)
    variance = tl.sum(latent * latent) / rank
    weight = tl.load(norm_weight + index, mask=held, other=0.0).to(tl.float32)
    bias = tl.load(norm_bias + index, mask=held, other=0.0).to(tl.float32)
    latent = latent * tl.rsqrt(variance + eps) * weight + bias
    if MERGE:
        latent = latent.to(store.dtype.element_ty).to(tl.float32)
        chunk = position // RATE
        vector = tl.load(vectors + chunk * rank + index, mask=held, other=0.0)
        latent *= tl.sigmoid(tl.sum(vector * latent) + tl.load(numbers + chunk))
        if RATE > 1:
            parent = tl.load(parents + n)
            before = store + ((capacity + 1 - turn).to(tl.int64) * rows + parent) * width
            latent += tl.load(before + index, mask=held & (residue > 0), other=0.0).to(tl.float32)
    tl.store(entry + index, latent, mask=held)

    if GROUPED:
        if group > 0:
            return
    index, held, pair = _pairs(0, 1, half, 1, HALF)
    turned = _turn(joint + latents, index, held, angles, position, pair, half)
    tl.store(entry + latents + index, turned, mask=held)
    query += n.to(tl.int64) * query_stride + head_width - 2 * half
    index, held, pair = _pairs(head_width, heads, half, HEADS, HALF)
    turned = _turn(query, index, held, angles, position, pair, half)
    tl.store(query + index, turned, mask=held)


def write(
    entry: Tensor,
    query: Tensor,
    norm: torch.nn.Module | None,
    gates: tuple[Tensor, Tensor] | None,
    cache: GraphCache,
    layer: int,
) -> None:
    """Cache the newest position and turn the queries, as `decode.write` does."""
    if cache.form.shared_width:
        _launch_latent(entry, query, norm, gates, cache, layer)
    else:
        _launch_heads(entry, query, cache, layer)


def _launch_latent(joint, query, norm, gates, cache, layer):
    rank, half = cache.form.key_width, cache.form.shared_width // 2
    vectors, numbers = (cache.angles, cache.angles) if gates is None else gates
    _write_latent[(cache.rows, cache.form.groups)](
        joint,
        query,
        norm.weight,
        norm.bias,
        vectors,
        numbers,
        cache.store[layer],
        cache.angles,
        cache.parents,
        cache.lengths,
        cache.step,
        cache.rows,
        cache.beams,
        cache.capacity,
        norm.eps,
        rank,
        half,
        query.size(1),
        query.size(2),
        joint.stride(0),
        query.stride(0),
        RATE=cache.form.down_rate,
        MERGE=gates is not None,
        GROUPED=cache.form.groups > 1,
        RANK=power(rank),
        HALF=power(half),
        HEADS=power(query.size(1)),
        num_warps=1,
    )


@triton.jit(do_not_specialize=["rows", "beams", "capacity"])
def _write_heads(
    query, key, value, store, angles, lengths, step, rows, beams, capacity,
    heads, key_heads, half, query_stride, key_stride, value_stride,
    HEADS: tl.constexpr, KEY_HEADS: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0)
    position, _, _, plane, _ = newest(lengths, step, n, beams, capacity, 1)
    size = 2 * half
    row = n.to(tl.int64)
    entry = store + (plane.to(tl.int64) * rows + n) * 2 * key_heads * size
    index, held, pair = _pairs(size, key_heads, half, KEY_HEADS, HALF)
    turned = _turn(key + row * key_stride, index, held, angles, position, pair, half)
    tl.store(entry + index, turned, mask=held)
    copied = tl.load(value + row * value_stride + index, mask=held)
    tl.store(entry + key_heads * size + index, copied, mask=held)
    query += row * query_stride
    index, held, pair = _pairs(size, heads, half, HEADS, HALF)
    turned = _turn(query, index, held, angles, position, pair, half)
    tl.store(query + index, turned, mask=held)


def _launch_heads(entry, query, cache, layer):
    heads, key_heads, half = query.size(1), cache.form.groups, query.size(2) // 2
    key, value = entry[:, : cache.form.key_parts], entry[:, cache.form.key_parts :]
    _write_heads[(cache.rows,)](
        query,
        key,
        value,
        cache.store[layer],
        cache.angles,
        cache.lengths,
        cache.step,
        cache.rows,
        cache.beams,
        cache.capacity,
        heads,
        key_heads,
        half,
        query.stride(0),
        key.stride(0),
        value.stride(0),
        HEADS=power(heads),
        KEY_HEADS=power(key_heads),
        HALF=power(half),
        num_warps=2,
    )


@triton.jit
def _add_norm(x, added, weight, bias, output, eps, size, BLOCK: tl.constexpr):
    n = tl.program_id(0).to(tl.int64)
    index = tl.arange(0, BLOCK)
    held = index < size
    at = n * size + index
    total = tl.load(x + at, mask=held, other=0.0).to(tl.float32)
    total += tl.load(added + at, mask=held, other=0.0).to(tl.float32)
    total = total.to(x.dtype.element_ty)
    tl.store(x + at, total, mask=held)
    total = total.to(tl.float32)
    centred = tl.where(held, total - tl.sum(total) / size, 0.0)
    scale = tl.rsqrt(tl.sum(centred * centred) / size + eps)
    weight = tl.load(weight + index, mask=held, other=0.0).to(tl.float32)
    bias = tl.load(bias + index, mask=held, other=0.0).to(tl.float32)
    tl.store(output + at, centred * scale * weight + bias, mask=held)


def add_norm(x: Tensor, added: Tensor, norm: torch.nn.LayerNorm) -> Tensor:
    """Add in place and return the norm, as `decode.add_norm` does."""
    output = torch.empty_like(x)
    _add_norm[(x.size(0),)](
        x, added, norm.weight, norm.bias, output, norm.eps, x.size(1),
        BLOCK=power(x.size(1)), num_warps=1,
    )  # fmt: skip
    return output
