"""Triton kernels for what a latent kind caches: LayerNorm, rotary key, merge over chunks.

A program takes a few chunks, of several utterances one after another, so that sums over
the batch stay in registers. The plain form is `entries` of `mla.py` and `mtla.py`.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

_CHUNKS = 4  # a program
_PROGRAMS = 2048  # about so many, to fill a GPU


@triton.jit
def _normalise(joint, mask, column, RANK: tl.constexpr, eps):
    """Return (x - mean) / deviation of rows, and 1 / deviation."""
    x = tl.load(joint + column, mask, 0.0).to(tl.float32)
    mean = tl.sum(x, 1) / RANK
    centred = tl.where(mask, x - mean[:, None], 0.0)
    scale = tl.rsqrt(tl.sum(centred * centred, 1) / RANK + eps)
    return centred * scale[:, None], scale


@triton.jit
def _turn(source, target, cosine, sine, live, sign, HALF: tl.constexpr, HALF_BLOCK: tl.constexpr):
    """Turn rows' pairs by their angles, or back by sign -1."""
    column = tl.arange(0, 2 * HALF_BLOCK)[None]
    pair = tl.arange(0, HALF_BLOCK)[None]
    some = live & (column < 2 * HALF)
    rope = tl.load(source + column, some, 0.0).to(tl.float32)
    even, odd = tl.split(tl.reshape(rope, (rope.shape[0], HALF_BLOCK, 2)))
    cos = tl.load(cosine + pair, live & (pair < HALF), 0.0)
    sin = tl.load(sine + pair, live & (pair < HALF), 0.0) * sign
    turned = tl.join(even * cos - odd * sin, even * sin + odd * cos)
    tl.store(target + column, tl.reshape(turned, (rope.shape[0], 2 * HALF_BLOCK)), some)


@triton.jit(do_not_specialize=["batch", "size", "chunks"])
def _forward(
    joint,
    gain,
    bias,
    gate,
    offset,
    position,
    cosine,
    sine,
    entry,
    batch,
    size,
    chunks,
    position_batch,
    table_batch,
    eps,
    GATED: tl.constexpr,
    RATE: tl.constexpr,
    RANK: tl.constexpr,
    HALF: tl.constexpr,
    RANK_BLOCK: tl.constexpr,
    HALF_BLOCK: tl.constexpr,
    CHUNKS: tl.constexpr,
):
    chunk = tl.program_id(0) * CHUNKS + tl.arange(0, CHUNKS)
    column = tl.arange(0, RANK_BLOCK)[None]
    inside = column < RANK
    gains = tl.load(gain + column, inside, 0.0).to(tl.float32)
    biases = tl.load(bias + column, inside, 0.0).to(tl.float32)
    exists = chunk < chunks
    if GATED:
        place = chunk[:, None] * RANK + column
        gates = tl.load(gate + place, exists[:, None] & inside, 0.0).to(tl.float32)
        offsets = tl.load(offset + chunk, exists, 0.0).to(tl.float32)
    row = tl.program_id(1)
    while row < batch:
        b = row.to(tl.int64)
        partial = tl.zeros((CHUNKS, RANK_BLOCK), tl.float32)
        for member in range(RATE):
            t = chunk * RATE + member
            live = exists & (t < size)
            start = ((b * size + t) * (RANK + 2 * HALF))[:, None]
            mask = live[:, None] & inside
            latent, _scale = _normalise(joint + start, mask, column, RANK, eps)
            latent = latent * gains + biases
            if GATED:
                weight = tl.sigmoid(tl.sum(latent * gates, 1) + offsets)
                held = tl.load(position + b * position_batch + t, live, -1) >= 0
                partial += latent * tl.where(held, weight, 0.0)[:, None]
                tl.store(entry + start + column, tl.where(held[:, None], partial, 0.0), mask)
            else:
                tl.store(entry + start + column, latent, mask)
            angle = (b * table_batch + t * HALF)[:, None]
            _turn(
                joint + start + RANK,
                entry + start + RANK,
                cosine + angle,
                sine + angle,
                live[:, None],
                1.0,
                HALF,
                HALF_BLOCK,
            )
        row += tl.num_programs(1)


