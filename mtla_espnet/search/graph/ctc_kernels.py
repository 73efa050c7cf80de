"""Triton kernel of `ctc.GraphCTC.score`, where it is explained."""

import torch
import triton
import triton.language as tl
from torch import Tensor

_NOTHING = tl.constexpr(float("-inf"))
# Candidates and frames that a program looks at once.
_LABELS, _FRAMES = 16, 64


@triton.jit(do_not_specialize=["beams", "size", "count"])
def _score(
    log_p, lengths, blank, either, prefix, last, label, index, output,
    beams, vocabulary, size, count, blank_label, eos, skip,
    LABELS: tl.constexpr, FRAMES: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0)
    b = n // beams
    length = tl.load(lengths + b)
    place = tl.program_id(1) * LABELS + tl.arange(0, LABELS)
    asked = place < count
    v = tl.load(label + n.to(tl.int64) * count + place, mask=asked, other=0)
    newest = tl.load(last + n)
    whole = tl.load(prefix + n)
    rows = log_p + (b.to(tl.int64) * vocabulary + v) * size
    blank += n.to(tl.int64) * size
    either += n.to(tl.int64) * size
    # before the first frame only the empty prefix is complete
    empty = tl.where(newest < 0, 0.0, _NOTHING).to(tl.float64)
    most = tl.full((LABELS,), float("-inf"), tl.float64)
    total = tl.zeros((LABELS,), tl.float32)
    for start in range(0, length, FRAMES):
        t = start + tl.arange(0, FRAMES)
        earlier = (t > 0) & (t < length)
        once = tl.where(t > 0, tl.load(either + t - 1, mask=earlier, other=float("-inf")), empty)
        again = tl.where(t > 0, tl.load(blank + t - 1, mask=earlier, other=float("-inf")), empty)
        frames = tl.load(
            rows[:, None] + t[None, :], mask=asked[:, None] & (t < length)[None, :], other=0.0
        )
        # the last label again: only after a blank in between
        phi = tl.where((v == newest)[:, None], again[None, :], once[None, :])
        terms = tl.where((t < length)[None, :], phi + frames.to(tl.float64), _NOTHING)
        larger = tl.maximum(most, tl.max(terms, axis=1))
        base = tl.where(larger > _NOTHING, larger, 0.0)
        total *= tl.exp((most - base).to(tl.float32))
        total += tl.sum(tl.exp((terms - base[:, None]).to(tl.float32)), axis=1)
        most = larger
    psi = tl.where(most > _NOTHING, most, 0.0) + tl.log(total).to(tl.float64)
    psi = tl.where(tl.load(index) < skip, whole, psi)
    psi = tl.where(v == eos, tl.load(either + length - 1), psi)
    found = tl.where(v != blank_label, psi - whole, _NOTHING)
    found = tl.where(whole > _NOTHING, found, _NOTHING)
    found = tl.where(whole < float("inf"), found, _NOTHING)
    tl.store(output + n.to(tl.int64) * count + place, found, mask=asked)


def score(ctc, label: Tensor, index: Tensor, blank: int, eos: int, skip: int) -> Tensor:
    """Do what `GraphCTC.score` does, for its buffers and labels (B, W, S)."""
    batch, beams, count = label.shape
    output = torch.empty(label.shape, dtype=torch.float64, device=label.device)
    _, vocabulary, size = ctc.log_p.shape
    state = ctc.state
    _score[(batch * beams, triton.cdiv(count, _LABELS))](
        ctc.log_p, ctc.lengths, state.blank, state.either, state.prefix, state.last,
        label.contiguous(), index, output,
        beams, vocabulary, size, count, blank, eos, skip,
        LABELS=_LABELS, FRAMES=_FRAMES, num_warps=4,
    )  # fmt: skip
    return output
