"""Triton kernels for what a latent kind caches: LayerNorm, rotary key, merge over chunks.

A program takes chunks one after another, and of each several utterances, so that sums over
the batch stay in registers. A warp has a whole row where it can: then no sum waits for
another warp. The plain form is `entries` of `mla.py` and `mtla.py`.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

_FORWARD, _BACKWARD = 4096, 2048  # at most so many programs, which fill a GPU
_ROW = 512  # numbers of a row that one warp keeps in registers
_SUM_ROWS, _SUM_COLUMNS, _SUM_BLOCK = 512, 16, 1024  # of a program that sums


@triton.jit
def _normalise(joint, inside, column, RANK: tl.constexpr, eps):
    """Return (x - mean) / deviation of a row, and 1 / deviation."""
    x = tl.load(joint + column, inside, 0.0).to(tl.float32)
    centred = tl.where(inside, x - tl.sum(x, 0) / RANK, 0.0)
    scale = tl.rsqrt(tl.sum(centred * centred, 0) / RANK + eps)
    return centred * scale, scale


@triton.jit
def _turn(source, target, cosine, sine, sign, HALF: tl.constexpr, HALF_BLOCK: tl.constexpr):
    """Turn a row's pairs by their angles, or back by sign -1."""
    column = tl.arange(0, 2 * HALF_BLOCK)
    pair = tl.arange(0, HALF_BLOCK)
    rope = tl.load(source + column, column < 2 * HALF, 0.0).to(tl.float32)
    even, odd = tl.split(tl.reshape(rope, (HALF_BLOCK, 2)))
    cos = tl.load(cosine + pair, pair < HALF, 0.0)
    sin = tl.load(sine + pair, pair < HALF, 0.0) * sign
    turned = tl.join(even * cos - odd * sin, even * sin + odd * cos)
    tl.store(target + column, tl.reshape(turned, (2 * HALF_BLOCK,)), column < 2 * HALF)


@triton.jit(do_not_specialize=["batch", "size", "chunks"])
def _forward(
    joint, gain, bias, gate, offset, position, cosine, sine, entry, batch, size, chunks,
    position_batch, table_batch, eps,
    GATED: tl.constexpr, RATE: tl.constexpr, RANK: tl.constexpr, HALF: tl.constexpr,
    RANK_BLOCK: tl.constexpr, HALF_BLOCK: tl.constexpr,
):  # fmt: skip
    column = tl.arange(0, RANK_BLOCK)
    inside = column < RANK
    gains = tl.load(gain + column, inside, 0.0).to(tl.float32)
    biases = tl.load(bias + column, inside, 0.0).to(tl.float32)
    chunk = tl.program_id(0)
    while chunk < chunks:
        if GATED:
            gates = tl.load(gate + chunk * RANK + column, inside, 0.0).to(tl.float32)
            offset_ = tl.load(offset + chunk).to(tl.float32)
        b = tl.program_id(1)
        while b < batch:
            partial = tl.zeros((RANK_BLOCK,), tl.float32)
            for member in tl.static_range(RATE):
                t = chunk * RATE + member
                if t < size:
                    start = (b.to(tl.int64) * size + t) * (RANK + 2 * HALF)
                    latent, _scale = _normalise(joint + start, inside, column, RANK, eps)
                    latent = latent * gains + biases
                    if GATED:
                        weight = tl.sigmoid(tl.sum(latent * gates, 0) + offset_)
                        held = tl.load(position + b * position_batch + t) >= 0
                        partial += latent * tl.where(held, weight, 0.0)
                        latent = tl.where(held, partial, 0.0)
                    tl.store(entry + start + column, latent, inside)
                    angle = b.to(tl.int64) * table_batch + t * HALF
                    _turn(
                        joint + start + RANK,
                        entry + start + RANK,
                        cosine + angle,
                        sine + angle,
                        1.0,
                        HALF,
                        HALF_BLOCK,
                    )
            b += tl.num_programs(1)
        chunk += tl.num_programs(0)