@triton.jit(do_not_specialize=["batch", "size", "chunks"])
def _backward(
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
    norm_grad,
    gate_grad,
    offset_grad,
    batch,
    size,
    chunks,
    position_batch,
    table_batch,
    eps,
    GATED: tl.constexpr,
    RATE: tl.constexpr,
    RANK: tl.constexpr,
    HALF: tl.constexpr,
    RANK_BLOCK: tl.constexpr,
    HALF_BLOCK: tl.constexpr,
    CHUNKS: tl.constexpr,
):
    chunk = tl.program_id(0) * CHUNKS + tl.arange(0, CHUNKS)
    column = tl.arange(0, RANK_BLOCK)[None]
    inside = column < RANK
    gains = tl.load(gain + column, inside, 0.0).to(tl.float32)
    biases = tl.load(bias + column, inside, 0.0).to(tl.float32)
    exists = chunk < chunks
    place = chunk[:, None] * RANK + column
    gains_grad = tl.zeros((CHUNKS, RANK_BLOCK), tl.float32)
    biases_grad = tl.zeros((CHUNKS, RANK_BLOCK), tl.float32)
    if GATED:
        gates = tl.load(gate + place, exists[:, None] & inside, 0.0).to(tl.float32)
        offsets = tl.load(offset + chunk, exists, 0.0).to(tl.float32)
        gates_grad = tl.zeros((CHUNKS, RANK_BLOCK), tl.float32)
        offsets_grad = tl.zeros((CHUNKS,), tl.float32)
    row = tl.program_id(1)
    while row < batch:
        b = row.to(tl.int64)
        partial_grad = tl.zeros((CHUNKS, RANK_BLOCK), tl.float32)
        for back in range(RATE):
            t = chunk * RATE + (RATE - 1 - back)
            live = exists & (t < size)
            start = ((b * size + t) * (RANK + 2 * HALF))[:, None]
            mask = live[:, None] & inside
            normal, scale = _normalise(joint + start, mask, column, RANK, eps)
            out_grad = tl.load(grad + start + column, mask, 0.0).to(tl.float32)
            if GATED:
                latent = normal * gains + biases
                weight = tl.sigmoid(tl.sum(latent * gates, 1) + offsets)
                held = tl.load(position + b * position_batch + t, live, -1) >= 0
                weight = tl.where(held, weight, 0.0)
                partial_grad += tl.where(held[:, None], out_grad, 0.0)
                score_grad = tl.sum(partial_grad * latent, 1) * weight * (1 - weight)
                latent_grad = partial_grad * weight[:, None] + score_grad[:, None] * gates
                gates_grad += score_grad[:, None] * latent
                offsets_grad += score_grad
            else:
                latent_grad = out_grad
            gains_grad += latent_grad * normal
            biases_grad += latent_grad
            normal_grad = latent_grad * gains
            mean = tl.sum(normal_grad, 1) / RANK
            along = tl.sum(normal_grad * normal, 1) / RANK
            normal_grad = (normal_grad - mean[:, None] - normal * along[:, None]) * scale[:, None]
            tl.store(joint_grad + start + column, normal_grad, mask)
            angle = (b * table_batch + t * HALF)[:, None]
            _turn(
                grad + start + RANK,
                joint_grad + start + RANK,
                cosine + angle,
                sine + angle,
                live[:, None],
                -1.0,
                HALF,
                HALF_BLOCK,
            )
        row += tl.num_programs(1)
    program = tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)
    c = tl.arange(0, RANK_BLOCK)
    tl.store(norm_grad + program * (2 * RANK) + c, tl.sum(gains_grad, 0), c < RANK)
    tl.store(norm_grad + program * (2 * RANK) + RANK + c, tl.sum(biases_grad, 0), c < RANK)
    if GATED:
        group = tl.program_id(1)
        tl.store(gate_grad + group * chunks * RANK + place, gates_grad, exists[:, None] & inside)
        tl.store(offset_grad + group * chunks + chunk, offsets_grad, exists)


def _arguments(joint, gate, position, cosine, rank, down_rate, eps) -> tuple[tuple, tuple]:
    """Return the grid and the arguments that both kernels end with."""
    batch, size, _ = joint.shape
    chunks = triton.cdiv(size, down_rate)
    blocks = triton.cdiv(chunks, _CHUNKS)
    half = cosine.size(-1)
    return (blocks, max(1, min(batch, _PROGRAMS // blocks))), (
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
        _CHUNKS,
    )


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
    """See `latent.latent_entries`."""
    entry = torch.empty_like(joint)
    grid, last = _arguments(joint, gate, position, cosine, len(gain), down_rate, eps)
    _forward[grid](joint, gain, bias, gate, offset, position, cosine, sine, entry, *last)
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
    """Return gradients of joint, gain, bias, and of gate and offset where these are given."""
    rank = len(gain)
    grid, last = _arguments(joint, gate, position, cosine, rank, down_rate, eps)
    joint_grad = torch.empty_like(joint)
    norm_grad = joint.new_empty(grid[0] * grid[1], 2, rank, dtype=torch.float32)
    gate_grad = offset_grad = None
    if gate is not None:
        gate_grad = joint.new_empty(grid[1], *gate.shape, dtype=torch.float32)
        offset_grad = joint.new_empty(grid[1], *offset.shape, dtype=torch.float32)
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
        norm_grad,
        gate_grad,
        offset_grad,
        *last,
    )
    gain_grad, bias_grad = norm_grad.sum(dim=0).to(gain.dtype).unbind()
    grads = [joint_grad, gain_grad.clone(), bias_grad.clone()]
    if gate is not None:
        grads += [gate_grad.sum(dim=0).to(gate.dtype), offset_grad.sum(dim=0).to(offset.dtype)]
    return grads
