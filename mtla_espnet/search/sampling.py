"""Sampling: token sequences that are drawn by their probabilities, several an utterance.

A token is drawn as the best one of log p + g with Gumbel noise g (Gumbel 1954), which has the
probability p. The noise of a step is that of the seed, the same for every utterance: what is
drawn for an utterance does not depend on what else is in the batch.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mtla_espnet.search.beam import Scorer, weighted
from mtla_espnet.search.constraints import constraints
from mtla_espnet.search.history import Hypothesis, nbest
from mtla_espnet.search.options import SearchOptions

_NOTHING = float("-inf")


def sample(
    scorers: Mapping[str, Scorer],
    weights: Mapping[str, float],
    lengths: Sequence[int],
    sos_eos: int,
    options: SearchOptions,
    device: torch.device,
    blank: int | None = None,
) -> list[list[Hypothesis] | None]:
    """Draw `beam_size` token sequences for each of several utterances.

    Tokens are drawn from the softmax of the weighted scores, of which `sampling_topk` and
    `sampling_topp` leave the most probable ones. Scores are those of the whole distribution, as
    a beam search would count them. There is no end before `minlenratio`, and at the length limit
    <sos/eos> is appended unscored.

    Args:
        scorers: name -> scorer of all tokens, each with one row an utterance so far.
        weights: name -> weight, at least 0.
        lengths: encoder frames of each utterance.
        sos_eos: the token that begins and ends.
        options: of the search.
        device: of the scorers.
        blank: the token that is never emitted; None: every token may be.

    Returns:
        For each utterance its `nbest` most probable draws, the best first; the same one may come
        twice. None: a score of the utterance was no number (NaN).
    """
    batch, count = len(lengths), options.beam_size
    limits = torch.tensor([options.length_limits(n) for n in lengths], device=device)
    generator = torch.Generator().manual_seed(options.seed)
    rules = constraints(options, batch, device)
    rows = torch.arange(batch, device=device).repeat_interleave(count)
    own = torch.arange(batch * count, device=device)
    parent = torch.arange(count, device=device).expand(batch, -1)
    newest = torch.full((batch,), sos_eos, device=device)
    total = torch.zeros(batch, count, dtype=torch.float64, device=device)
    parts = {name: torch.zeros_like(total) for name in scorers}
    live = torch.ones(batch, count, dtype=torch.bool, device=device)
    history: list[dict[str, Tensor]] = []
    for index in range(int(limits[:, 1].max())):
        full = {name: scorer.score(newest) for name, scorer in scorers.items()}
        score = weighted(full, weights)
        allowed = score.clone()
        if blank is not None:
            allowed[:, blank] = _NOTHING
        short = (index < limits[:, :1]).expand(-1, len(score) // batch).flatten()
        allowed[:, sos_eos].masked_fill_(short, _NOTHING)
        forbidden = rules and rules.forbidden(score.size(1))
        if forbidden is not None:
            allowed = allowed.masked_fill(forbidden, _NOTHING)
        noise = _gumbel((count, score.size(1)), generator).to(device)
        allowed = most_probable(allowed, options.sampling_topk, options.sampling_topp)
        token = (_spread(allowed, batch, count) + noise).argmax(dim=-1)  # (B, W)
        for name, scores in full.items():
            parts[name] = parts[name] + _taken(scores, token)
        total = total + _taken(score, token) + options.penalty
        ends = live & ((token == sos_eos) | (limits[:, 1:] == index + 1))
        ended = torch.where(ends, total, _NOTHING)
        live = live & ~ends
        history.append({"parent": parent, "token": token, "ended": ended, **parts})
        if not live.any():
            break
        newest, going = token.flatten(), rows if index == 0 else own
        for scorer in scorers.values():
            scorer.reorder(going)
        if rules:
            rules.extend(going, newest)
    if not history:
        return [[] for _ in range(batch)]
    whole = {name: torch.stack([step[name] for step in history]) for name in history[0]}
    chosen = (whole.pop(name) for name in ("parent", "token", "ended"))
    return nbest(*chosen, whole, sos_eos, options.nbest, options.length_exponent)


def most_probable(score: Tensor, top_k: int, top_p: float) -> Tensor:
    """Leave the most probable tokens of each row; others get minus infinity.

    Args:
        score: (N, V) logarithms of probabilities that need not sum to 1.
        top_k: so many are left, and those of equal score; 0: all.
        top_p: of these the fewest that have so much of their probability together; 0: all.

    Example:
        >>> most_probable(torch.tensor([[0.5, 0.3, 0.2]]).log(), 0, 0.6).exp()
        tensor([[0.5000, 0.3000, 0.0000]])
    """
    if 0 < top_k < score.size(1):
        least = score.topk(top_k, dim=1).values[:, -1:]
        score = score.masked_fill(score < least, _NOTHING)
    if top_p:
        ordered, index = score.softmax(dim=1).sort(dim=1, descending=True, stable=True)
        before = ordered.cumsum(dim=1) - ordered
        left_out = torch.zeros_like(score, dtype=torch.bool)
        score = score.masked_fill(left_out.scatter(1, index, before >= top_p), _NOTHING)
    return score


def _gumbel(shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Return Gumbel noise in float64, drawn on the CPU: every device has the same."""
    uniform = torch.rand(shape, generator=generator, dtype=torch.float64)
    return -(-uniform.clamp_min(torch.finfo(torch.float64).tiny).log()).log()


def _spread(scores: Tensor, batch: int, count: int) -> Tensor:
    """(B or B * W, V) -> (B, W, V)."""
    return scores.unflatten(0, (batch, -1)).expand(-1, count, -1)


def _taken(scores: Tensor, token: Tensor) -> Tensor:
    """Return the scores (B, W) of tokens (B, W), of (B or B * W, V)."""
    return _spread(scores, *token.shape).gather(2, token[..., None])[..., 0].double()