@triton.jit(do_not_specialize=["batch", "size", "chunks"])
def _backward(
    grad, joint, gain, bias, gate, offset, position, cosine, sine, joint_grad, norm_grad,
    gate_grad, offset_grad, batch, size, chunks, position_batch, table_batch, eps,
    GATED: tl.constexpr, RATE: tl.constexpr, RANK: tl.constexpr, HALF: tl.constexpr,
    RANK_BLOCK: tl.constexpr, HALF_BLOCK: tl.constexpr,
):  # fmt: skip
    column = tl.arange(0, RANK_BLOCK)
    inside = column < RANK
    gains = tl.load(gain + column, inside, 0.0).to(tl.float32)
    biases = tl.load(bias + column, inside, 0.0).to(tl.float32)
    gains_grad = tl.zeros((RANK_BLOCK,), tl.float32)
    biases_grad = tl.zeros((RANK_BLOCK,), tl.float32)
    chunk = tl.program_id(0)
    while chunk < chunks:
        if GATED:
            gates = tl.load(gate + chunk * RANK + column, inside, 0.0).to(tl.float32)
            offset_ = tl.load(offset + chunk).to(tl.float32)
            gates_grad = tl.zeros((RANK_BLOCK,), tl.float32)
            offset_sum = 0.0
        b = tl.program_id(1)
        while b < batch:
            partial_grad = tl.zeros((RANK_BLOCK,), tl.float32)
            for back in tl.static_range(RATE):
                t = chunk * RATE + (RATE - 1 - back)
                if t < size:
                    start = (b.to(tl.int64) * size + t) * (RANK + 2 * HALF)
                    out_grad = tl.load(grad + start + column, inside, 0.0).to(tl.float32)
                    normal, scale = _normalise(joint + start, inside, column, RANK, eps)
                    latent_grad = out_grad
                    if GATED:
                        latent = normal * gains + biases
                        weight = tl.sigmoid(tl.sum(latent * gates, 0) + offset_)
                        held = tl.load(position + b * position_batch + t) >= 0
                        weight = tl.where(held, weight, 0.0)
                        partial_grad += tl.where(held, out_grad, 0.0)
                        score_grad = tl.sum(partial_grad * latent, 0) * weight * (1 - weight)
                        latent_grad = partial_grad * weight + score_grad * gates
                        gates_grad += score_grad * latent
                        offset_sum += score_grad
                    gains_grad += latent_grad * normal
                    biases_grad += latent_grad
                    normal_grad = latent_grad * gains
                    mean = tl.sum(normal_grad, 0) / RANK
                    along = tl.sum(normal_grad * normal, 0) / RANK
                    normal_grad = (normal_grad - mean - normal * along) * scale
                    tl.store(joint_grad + start + column, normal_grad, inside)
                    angle = b.to(tl.int64) * table_batch + t * HALF
                    _turn(
                        grad + start + RANK,
                        joint_grad + start + RANK,
                        cosine + angle,
                        sine + angle,
                        -1.0,
                        HALF,
                        HALF_BLOCK,
                    )
            b += tl.num_programs(1)
        if GATED:
            place = tl.program_id(1) * chunks + chunk
            tl.store(gate_grad + place.to(tl.int64) * RANK + column, gates_grad, inside)
            tl.store(offset_grad + place, offset_sum)
        chunk += tl.num_programs(0)
    program = tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)
    norm_grad += program * (2 * RANK) + column
    tl.store(norm_grad, gains_grad, inside)
    tl.store(norm_grad + RANK, biases_grad, inside)


@triton.jit
def _sum_groups(part, total, block, count, groups, BLOCK: tl.constexpr):
    """Sum a block of `count` numbers over the groups that `part` has of them."""
    place = block * BLOCK + tl.arange(0, BLOCK)
    sum_ = tl.zeros((BLOCK,), tl.float32)
    group = 0
    while group < groups:
        sum_ += tl.load(part + group.to(tl.int64) * count + place, place < count, 0.0)
        group += 1
    tl.store(total + place, sum_, place < count)


