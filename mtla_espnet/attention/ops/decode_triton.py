"""Triton kernels of the operations in `decode`, where each is explained.

Bound by memory and launches: a kernel does all of a row's work between two matrix
products of a layer, so that a layer of latent attention takes ten launches. Numbers that depend
on a batch are not specialised: the first batch compiles for all.
"""

import functools

import torch
import triton
import triton.language as tl
from torch import Tensor

from mtla_espnet.attention.ops.decode_write_triton import add_norm, advance, newest, power, write
from mtla_espnet.cache.graph import GraphCache

__all__ = [
    "add_norm",
    "advance",
    "attend_prefix",
    "attend_suffix",
    "write",
]

# float32 products: three of the matrix unit's own precision, as exact as plain ones
_PRECISION = "tf32x3"
# Keys that a program of the prefix reads at once, and the least that a part of it is worth.
_KEYS, _PART = 32, 128
# Programs that keep a multiprocessor busy: prefixes are split until there are so many.
_PROGRAMS = 4


@triton.jit(do_not_specialize=["beams", "slots", "parts", "rows"])
def _attend_prefix(
    query, key, value, lengths, output, lse, scale, beams, slots, heads, shared,
    query_stride, width, value_width, parts, rows,
    RATE: tl.constexpr, PRECISION: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr,
    WIDTH: tl.constexpr, VALUE: tl.constexpr, SPLIT: tl.constexpr,
):  # fmt: skip
    """One of `parts` parts of a prefix; part p's results are row p of `output` and `lse`."""
    b, h = tl.program_id(0), tl.program_id(1)
    key_heads = heads // shared
    block = tl.program_id(2)
    if SPLIT:
        part, block = block % parts, block // parts
    row = block * ROWS + tl.arange(0, ROWS)
    live = row < beams
    n = (b * beams + row).to(tl.int64)
    d, dv = tl.arange(0, WIDTH), tl.arange(0, VALUE)
    q = tl.load(
        query + n[:, None] * query_stride + h * width + d[None, :],
        mask=live[:, None] & (d < width)[None, :],
        other=0.0,
    )
    count = tl.load(lengths + b) // RATE
    first = b.to(tl.int64) * slots * key_heads + h // shared
    key += first * width
    value += first * value_width
    most = tl.full((ROWS,), float("-inf"), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    sum_ = tl.zeros((ROWS, VALUE), tl.float32)
    first_key = 0
    if SPLIT:
        own = tl.cdiv(tl.cdiv(count, parts), KEYS) * KEYS
        first_key = part * own
        count = min(count, first_key + own)
    for start in range(first_key, count, KEYS):
        p = start + tl.arange(0, KEYS)
        held = p < count
        k = tl.load(
            key + p[None, :] * key_heads * width + d[:, None],
            mask=held[None, :] & (d < width)[:, None],
            other=0.0,
        )
        score = tl.dot(q, k, input_precision=PRECISION) * scale
        score = tl.where(held[None, :], score, float("-inf"))
        larger = tl.maximum(most, tl.max(score, axis=1))
        old = tl.exp(most - larger)
        weight = tl.exp(score - larger[:, None])
        v = tl.load(
            value + p[:, None] * key_heads * value_width + dv[None, :],
            mask=held[:, None] & (dv < value_width)[None, :],
            other=0.0,
        )
        total = total * old + tl.sum(weight, axis=1)
        sum_ = sum_ * old[:, None]
        sum_ = tl.dot(weight.to(v.dtype), v, sum_, input_precision=PRECISION)
        most = larger
    result = tl.where((total > 0)[:, None], sum_ / total[:, None], 0.0)
    if SPLIT:
        n += part.to(tl.int64) * rows
    tl.store(lse + n * heads + h, most + tl.log(total), mask=live)
    tl.store(
        output + (n * heads + h)[:, None] * value_width + dv[None, :],
        result,
        mask=live[:, None] & (dv < value_width)[None, :],
    )


@triton.jit(do_not_specialize=["parts", "count"])
def _merge_parts(
    part_output, part_lse, output, lse, parts, count, width,
    PARTS: tl.constexpr, VALUE: tl.constexpr,
):  # fmt: skip
    """One softmax of a row's and head's parts, by their log-sum-exp."""
    at = tl.program_id(0).to(tl.int64)
    part = tl.arange(0, PARTS).to(tl.int64)
    d = tl.arange(0, VALUE)
    own = tl.load(part_lse + part * count + at, mask=part < parts, other=float("-inf"))
    most = tl.max(own)
    weight = tl.exp(own - tl.where(most > float("-inf"), most, 0.0))
    total = tl.sum(weight)
    found = tl.load(
        part_output + (part[:, None] * count + at) * width + d[None, :],
        mask=(part < parts)[:, None] & (d < width)[None, :],
        other=0.0,
    )
    result = tl.sum(found * weight[:, None], axis=0) / tl.where(total > 0, total, 1.0)
    tl.store(output + at * width + d, result, mask=d < width)
    tl.store(lse + at, most + tl.log(total))


@functools.cache
def _multiprocessors(device: torch.device) -> int:
    if device.type != "cuda":  # interpreted
        return 1
    return torch.cuda.get_device_properties(device).multi_processor_count


def prefix_parts(programs: int, slots: int, device: torch.device) -> int:
    """Return the parts that prefixes are split into, so that a few long ones fill a GPU.

    Args:
        programs: that there are with one part.
        slots: of the longest prefix.
        device: that they run on.
    """
    wanted = triton.cdiv(_PROGRAMS * _multiprocessors(device), programs)
    return max(1, min(wanted, slots // _PART))


def attend_prefix(
    query: Tensor, cache: GraphCache, layer: int, scale: float
) -> tuple[Tensor, Tensor]:
    """Attend to the prefixes, as `decode.attend_prefix` does."""
    heads, width = query.shape[1:]
    key, value = cache.prefix_key[layer], cache.prefix_value[layer]
    value_width = value.size(-1)
    output = query.new_empty(cache.rows, heads, value_width)
    lse = query.new_empty(cache.rows, heads, dtype=torch.float32)
    rows = min(64, power(cache.beams, 16))
    blocks = triton.cdiv(cache.beams, rows)
    parts = prefix_parts(cache.batch * heads * blocks, cache.prefix_slots, query.device)
    found, found_lse = output, lse
    if parts > 1:
        found = lse.new_empty(parts, *output.shape)
        found_lse = lse.new_empty(parts, *lse.shape)
    _attend_prefix[(cache.batch, heads, blocks * parts)](
        query,
        key,
        value,
        cache.lengths,
        found,
        found_lse,
        scale,
        cache.beams,
        cache.prefix_slots,
        heads,
        heads // key.size(2),
        query.stride(0),
        width,
        value_width,
        parts,
        cache.rows,
        RATE=cache.form.down_rate,
        PRECISION=_PRECISION,
        ROWS=rows,
        KEYS=_KEYS,
        WIDTH=power(width, 16),
        VALUE=power(value_width, 16),
        SPLIT=parts > 1,
        num_warps=4,
        num_stages=2,
    )
    if parts > 1:
        _merge_parts[(cache.rows * heads,)](
            found,
            found_lse,
            output,
            lse,
            parts,
            cache.rows * heads,
            value_width,
            PARTS=power(parts),
            VALUE=power(value_width, 16),
            num_warps=4,
        )
    return output, lse


@triton.jit(do_not_specialize=["rows", "beams", "capacity"])
def _attend_suffix(
    latent_query, query, store, ancestor, lengths, step, output, lse, latent_output,
    scale, rows, beams, capacity, heads, shared, width, query_stride, query_width,
    value_width, latent_width, rope,
    RATE: tl.constexpr, PRECISION: tl.constexpr, LATENT: tl.constexpr, HEADS: tl.constexpr,
    GROUPED: tl.constexpr, SLOTS: tl.constexpr, WIDTH: tl.constexpr, ROPE: tl.constexpr,
    VALUE: tl.constexpr,
):  # fmt: skip
    """Latent: the heads of a group share its latent, which is key and value. Else a key head.

    Heads lie along columns: a matrix unit's tile has 8 columns, but 16 rows.
    """
    n, group = tl.program_id(0), tl.program_id(1)
    _, _, slot, plane, turn = newest(lengths, step, n, beams, capacity, RATE)
    row = n.to(tl.int64)
    head = tl.arange(0, HEADS)
    live = head < shared
    head += group * shared
    d, dv = tl.arange(0, WIDTH), tl.arange(0, VALUE)
    # what the prefix found, early: it is needed last
    prefix = tl.load(lse + row * heads + head, mask=live, other=float("-inf"))
    output += (row * heads + head)[None, :] * value_width + dv[:, None]
    kept = live[None, :] & (dv < value_width)[:, None]
    before = tl.load(output, mask=kept, other=0.0).to(tl.float32)
    query += row * query_stride + (head * query_width)[None, :]
    if LATENT:
        own_width = latent_width
        # one group, of MLA and MTLA, is known to the compiler
        rope_at = width - rope - group * latent_width if GROUPED else latent_width
        r = tl.arange(0, ROPE)
        latent_at = (head.to(tl.int64) * rows + n)[None, :] * latent_width + d[:, None]
        latent_kept = live[None, :] & (d < latent_width)[:, None]
        q = tl.load(latent_query + latent_at, mask=latent_kept, other=0.0)
        q_rope = tl.load(
            query + query_width - rope + r[:, None],
            mask=live[None, :] & (r < rope)[:, None],
            other=0.0,
        )
    else:
        own_width = query_width
        q = tl.load(query + d[:, None], mask=live[None, :] & (d < query_width)[:, None], other=0.0)
    most = tl.full((HEADS,), float("-inf"), tl.float32)
    total = tl.zeros((HEADS,), tl.float32)
    sum_ = tl.zeros((WIDTH, HEADS), tl.float32)
    ancestor += (turn * rows + n) * capacity
    for start in range(0, slot + 1, SLOTS):
        j = start + tl.arange(0, SLOTS)
        held = j <= slot
        source = tl.load(ancestor + j, mask=j < slot, other=0)
        source = tl.where(j < slot, source, n)
        at = tl.where(j < slot, j, plane).to(tl.int64) * rows + source
        base = (store + at * width + group * own_width)[:, None]
        k = tl.load(base + d[None, :], mask=held[:, None] & (d < own_width)[None, :], other=0.0)
        score = tl.dot(k, q, input_precision=PRECISION)
        if LATENT:
            k_rope = tl.load(
                base + rope_at + r[None, :],
                mask=held[:, None] & (r < rope)[None, :],
                other=0.0,
            )
            score += tl.dot(k_rope, q_rope, input_precision=PRECISION)
            v = k
        else:
            v = tl.load(
                base + width // 2 + d[None, :],
                mask=held[:, None] & (d < own_width)[None, :],
                other=0.0,
            )
        score = tl.where(held[:, None], score * scale, float("-inf"))
        larger = tl.maximum(most, tl.max(score, axis=0))
        old = tl.exp(most - larger)
        weight = tl.exp(score - larger[None, :])
        total = total * old + tl.sum(weight, axis=0)
        sum_ = sum_ * old[None, :]
        sum_ = tl.dot(tl.trans(v), weight.to(v.dtype), sum_, input_precision=PRECISION)
        most = larger
    # one softmax with the prefix
    larger = tl.maximum(most, prefix)
    old, own = tl.exp(prefix - larger), tl.exp(most - larger)
    whole = old + own * total
    before = before * (old / whole)[None, :]
    sum_ = sum_ * (own / whole)[None, :]
    if LATENT:
        tl.store(output, before, mask=kept)
        tl.store(latent_output + latent_at, sum_, mask=latent_kept)
    else:
        tl.store(output, before + sum_, mask=kept)


def attend_suffix(
    latent: Tensor | None,
    query: Tensor,
    output: Tensor,
    lse: Tensor,
    cache: GraphCache,
    layer: int,
    scale: float,
) -> Tensor | None:
    """Attend to the suffix and merge with the prefix, as `decode.attend_suffix` does."""
    heads, query_width = query.shape[1:]
    groups, rope = cache.form.groups, cache.form.shared_width
    found = None if latent is None else torch.empty_like(latent)
    latent_width = 0 if latent is None else latent.size(2)
    width = latent_width or query_width
    _attend_suffix[(cache.rows, groups)](
        query if latent is None else latent,
        query,
        cache.store[layer],
        cache.ancestor,
        cache.lengths,
        cache.step,
        output,
        lse,
        output if found is None else found,
        scale,
        cache.rows,
        cache.beams,
        cache.capacity,
        heads,
        heads // groups,
        cache.form.width,
        query.stride(0),
        query_width,
        output.size(2),
        latent_width,
        rope,
        RATE=cache.form.down_rate,
        PRECISION=_PRECISION,
        LATENT=latent is not None,
        HEADS=power(heads // groups, 8),
        GROUPED=groups > 1,
        SLOTS=16,
        WIDTH=power(width, 16),
        ROPE=power(rope, 16),
        VALUE=power(output.size(2), 16),
        num_warps=1,
        num_stages=1,
    )
    return found
