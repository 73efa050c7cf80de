"""The best continuations of a beam by one scorer, without ranking every token.

The W best tokens of an utterance lie in the W groups of 32 tokens with the best maxima:
one pass over the logits finds the maxima, and only W groups are looked at again. This is
the plain form; `select_kernels` has the Triton kernels that equal it.
"""

import torch
from torch import Tensor

from mtla_espnet.attention.ops import choose
from mtla_espnet.search.graph.groups import GROUP, LEAST


def best_tokens(
    logits: Tensor,
    total: Tensor,
    temperature: float,
    penalty: float,
    blank: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the W best continuations of an utterance's W hypotheses, in any order.

    Args:
        logits: (B * W, V).
        total: (B, W) float64; minus infinity where a hypothesis has ended.
        temperature: divides the logits.
        penalty: added to every token.
        blank: the token that is never chosen; None: every token may be.

    Returns:
        Score (B, W) float64, parent (B, W) int64 and token (B, W) int64. Where fewer than
        W continue a live hypothesis, the rest has scores of minus infinity.
    """
    if choose.has_kernels(logits.device):
        # here: Triton need not be installed where there is no GPU
        from mtla_espnet.search.graph.select_kernels import best_tokens as on_cuda

        return on_cuda(logits, total, temperature, penalty, blank)
    batch, beams = total.shape
    vocabulary = logits.size(1)
    groups = -(-vocabulary // GROUP)
    scaled = logits.float() / temperature
    log_p = (scaled - scaled.logsumexp(dim=-1, keepdim=True)).unflatten(0, (batch, beams))
    if blank is not None:
        log_p[..., blank] = float("-inf")
    padded = torch.nn.functional.pad(
        log_p, (0, groups * GROUP - vocabulary), value=float("-inf")
    ).unflatten(-1, (groups, GROUP))
    # float32 orders the groups, relative to the best hypothesis so that it is exact enough
    base = (total - total.amax(dim=1, keepdim=True).clamp_min(LEAST)).float()
    keys = padded.amax(dim=-1) + base[..., None]
    group = keys.flatten(1).topk(beams, dim=1, sorted=False).indices
    within = padded.flatten(1, 2).gather(1, group[..., None].expand(-1, -1, GROUP))
    before = total.gather(1, group // groups)[..., None]
    score = (before + (within.double() + penalty)).flatten(1)
    score, which = score.topk(beams, dim=1, sorted=False)
    group = group.gather(1, which // GROUP)
    token = group % groups * GROUP + which % GROUP
    # where an utterance is over nothing is above minus infinity, and any index comes
    return score, group // groups, token.clamp_max(vocabulary - 1)