@triton.jit(do_not_specialize=["programs", "groups", "chunks"])
def _sum(
    norm_part, gate_part, offset_part, norm, gate, offset, programs, groups, chunks,
    GATED: tl.constexpr, RANK: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Sum what programs of `_backward` found: first norms, then gates, then offsets."""
    NORMS: tl.constexpr = (2 * RANK + COLUMNS - 1) // COLUMNS
    program = tl.program_id(0)
    if program < NORMS:
        column = program * COLUMNS + tl.arange(0, COLUMNS)[None]
        table = tl.zeros((ROWS, COLUMNS), tl.float32)
        start = 0
        while start < programs:
            row = start + tl.arange(0, ROWS)[:, None]
            some = (row < programs) & (column < 2 * RANK)
            table += tl.load(norm_part + row * (2 * RANK) + column, some, 0.0)
            start += ROWS
        narrow = program * COLUMNS + tl.arange(0, COLUMNS)
        tl.store(norm + narrow, tl.sum(table, 0), narrow < 2 * RANK)
    elif GATED:
        gates = tl.cdiv(chunks * RANK, BLOCK)
        block = program - NORMS
        if block < gates:
            _sum_groups(gate_part, gate, block, chunks * RANK, groups, BLOCK)
        else:
            _sum_groups(offset_part, offset, block - gates, chunks, groups, BLOCK)


def _arguments(joint, gate, position, cosine, rank, down_rate, eps, programs):
    """Return the grid of at most so many programs, and the arguments that kernels end with."""
    batch, size, _ = joint.shape
    chunks = triton.cdiv(size, down_rate)
    columns = min(chunks, programs)
    half = cosine.size(-1)
    return (columns, min(batch, programs // columns)), (
        batch,
        size,
        chunks,
        0 if position.size(0) == 1 else position.stride(0),
        0 if cosine.size(0) == 1 else cosine.stride(0),
        eps,
        gate is not None,
        down_rate,
        rank,
        half,
        triton.next_power_of_2(rank),
        triton.next_power_of_2(half),
    )


def _warps(rank: int) -> int:
    return min(8, max(1, triton.next_power_of_2(rank) // _ROW))


def forward(
    joint: Tensor,
    gain: Tensor,
    bias: Tensor,
    gate: Tensor | None,
    offset: Tensor | None,
    position: Tensor,
    cosine: Tensor,
    sine: Tensor,
    down_rate: int,
    eps: float,
) -> Tensor:
    """Return the entries, as `entries.latent_entries` does."""
    entry = torch.empty_like(joint)
    grid, last = _arguments(joint, gate, position, cosine, len(gain), down_rate, eps, _FORWARD)
    _forward[grid](
        joint,
        gain,
        bias,
        gate,
        offset,
        position,
        cosine,
        sine,
        entry,
        *last,
        num_warps=_warps(len(gain)),
    )
    return entry


def backward(
    grad: Tensor,
    joint: Tensor,
    gain: Tensor,
    bias: Tensor,
    gate: Tensor | None,
    offset: Tensor | None,
    position: Tensor,
    cosine: Tensor,
    sine: Tensor,
    down_rate: int,
    eps: float,
) -> list[Tensor]:
    """Return gradients of joint, [gain ; bias], and of gate and offset where these are given."""
    rank = len(gain)
    grid, last = _arguments(joint, gate, position, cosine, rank, down_rate, eps, _BACKWARD)
    joint_grad, norm_grad = torch.empty_like(joint), gain.new_empty(2, rank)
    programs, groups = grid[0] * grid[1], grid[1]
    norm_part = joint.new_empty(programs, 2 * rank, dtype=torch.float32)
    gate_grad = offset_grad = gate_part = offset_part = None
    chunks = blocks = 0
    if gate is not None:
        chunks = len(gate)
        gate_part = joint.new_empty(groups, chunks, rank, dtype=torch.float32)
        offset_part = joint.new_empty(groups, chunks, dtype=torch.float32)
        gate_grad, offset_grad = torch.empty_like(gate), torch.empty_like(offset)
        blocks = triton.cdiv(chunks * rank, _SUM_BLOCK) + triton.cdiv(chunks, _SUM_BLOCK)
    _backward[grid](
        grad,
        joint,
        gain,
        bias,
        gate,
        offset,
        position,
        cosine,
        sine,
        joint_grad,
        norm_part,
        gate_part,
        offset_part,
        *last,
        num_warps=_warps(rank),
    )
    _sum[(triton.cdiv(2 * rank, _SUM_COLUMNS) + blocks,)](
        norm_part,
        gate_part,
        offset_part,
        norm_grad,
        gate_grad,
        offset_grad,
        programs,
        groups,
        chunks,
        gate is not None,
        rank,
        _SUM_ROWS,
        _SUM_COLUMNS,
        _SUM_BLOCK,
        num_warps=8,
    )
    return [joint_grad, norm_grad, *(x for x in (gate_grad, offset_grad) if x is not None)]
