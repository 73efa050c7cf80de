"""What the steps of a search chose, and the best hypotheses among it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

_NOTHING = float("-inf")


@dataclass
class Hypothesis:
    """An ended hypothesis.

    Attributes:
        yseq: token ids from the first <sos/eos> to the last one.
        score: weighted sum of all scores.
        scores: unweighted sum by scorer.
    """

    yseq: list[int]
    score: float
    scores: dict[str, float] = field(default_factory=dict)


def nbest(
    parent: Tensor,
    token: Tensor,
    ended_score: Tensor,
    parts: Mapping[str, Tensor],
    sos_eos: int,
    count: int,
    length_exponent: float,
) -> list[list[Hypothesis] | None]:
    """Return the best ended hypotheses of each utterance, best first; None: a score is NaN.

    Args:
        parent: (L, B, W) int64, hypothesis of the step before that each one extends.
        token: (L, B, W) int64, what it is extended by.
        ended_score: (L, B, W) float64, score of what ended there, else minus infinity.
        parts: scorer -> (L, B, W) float64, its share of the scores so far.
        sos_eos: the token that begins and ends.
        count: hypotheses returned, at most.
        length_exponent: rank by score / tokens ** this exponent, the end among them; 0: by score.
    """
    steps, batch, beams = token.shape
    if not steps:
        return [[] for _ in range(batch)]
    index = torch.arange(steps, device=token.device)
    wrong = torch.stack([ended_score, *parts.values()]).isnan().any(dim=0).any(dim=0).any(dim=-1)
    rank = ended_score
    if length_exponent:
        length = (index[:, None, None] + 1 + (token != sos_eos)).to(rank.dtype)
        rank = rank / length**length_exponent
    rank = rank.transpose(0, 1).flatten(1)  # (B, L * W)
    rank, place = rank.topk(min(count, rank.size(1)), dim=1)
    last, slot = place // beams, place % beams  # (B, count)
    found = (rank > _NOTHING).tolist()
    row = torch.arange(batch, device=token.device)[:, None]
    score = ended_score[last, row, slot].tolist()
    scores = {name: part[last, row, slot].tolist() for name, part in parts.items()}
    # backwards, for all at once
    parent, token, last, slot = (x.cpu().numpy() for x in (parent, token, last, slot))
    row = np.arange(batch)[:, None]
    taken = np.empty((steps, *slot.shape), dtype=np.int64)
    for at in range(steps - 1, -1, -1):
        taken[at] = token[at, row, slot]
        slot = np.where(last >= at, parent[at, row, slot], slot)
    tokens = taken.transpose(1, 2, 0).tolist()  # (B, count, L)
    last = last.tolist()
    results = []
    for b, is_wrong in enumerate(wrong.tolist()):
        if is_wrong:
            results.append(None)
            continue
        hypotheses = []
        for k, is_there in enumerate(found[b]):
            if is_there:
                yseq = [sos_eos, *tokens[b][k][: last[b][k] + 1]]
                if yseq[-1] != sos_eos:
                    yseq.append(sos_eos)
                by_scorer = {name: part[b][k] for name, part in scores.items()}
                hypotheses.append(Hypothesis(yseq, score[b][k], by_scorer))
        results.append(hypotheses)
    return results
