"""CTC's loss and gradient by two Triton kernels, which ask the host for no length.

PyTorch's own CTC on a GPU wants the lengths on the host, so it can stand in no CUDA graph. A
program has one utterance and goes through its frames, with all states of a frame at once: blank,
first label, blank, second label, ..., blank. A row of states is written to memory and read again
shifted, which is how a state sees those before it.

Source: Graves et al., Connectionist Temporal Classification, 2006, equations 5 to 16.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _log_sum(a, b, c):
    """Return log(exp a + exp b + exp c), -inf where all are."""
    most = tl.maximum(tl.maximum(a, b), c)
    most = tl.where(most == float("-inf"), 0.0, most)
    return tl.log(tl.exp(a - most) + tl.exp(b - most) + tl.exp(c - most)) + most


@triton.jit
def _column(state):
    """Return the column of a state's symbol: 0 is the blank, 1 the first label."""
    return tl.where(state % 2 == 1, (state + 1) // 2, 0)


@triton.jit
def _skips(labels, state, last):
    """Return whether a state may follow the one two before it: a label after another label."""
    odd = (state % 2 == 1) & (state >= 3) & (state < last)
    own = tl.load(labels + (state - 1) // 2, odd, 0)
    before = tl.load(labels + (state - 3) // 2, odd, 0)
    return odd & (own != before)


@triton.jit(do_not_specialize=["frames", "columns"])
def _forward(emitted, labels, frame_counts, label_counts, alpha, loss, frames, columns,
             BLOCK: tl.constexpr):  # fmt: skip
    b = tl.program_id(0).to(tl.int64)
    states = 2 * columns - 1
    emitted += b * frames * columns
    labels += b * (columns - 1)
    alpha += b * frames * states
    count = tl.load(frame_counts + b).to(tl.int32)
    last = 2 * tl.load(label_counts + b).to(tl.int32) + 1
    state = tl.arange(0, BLOCK)
    held = state < last
    column = _column(state)
    skips = _skips(labels, state, last)
    nothing = float("-inf")
    first = tl.load(emitted + column, held & (state < 2) & (count > 0), nothing)
    tl.store(alpha + state, first, held & (count > 0))
    t = 1
    while t < count:
        tl.debug_barrier()  # the row before is written
        before = alpha + (t - 1) * states + state
        stay = tl.load(before, held, nothing)
        step = tl.load(before - 1, held & (state >= 1), nothing)
        skip = tl.load(before - 2, skips, nothing)
        value = _log_sum(stay, step, skip)
        value += tl.load(emitted + t * columns + column, held, nothing)
        tl.store(alpha + t * states + state, value, held)
        t += 1
    tl.debug_barrier()
    end = alpha + (count - 1) * states + last
    blank = tl.load(end - 1, count > 0, 0.0)
    label = tl.load(end - 2, (count > 0) & (last > 1), nothing)
    total = _log_sum(blank, label, nothing)
    tl.store(loss + b, tl.where((count == 0) & (last > 1), float("inf"), -total))


@triton.jit(do_not_specialize=["frames", "columns"])
def _backward(emitted, labels, frame_counts, label_counts, alpha, loss, scale, beta, gradient,
              frames, columns, BLOCK: tl.constexpr):  # fmt: skip
    b = tl.program_id(0).to(tl.int64)
    states = 2 * columns - 1
    emitted += b * frames * columns
    labels += b * (columns - 1)
    alpha += b * frames * states
    gradient += b * frames * columns
    beta += b * 2 * states  # the row after and the own one, in turn
    count = tl.load(frame_counts + b).to(tl.int32)
    last = 2 * tl.load(label_counts + b).to(tl.int32) + 1
    state = tl.arange(0, BLOCK)
    held = state < last
    column = _column(state)
    skipped = _skips(labels, state + 2, last)  # by the state two after
    nothing = float("-inf")
    total = tl.load(loss + b)
    factor = tl.where(total == float("inf"), 0.0, -tl.load(scale + b))
    total = tl.where(total == float("inf"), 0.0, total)
    back = 0
    while back < count:
        t = count - 1 - back
        tl.debug_barrier()  # the row after is written
        after = beta + (1 - back % 2) * states + state
        later = held & (back > 0)
        stay = tl.load(after, later, nothing)
        step = tl.load(after + 1, later & (state + 1 < last), nothing)
        skip = tl.load(after + 2, later & skipped, nothing)
        ends = tl.where((back == 0) & held & (state >= last - 2), 0.0, nothing)
        value = tl.where(back == 0, ends, _log_sum(stay, step, skip))
        emission = tl.load(emitted + t * columns + column, held, nothing)
        tl.store(beta + (back % 2) * states + state, value + emission, held)
        share = tl.exp(tl.load(alpha + t * states + state, held, nothing) + value + total)
        share = tl.where(held, share, 0.0) * factor
        odd = state % 2 == 1
        tl.store(gradient + t * columns + column, share, held & odd)
        tl.store(gradient + t * columns, tl.sum(tl.where(odd, 0.0, share), 0))
        back += 1


class _CtcLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, emitted: Tensor, labels: Tensor, frame_counts: Tensor, label_counts: Tensor):
        batch, frames, columns = emitted.shape
        alpha = emitted.new_empty(batch, frames, 2 * columns - 1)
        loss = emitted.new_empty(batch)
        tensors = emitted, labels, frame_counts, label_counts, alpha, loss
        _forward[(batch,)](*tensors, frames, columns, **_launch(columns))
        ctx.save_for_backward(*tensors)
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, scale: Tensor):
        emitted, *_ = tensors = ctx.saved_tensors
        batch, frames, columns = emitted.shape
        beta = emitted.new_empty(batch, 2, 2 * columns - 1)
        gradient = torch.zeros_like(emitted)
        tensors = *tensors, scale.contiguous(), beta, gradient
        _backward[(batch,)](*tensors, frames, columns, **_launch(columns))
        return gradient, None, None, None


def _launch(columns: int) -> dict[str, int]:
    block = triton.next_power_of_2(2 * columns - 1)
    return {"BLOCK": block, "num_warps": max(1, min(8, block // 64)), "num_stages": 1}


def ctc_loss(log_probs: Tensor, labels: Tensor, frame_counts: Tensor, label_counts: Tensor):
    """Return CTC's loss of each utterance, infinite where its frames are too few.

    As `torch.nn.functional.ctc_loss` with the blank 0 and `reduction="none"`, but that an
    infinite loss has no gradient, as with its `zero_infinity`.

    Args:
        log_probs: (B, T, V) float32.
        labels: (B, L) int64 from 1 on; what stands behind a text must be a legal label too.
        frame_counts: (B,) int, at most T, on any device of `log_probs`.
        label_counts: (B,) int, at most L.

    Returns:
        (B,) float32.
    """
    symbols = torch.nn.functional.pad(labels, (1, 0)).unsqueeze(1)
    emitted = log_probs.gather(2, symbols.expand(-1, log_probs.size(1), -1))
    return _CtcLoss.apply(emitted, labels.contiguous(), frame_counts, label_counts)
