"""Beam search over several utterances at once.

One loop serves every task: it knows scorers of next tokens, and optionally CTC. B
utterances of W hypotheses each advance in lock step; tensors replace loops over
hypotheses. A step keeps what it chose (parent, token, score) instead of sequences, and
the n best are traced back at the end. Semantics are those of ESPnet's `BatchBeamSearch`:
an ended hypothesis is recorded and not expanded; the rest of an utterance fills its
beam again; <blank> is never emitted; at the length limit <sos/eos> is appended unscored.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from mtla_espnet.cache.growing import DecodingCache
from mtla_espnet.search.constraints import constraints
from mtla_espnet.search.ctc import CTCPrefixScorer
from mtla_espnet.search.ends import EndDetection
from mtla_espnet.search.history import Hypothesis, nbest
from mtla_espnet.search.options import SearchOptions

_NOTHING = float("-inf")


class Scorer(Protocol):
    """Scores next tokens of all hypotheses; holds their state."""

    def score(self, tokens: Tensor) -> Tensor:
        """Take the newest token of each row, (N,); return (N, V) log probabilities.

        The search writes to what is returned.
        """

    def reorder(self, parents: Tensor) -> None:
        """Let row n go on from row parents[n], (N',) int64."""

    def select(self, utterances: Tensor) -> None:
        """Keep the rows of these utterances, (B',) int64."""


class PartialScorer(Scorer, Protocol):
    """Scores some next tokens of each hypothesis."""

    def score(self, tokens: Tensor, candidates: Tensor) -> Tensor:
        """Take the newest token (N,) and next ones (N, S); return their (N, S) scores."""


class DecoderScorer:
    """The decoder-only model as a scorer, over a prefix cache shared by the beam.

    Args:
        decoder: with `init_cache` and `step`.
        encoded: (B, T, d) encoder output.
        lengths: (B,) int64.
        temperature: divides the logits.
        cache: with the prefixes; None: `init_cache` makes it.
    """

    def __init__(
        self,
        decoder,
        encoded: Tensor,
        lengths: Tensor,
        temperature: float = 1.0,
        cache: DecodingCache | None = None,
    ):
        self._decoder = decoder
        self._temperature = temperature
        self.cache = decoder.init_cache(encoded, lengths) if cache is None else cache
        self.cache.expand(len(lengths))

    def score(self, tokens: Tensor) -> Tensor:
        """Take the newest token of each row, (N,); return (N, V) log probabilities."""
        logits = self._decoder.step(tokens, self.cache)
        return (logits.float() / self._temperature).log_softmax(dim=-1)

    def reorder(self, parents: Tensor) -> None:
        """Let row n go on from row parents[n], (N',) int64."""
        self.cache.reorder(parents)

    def select(self, utterances: Tensor) -> None:
        """Keep the rows of these utterances, (B',) int64."""
        self.cache.select(utterances)


def beam_search(
    scorers: Mapping[str, Scorer],
    weights: Mapping[str, float],
    lengths: Sequence[int],
    sos_eos: int,
    options: SearchOptions,
    device: torch.device,
    ctc: CTCPrefixScorer | None = None,
    partial_scorers: Mapping[str, PartialScorer] | None = None,
    blank: int | None = None,
) -> list[list[Hypothesis] | None]:
    """Search the best token sequences of several utterances.

    CTC and partial scorers score candidates alone: the tokens that the scorers of all tokens
    like best, and the end (ESPnet's pre-beam).

    Args:
        scorers: name -> scorer of all tokens, each with one row an utterance so far.
        weights: name -> weight, at least 0; "ctc" of CTC.
        lengths: encoder frames of each utterance.
        sos_eos: the token that begins and ends.
        options: of the search.
        device: of the scorers.
        ctc: posteriors to score by, or None.
        partial_scorers: name -> scorer of candidates, each with one row an utterance so far.
        blank: the token that is never emitted; None: every token may be.

    Returns:
        For each utterance at most `nbest` hypotheses, best first; it may be empty where
        `minlenratio` left none. None: a score of the utterance was no number (NaN).
    """
    limits = torch.tensor([options.length_limits(n) for n in lengths], device=device)
    batch, beam = len(lengths), options.beam_size
    utterance = torch.arange(batch, device=device)
    tokens = torch.full((batch, 1), sos_eos, device=device)
    total = torch.zeros(batch, 1, dtype=torch.float64, device=device)
    parts = {name: torch.zeros_like(total) for name in weights}
    state = ctc.start() if ctc is not None else None
    rules = constraints(options, batch, device)
    steps = torch.arange(int(limits[:, 1].max()), device=device)
    ends = EndDetection(batch, len(steps), sos_eos, options, device)
    history: list[dict[str, Tensor]] = []
    first = placed = None  # the first row of each utterance, and for which shape that is
    partial_scorers = partial_scorers or {}
    holders = (*scorers.values(), *partial_scorers.values())
    partial = ctc is not None or partial_scorers
    pre_beam_size = int(options.pre_beam_ratio * beam) if partial else None
    left_out = blank if ctc is None else None  # CTC leaves it out itself

    for index in steps.split(1):
        newest, shape = tokens.flatten(), tokens.shape
        full = {name: scorer.score(newest) for name, scorer in scorers.items()}
        forbidden = rules and rules.forbidden(next(iter(full.values())).size(1))
        candidates, barred = pre_beam(  # (B, W, S)
            full, weights, shape, beam, pre_beam_size, sos_eos, left_out, forbidden
        )
        flat = candidates.flatten(0, 1)
        each = {name: score.gather(1, flat).view(*shape, -1) for name, score in full.items()}
        for name, scorer in partial_scorers.items():
            each[name] = scorer.score(newest, flat).view(*shape, -1)
        if ctc is not None:
            each["ctc"] = ctc.score(state, candidates)
        if forbidden is not None:
            excluded = forbidden.gather(1, flat).view(candidates.shape)
            barred = excluded if barred is None else barred | excluded
        chosen, parent, token, taken, parts = best_extensions(
            each, candidates, barred, weights, total, parts, options
        )
        total, ended_score = ends.update(chosen, token, limits, index)
        made = {"parent": parent, "token": token, "ended": ended_score, **parts}
        history.append({n: _placed(x, utterance, batch, beam) for n, x in made.items()})

        keep = total.isfinite().any(dim=1).nonzero()[:, 0]
        if not len(keep):
            break
        if shape != placed:
            placed = shape
            first = torch.arange(0, shape[0] * shape[1], shape[1], device=device)[:, None]
        rows = (parent + first).flatten()
        for scorer in holders:
            scorer.reorder(rows)
        if state is not None:
            state = ctc.extend(state, parent, token, taken["ctc"])
        if rules:
            rules.extend(rows, token.flatten())
        if len(keep) < len(utterance):  # finished utterances leave the batch
            for scorer in holders:
                scorer.select(keep)
            if state is not None:
                ctc.select(keep)
                state = state.select(keep)
            if rules:
                rules.select(keep, len(utterance))
            utterance, limits = utterance[keep], limits[keep]
            token, total = token[keep], total[keep]
            parts = {name: part[keep] for name, part in parts.items()}
            ends.select(keep)
        tokens = token
    if not history:
        return [[] for _ in range(batch)]
    whole = {name: torch.stack([step[name] for step in history]) for name in history[0]}
    parent, token, ended_score = (whole.pop(name) for name in ("parent", "token", "ended"))
    return nbest(parent, token, ended_score, whole, sos_eos, options.nbest, options.length_exponent)


def best_extensions(
    each: Mapping[str, Tensor],
    candidates: Tensor,
    barred: Tensor | None,
    weights: Mapping[str, float],
    total: Tensor,
    parts: Mapping[str, Tensor],
    options: SearchOptions,
) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """Return the best continuations of each utterance.

    Args:
        each: name -> (B, W, S) scores of the candidates.
        candidates: (B, W, S) int64 tokens.
        barred: (B, W, S) bool, which of them may not be chosen, such as one that stands there
            twice; None: all may.
        weights: of the scorers.
        total: (B, W) float64 scores of the hypotheses.
        parts: name -> (B, W) float64, unweighted, in the order in which they are added.
        options: of the search.

    Returns:
        Scores (B, K), parents and tokens; name -> (B, K) what each scorer gave the chosen
        tokens; name -> the new parts.
    """
    score = weighted({name: each[name] for name in parts}, weights)
    if options.penalty:
        score = score + options.penalty
    if barred is not None:
        score = score.masked_fill(barred, _NOTHING)
    sums = (total[..., None] + score).flatten(1)  # (B, W * S)
    chosen, which = sums.topk(min(options.beam_size, sums.size(1)), dim=1)
    parent = which // candidates.size(-1)
    token = candidates.flatten(1).gather(1, which)
    # where nothing is left (fewer live hypotheses than the beam) the slot stays dead
    taken = {name: x.flatten(1).gather(1, which) for name, x in each.items()}
    grown = {name: part.gather(1, parent) + taken[name] for name, part in parts.items()}
    return chosen, parent, token, taken, grown


def _placed(x: Tensor, utterance: Tensor, batch: int, beam: int) -> Tensor:
    """Return (B, W) of the whole batch, from the utterances that are left."""
    if x.shape == (batch, beam):
        return x
    whole = x.new_full((batch, beam), _NOTHING if x.is_floating_point() else 0)
    whole[utterance, : x.size(1)] = x
    return whole


def weighted(
    scores: Mapping[str, Tensor], weights: Mapping[str, float], dtype: torch.dtype = torch.float64
) -> Tensor:
    """Return the weighted sum of scores."""
    total = None
    for name, score in scores.items():
        score = score.to(dtype)
        if weights[name] != 1:
            score = weights[name] * score
        total = score if total is None else total + score
    return total


def pre_beam(full, weights, shape, beam, pre_beam_size, sos_eos, blank, forbidden=None):
    """Return the candidates of each hypothesis, (B, W, S), and which of them stand there twice.

    Args:
        full: name -> (B * W, V) scores of all tokens.
        weights: of the scorers.
        shape: (B, W).
        beam: candidates of each hypothesis where scorers of all tokens alone score.
        pre_beam_size: candidates of each hypothesis for partial scorers, beside the end; None:
            there are no such scorers.
        sos_eos: the end.
        blank: the token that is no candidate; None: there is none.
        forbidden: (B * W, V) bool, tokens that come last; None: there are none.
    """
    # One scorer alone orders tokens by itself. float32 orders as well, but for ties.
    ranking = weighted(full, weights, torch.float32) if len(full) > 1 else next(iter(full.values()))
    kept = ranking.size(-1)
    if forbidden is not None:
        ranking = ranking.masked_fill(forbidden, _NOTHING)
    if blank is not None:
        ranking[:, blank] = _NOTHING
        kept -= 1
    size = min(beam if pre_beam_size is None else pre_beam_size, kept)
    if size == kept:
        token = torch.arange(kept, device=ranking.device)
        if blank is not None:
            token += token >= blank
        return token.expand(*shape, -1), None
    token = ranking.topk(size, dim=-1, sorted=False).indices.view(*shape, -1)
    if pre_beam_size is None:
        return token, None
    # CTC, above all, always knows the end
    end = token.new_full((*shape, 1), sos_eos)
    duplicate = torch.zeros_like(token, dtype=torch.bool)
    duplicate = torch.cat((duplicate, (token == sos_eos).any(dim=-1, keepdim=True)), dim=-1)
    return torch.cat((token, end), dim=-1), duplicate
