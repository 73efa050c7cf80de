"""Triton kernel of `advance.advance`, where it is explained: some thirty small operations."""

import triton
import triton.language as tl
from torch import Tensor

from mtla_espnet.search.ends import END_LENGTHS, END_MARGIN, EndDetection
from mtla_espnet.search.graph.select_kernels import ranks

_LENGTHS, _MARGIN = tl.constexpr(END_LENGTHS), tl.constexpr(END_MARGIN)
_NOTHING = tl.constexpr(float("-inf"))


@triton.jit
def _ended(chosen, token, held, index, least, most, sos_eos):
    """Return scores, which hypotheses end, and the scores of those that count."""
    score = tl.load(chosen, mask=held, other=_NOTHING)
    ends = (tl.load(token, mask=held, other=0) == sos_eos) | (most == index + 1)
    counted = ends & (least <= index) & held
    return score, ends, tl.where(counted, score, _NOTHING)


@triton.jit(do_not_specialize=["batch", "beams", "columns"])
def _advance(
    chosen, parent, token, limits, index, best, found,
    total, tokens, rows, parents, kept_tokens, ended_scores,
    batch, beams, columns, before, sos_eos,
    GAIN: tl.constexpr, BOUNDED: tl.constexpr, DETECT: tl.constexpr,
    NBEST: tl.constexpr, BEAMS: tl.constexpr, BOTH: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(0)
    step = tl.load(index)
    least, most = tl.load(limits + 2 * b), tl.load(limits + 2 * b + 1)
    place = tl.arange(0, BEAMS)
    held = place < beams
    at = b * beams + place
    score, ends, ended = _ended(chosen + at, token + at, held, step, least, most, sos_eos)
    going = tl.where(ends, _NOTHING, score)
    over = False

    best += b.to(tl.int64) * columns
    newest = tl.max(ended, 0).to(tl.float32)
    if DETECT:
        column = tl.arange(0, COLUMNS)
        highest = newest
        first = 0
        while first < step + before:
            one = tl.load(best + first + column, first + column < step + before, _NOTHING)
            highest = tl.maximum(highest, tl.max(one, 0))
            first += COLUMNS
        over = True
        for back in tl.static_range(_LENGTHS):
            recent = tl.load(best + step - 2 + before - back)
            over = over & (recent > _NOTHING) & (recent - highest < -_MARGIN)
    tl.store(best + step + before, newest)

    if BOUNDED:
        # the n best of those that ended before and now; ended scores once more, further back
        index_ = tl.arange(0, BOTH)
        old = tl.load(found + b * NBEST + index_, index_ < NBEST, _NOTHING)
        further = b * beams + index_ - NBEST
        now = (index_ >= NBEST) & (index_ < NBEST + beams)
        _, _, new = _ended(chosen + further, token + further, now, step, least, most, sos_eos)
        both = tl.where(index_ < NBEST, old, new)
        bits = both.to(tl.int64, bitcast=True)
        order = bits ^ ((bits >> 63) & 0x7FFFFFFFFFFFFFFF)
        order = tl.where(index_ < NBEST + beams, order, -0x7FFFFFFFFFFFFFFF)
        rank = ranks(order, NBEST, 64)
        # what is loaded above is stored to
        tl.debug_barrier()
        tl.store(found + b * NBEST + rank, both, rank >= 0)
        bound = tl.min(tl.where(rank >= 0, both, float("inf")), 0)
        left = (most - step - 1).to(tl.float64)
        over = over | (tl.max(going, 0) + GAIN * left <= bound)

    over = over & (tl.max((going != going).to(tl.int32), 0) == 0)  # NaN shall be seen
    tl.store(total + at, tl.where(over, _NOTHING, going), held)
    from_ = tl.load(parent + at, held, 0)
    chosen_token = tl.load(token + at, held, 0)
    tl.store(tokens + at, chosen_token, held)
    tl.store(rows + at, from_ + b * beams, held)
    noted = step * batch * beams + at
    tl.store(parents + noted, from_, held)
    tl.store(kept_tokens + noted, chosen_token, held)
    tl.store(ended_scores + noted, ended, held)


def advance(
    ends: EndDetection,
    chosen: Tensor,
    parent: Tensor,
    token: Tensor,
    limits: Tensor,
    index: Tensor,
    total: Tensor,
    tokens: Tensor,
    rows: Tensor,
    history: tuple[Tensor, Tensor, Tensor],
) -> None:
    """Do what `advance.advance` does, in one kernel: same arguments and results."""
    batch, beams = chosen.shape
    nbest = ends.found.size(1)
    _advance[(batch,)](
        chosen, parent, token, limits, index, ends.best, ends.found,
        total, tokens, rows, *history,
        batch, beams, ends.best.size(1), ends.before, ends.sos_eos,
        GAIN=ends.gain or 0.0, BOUNDED=ends.gain is not None, DETECT=ends.detect,
        NBEST=nbest, BEAMS=triton.next_power_of_2(beams),
        BOTH=triton.next_power_of_2(nbest + beams), COLUMNS=128, num_warps=1,
    )  # fmt: skip
    index += 1
