"""Triton kernels of the operations in `select`, where each is explained."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from mtla_espnet.search.graph import groups as shared

GROUP = tl.constexpr(shared.GROUP)
LEAST = tl.constexpr(shared.LEAST)
# So many numbers of an utterance are held in registers; more are left to PyTorch's topk.
_MOST_KEYS = 16384


@triton.jit
def _group_keys(
    logits, total, keys, lse, beams, vocabulary, groups, blank, inverse,
    BLOCK: tl.constexpr, BEAMS: tl.constexpr,
):  # fmt: skip
    """Group maxima relative to the utterance's best hypothesis, and the log-sum-exp."""
    n = tl.program_id(0)
    beam = tl.arange(0, BEAMS)
    totals = total + n // beams * beams + beam
    best = tl.max(tl.load(totals, mask=beam < beams, other=float("-inf")))
    # all are minus infinity where the utterance is over, and stay so
    base = (tl.load(total + n) - tl.maximum(best, LEAST)).to(tl.float32)
    row = logits + n.to(tl.int64) * vocabulary
    most = float("-inf")
    sum_ = 0.0
    for start in range(0, vocabulary, BLOCK):
        index = start + tl.arange(0, BLOCK)
        x = tl.load(row + index, mask=index < vocabulary, other=float("-inf"))
        x = x.to(tl.float32) * inverse
        newest = tl.maximum(most, tl.max(x))
        sum_ = sum_ * tl.exp(most - newest) + tl.sum(tl.exp(x - newest))
        most = newest
    whole = most + tl.log(sum_)
    tl.store(lse + n, whole)
    score = base - whole
    for start in range(0, vocabulary, BLOCK):
        index = start + tl.arange(0, BLOCK)
        emitted = (index < vocabulary) & (index != blank)
        x = tl.load(row + index, mask=emitted, other=float("-inf"))
        largest = tl.max(tl.reshape(x.to(tl.float32) * inverse, (BLOCK // GROUP, GROUP)), axis=1)
        group = start // GROUP + tl.arange(0, BLOCK // GROUP)
        at = keys + n.to(tl.int64) * groups + group
        tl.store(at, score + largest, mask=group < groups)


@triton.jit
def ranks(order, wanted, BITS: tl.constexpr):
    """Number the `wanted` largest of signed integers 0, 1, ... in place order; else -1.

    The least of them is found two bits at a time, by counting what reaches each of three
    bounds in one sum of 20-bit fields. Where several equal it, the first ones count.
    """
    one = tl.full((), 1, order.dtype)
    least = one << (BITS - 1)  # the most negative number
    for back in range(BITS // 2):
        unit = one << (BITS - 2 - 2 * back)
        low, middle, high = least + unit, least + 2 * unit, least + 3 * unit
        reached = (order >= low).to(tl.int64)
        reached += (order >= middle).to(tl.int64) << 20
        reached += (order >= high).to(tl.int64) << 40
        count = tl.sum(reached)
        least = tl.where((count & 0xFFFFF) >= wanted, low, least)
        least = tl.where(((count >> 20) & 0xFFFFF) >= wanted, middle, least)
        least = tl.where((count >> 40) >= wanted, high, least)
    above = order > least
    equal = (order == least).to(tl.int32)
    room = wanted - tl.sum(above.to(tl.int32))
    taken = above | ((equal > 0) & (tl.cumsum(equal) <= room))
    return tl.where(taken, tl.cumsum(taken.to(tl.int32)) - 1, -1)


@triton.jit
def _best_groups(keys, chosen, count, beams, BLOCK: tl.constexpr):
    b = tl.program_id(0)
    index = tl.arange(0, BLOCK)
    key = tl.load(keys + b.to(tl.int64) * count + index, mask=index < count, other=0.0)
    bits = key.to(tl.int32, bitcast=True)
    order = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # as integers in the order of the numbers
    order = tl.where(index < count, order, -0x80000000)
    rank = ranks(order, beams, 32)
    tl.store(chosen + b * beams + rank, index, mask=rank >= 0)


@triton.jit
def _best_tokens(
    logits, lse, total, group, score, parent, token, beams, vocabulary, groups, blank, inverse,
    PENALTY: tl.constexpr, BEAMS: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(0)
    place = tl.arange(0, BEAMS * GROUP)
    slot = place // GROUP
    live = slot < beams
    chosen = tl.load(group + b * beams + slot, mask=live, other=0)
    hypothesis = chosen // groups
    row = b * beams + hypothesis
    v = chosen % groups * GROUP + place % GROUP
    held = live & (v < vocabulary)
    emitted = held & (v != blank)
    x = tl.load(logits + row.to(tl.int64) * vocabulary + v, mask=emitted, other=float("-inf"))
    x = x.to(tl.float32) * inverse - tl.load(lse + row, mask=live, other=0.0)
    before = tl.load(total + row, mask=live, other=float("-inf"))
    x = before + (x.to(tl.float64) + PENALTY)
    bits = x.to(tl.int64, bitcast=True)
    order = bits ^ ((bits >> 63) & 0x7FFFFFFFFFFFFFFF)
    order = tl.where(held, order, -0x7FFFFFFFFFFFFFFF)
    rank = ranks(order, beams, 64)
    at = b * beams + rank
    tl.store(score + at, x, mask=rank >= 0)
    tl.store(parent + at, hypothesis.to(tl.int64), mask=rank >= 0)
    tl.store(token + at, v.to(tl.int64), mask=rank >= 0)


def best_tokens(
    logits: Tensor,
    total: Tensor,
    temperature: float,
    penalty: float,
    blank: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Do what `select.best_tokens` does, in kernels: same arguments and results."""
    batch, beams = total.shape
    vocabulary = logits.size(1)
    groups = triton.cdiv(vocabulary, shared.GROUP)
    blank = -1 if blank is None else blank
    keys = torch.empty(batch, beams * groups, dtype=torch.float32, device=logits.device)
    lse = torch.empty(batch * beams, dtype=torch.float32, device=logits.device)
    _group_keys[(batch * beams,)](
        logits, total, keys, lse, beams, vocabulary, groups, blank, 1.0 / temperature,
        BLOCK=min(4096, max(shared.GROUP, triton.next_power_of_2(vocabulary))),
        BEAMS=triton.next_power_of_2(beams), num_warps=4,
    )  # fmt: skip
    count = beams * groups
    if count <= _MOST_KEYS:
        group = torch.empty(batch, beams, dtype=torch.int64, device=logits.device)
        block = triton.next_power_of_2(count)
        _best_groups[(batch,)](
            keys, group, count, beams, BLOCK=block, num_warps=16 if block > 4096 else 4
        )
    else:
        group = keys.topk(beams, dim=1, sorted=False).indices
    score = torch.empty_like(total)
    parent, token = torch.empty_like(group), torch.empty_like(group)
    _best_tokens[(batch,)](
        logits, lse, total, group, score, parent, token, beams, vocabulary, groups,
        blank, 1.0 / temperature,
        PENALTY=penalty, BEAMS=triton.next_power_of_2(beams), num_warps=8,
    )  # fmt: skip
    return score, parent, token
