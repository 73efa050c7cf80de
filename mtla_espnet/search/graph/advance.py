"""What follows from the tokens that a step chose: written down, and who goes on."""

import torch
from torch import Tensor

from mtla_espnet.attention.ops import choose
from mtla_espnet.search.ends import EndDetection


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
    """Write down what a step chose, and which hypotheses go on.

    Args:
        ends: of the search; written in place, as is what follows `limits`.
        chosen: (B, W) float64 scores; minus infinity: no hypothesis.
        parent: (B, W) int64.
        token: (B, W) int64.
        limits: (B, 2) int64, the least and the most tokens.
        index: (1,) int64, the step, from 0; then that of the next one.
        total: (B, W) float64, becomes the scores of what goes on.
        tokens: (B, W) int64, becomes `token`.
        rows: (B * W,) int64, becomes each hypothesis' parent as a row of the batch.
        history: (L, B, W) of parents, tokens, and scores of what ended.
    """
    if choose.has_kernels(chosen.device):
        # here: Triton need not be installed where there is no GPU
        from mtla_espnet.search.graph.advance_kernels import advance as on_cuda

        on_cuda(ends, chosen, parent, token, limits, index, total, tokens, rows, history)
        return
    going, ended = ends.update(chosen, token, limits, index)
    for kept, made in zip(history, (parent, token, ended), strict=True):
        kept.index_copy_(0, index, made[None])
    total.copy_(going)
    tokens.copy_(token)
    first = torch.arange(len(parent), device=parent.device)[:, None] * parent.size(1)
    rows.copy_((parent + first).flatten())
    index += 1
