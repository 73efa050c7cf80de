"""Beam search over several utterances at once.

One loop serves every task: it knows scorers of next tokens, and optionally CTC. B
utterances of W hypotheses each advance in lock step; tensors replace loops over
hypotheses. A step keeps what it chose (parent, token, score) instead of sequences, and
the n best are traced back at the end. Semantics are those of ESPnet's `BatchBeamSearch`:
an ended hypothesis is recorded and not expanded; the rest of an utterance fills its
beam again; <blank> is never emitted; at the length limit <sos/eos> is appended unscored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from mtla_espnet.cache import DecodingCache
from mtla_espnet.search.ctc import CTCPrefixScorer

_NOTHING = float("-inf")
# End detection: so many lengths in a row whose best is so far below the best of all.
_END_LENGTHS, _END_MARGIN = 3, 10.0


@dataclass(frozen=True)
class SearchOptions:
    """Options of a search, by ESPnet's names.

    Attributes:
        beam_size: hypotheses an utterance; 1 is greedy.
        nbest: hypotheses returned, at most.
        ctc_weight: of the CTC prefix score; the decoder has the rest.
        penalty: added for each token (length bonus).
        temperature: divides the decoder's logits.
        maxlenratio: of encoder frames; 0: as many tokens as frames, with end detection;
            below 0: minus so many tokens.
        minlenratio: of encoder frames; below 0: minus so many tokens.
        normalize_length: rank by score a token.
        pre_beam_ratio: with CTC, each hypothesis offers int(ratio * beam_size) tokens.
    """

    beam_size: int = 10
    nbest: int = 1
    ctc_weight: float = 0.0
    penalty: float = 0.0
    temperature: float = 1.0
    maxlenratio: float = 0.0
    minlenratio: float = 0.0
    normalize_length: bool = False
    pre_beam_ratio: float = 1.5

    def length_limits(self, frames: int) -> tuple[int, int]:
        """Return the least and the most tokens of an utterance of so many frames."""
        least, most = self.minlenratio, self.maxlenratio
        if most == 0:
            limit = frames
        else:
            limit = -int(most) if most < 0 else max(1, int(most * frames))
        return (-int(least) if least < 0 else int(least * frames)), limit


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


class Scorer(Protocol):
    """Scores next tokens of all hypotheses; holds their state."""

    def score(self, tokens: Tensor) -> Tensor:
        """Take the newest token of each row, (N,); return (N, V) log probabilities."""

    def reorder(self, parents: Tensor) -> None:
        """Let row n go on from row parents[n], (N',) int64."""

    def select(self, utterances: Tensor) -> None:
        """Keep the rows of these utterances, (B',) int64."""


class DecoderScorer:
    """The decoder-only model as a scorer, over a prefix cache shared by the beam.

    Args:
        decoder: with `init_cache` and `step`.
        encoded: (B, T, d) encoder output.
        lengths: (B,) int64.
        temperature: divides the logits.
    """

    def __init__(self, decoder, encoded: Tensor, lengths: Tensor, temperature: float = 1.0):
        self._decoder = decoder
        self._temperature = temperature
        self.cache: DecodingCache = decoder.init_cache(encoded, lengths)
        self.cache.expand(len(lengths))

    def score(self, tokens: Tensor) -> Tensor:
        """See `Scorer.score`."""
        logits = self._decoder.step(tokens, self.cache)
        return (logits.float() / self._temperature).log_softmax(dim=-1)

    def reorder(self, parents: Tensor) -> None:
        """See `Scorer.reorder`."""
        self.cache.reorder(parents)

    def select(self, utterances: Tensor) -> None:
        """See `Scorer.select`."""
        self.cache.select(utterances)


@dataclass
class _Step:
    """What one step chose, for utterances `utterance` (B,): the rest is (B, K)."""

    utterance: Tensor
    parent: Tensor
    token: Tensor
    ended_score: Tensor  # -inf where the hypothesis goes on, or was dropped
    scores: dict[str, Tensor]


def beam_search(
    scorers: Mapping[str, Scorer],
    weights: Mapping[str, float],
    lengths: Sequence[int],
    sos_eos: int,
    options: SearchOptions,
    device: torch.device,
    ctc: CTCPrefixScorer | None = None,
) -> list[list[Hypothesis]]:
    """Search the best token sequences of several utterances.

    Args:
        scorers: name -> scorer, each with one row an utterance so far.
        weights: name -> weight; "ctc" of CTC.
        lengths: encoder frames of each utterance.
        sos_eos: the token that begins and ends.
        options: of the search.
        device: of the scorers.
        ctc: posteriors to score by, or None.

    Returns:
        For each utterance at most `nbest` hypotheses, best first; it may be empty where
        `minlenratio` left none.
    """
    limits = torch.tensor([options.length_limits(n) for n in lengths], device=device)
    batch, beam = len(lengths), options.beam_size
    utterance = torch.arange(batch, device=device)
    tokens = torch.full((batch, 1), sos_eos, device=device)
    total = torch.zeros(batch, 1, dtype=torch.float64, device=device)
    parts = {name: torch.zeros_like(total) for name in weights}
    state = ctc.start() if ctc is not None else None
    steps: list[_Step] = []
    best_ended = torch.full((batch, 0), _NOTHING, device=device)

    for index in range(int(limits[:, 1].max())):
        each = {name: scorer.score(tokens.flatten()) for name, scorer in scorers.items()}
        full = sum(weights[name] * score.double() for name, score in each.items())
        full = full.unflatten(0, tokens.shape) + options.penalty  # (B, W, V)
        offers, ctc_score = _offers(full, ctc, state, weights.get("ctc", 0.0), sos_eos, options)
        candidates = (total[..., None] + offers[1]).flatten(1)  # (B, W * S)
        chosen, which = candidates.topk(min(beam, candidates.size(1)), dim=1)
        width = offers[0].size(-1)
        parent = which // width
        token = offers[0].flatten(1).gather(1, which)

        # where nothing is left (fewer live hypotheses than the beam) the slot stays dead
        parts = _add_parts(parts, each, ctc_score, parent, token, tokens.shape)
        at_limit = (limits[utterance, 1] == index + 1)[:, None]
        ends = (token == sos_eos) | at_limit
        counted = ends & (limits[utterance, 0] <= index)[:, None] & chosen.isfinite()
        ended_score = torch.where(counted, chosen, _NOTHING)
        steps.append(_Step(utterance, parent, token, ended_score, parts))
        total = chosen.masked_fill(ends, _NOTHING)
        best_now = torch.full((batch, 1), _NOTHING, device=device, dtype=best_ended.dtype)
        best_now[utterance, 0] = ended_score.amax(dim=1).to(best_ended.dtype)
        best_ended = torch.cat((best_ended, best_now), dim=1)

        going = total.isfinite().any(dim=1)
        if options.maxlenratio == 0:
            going &= ~_end_detected(best_ended[utterance], index)
        keep = going.nonzero()[:, 0]
        if not len(keep):
            break
        rows = parent + torch.arange(len(utterance), device=device)[:, None] * tokens.size(1)
        for scorer in scorers.values():
            scorer.reorder(rows.flatten())
        if state is not None:
            taken = ctc_score.flatten(1).gather(1, _flat(parent, token, ctc_score.size(-1)))
            state = ctc.extend(state, parent, token, taken)
        if len(keep) < len(utterance):  # finished utterances leave the batch
            for scorer in scorers.values():
                scorer.select(keep)
            if state is not None:
                ctc.select(keep)
                state = state.select(keep)
            utterance, token, total = utterance[keep], token[keep], total[keep]
            parts = {name: part[keep] for name, part in parts.items()}
        tokens = token
    return _trace_back(steps, batch, sos_eos, options)


def _offers(full, ctc, state, ctc_weight, sos_eos, options):
    """Return each hypothesis' best tokens and their scores, (B, W, S), and CTC scores."""
    vocabulary = full.size(-1)
    if ctc is None:
        size = min(options.beam_size, vocabulary)
        score, token = full.topk(size, dim=-1)
        return (token, score), None
    ctc_score = ctc.score(state)
    both = full + ctc_weight * ctc_score
    size = int(options.pre_beam_ratio * options.beam_size)
    if size < vocabulary:  # what the decoder likes, and the end, which CTC always scores
        token = full.topk(size, dim=-1).indices
        offered = torch.zeros_like(full, dtype=torch.bool).scatter_(-1, token, True)
        offered[..., sos_eos] = True
        both = both.masked_fill(~offered, _NOTHING)
    score, token = both.topk(min(options.beam_size, vocabulary), dim=-1)
    return (token, score), ctc_score


def _flat(parent: Tensor, token: Tensor, vocabulary: int) -> Tensor:
    return parent * vocabulary + token


def _add_parts(parts, each, ctc_score, parent, token, shape):
    """Return the sums by scorer of the chosen hypotheses, (B, K)."""
    result = {}
    for name, part in parts.items():
        score = ctc_score if name == "ctc" else each[name].unflatten(0, shape)
        new = score.flatten(1).gather(1, _flat(parent, token, score.size(-1)))
        result[name] = part.gather(1, parent) + new.double()
    return result


def _end_detected(best_ended: Tensor, index: int) -> Tensor:
    """Return (B,) bool: the last lengths that ended are hopelessly below the best.

    Source: Watanabe et al. 2017, equation 50, with ESPnet's count of lengths.
    """
    last = index - 2  # the hypotheses of i tokens with both <sos/eos> ended at step i - 2
    if last - _END_LENGTHS + 1 < 0:
        return torch.zeros(len(best_ended), dtype=torch.bool, device=best_ended.device)
    recent = best_ended[:, last - _END_LENGTHS + 1 : last + 1]
    best = best_ended.amax(dim=1, keepdim=True)
    return (recent.isfinite() & (recent - best < -_END_MARGIN)).all(dim=1)


def _trace_back(
    steps: list[_Step], batch: int, sos_eos: int, options: SearchOptions
) -> list[list[Hypothesis]]:
    """Follow the parents of the best ended hypotheses."""
    places: list[list[tuple[float, int, int, int]]] = [[] for _ in range(batch)]
    host = [
        (s.utterance.tolist(), s.parent.tolist(), s.token.tolist(), s.ended_score.cpu())
        for s in steps
    ]
    for index, (utterance, _, _, ended) in enumerate(host):
        for row, slot in ended.isfinite().nonzero().tolist():
            score = ended[row, slot].item()
            length = index + 1 + (host[index][2][row][slot] != sos_eos)
            rank = score / length if options.normalize_length else score
            places[utterance[row]].append((rank, index, row, slot))
    results = []
    for found in places:
        found.sort(key=lambda place: -place[0])
        nbest = []
        for _, index, row, slot in found[: options.nbest]:
            score = host[index][3][row, slot].item()
            scores = {n: part[row, slot].item() for n, part in steps[index].scores.items()}
            nbest.append(Hypothesis(_sequence(host, index, row, slot, sos_eos), score, scores))
        results.append(nbest)
    return results


def _sequence(host, index: int, row: int, slot: int, sos_eos: int) -> list[int]:
    utterance = host[index][0][row]
    tokens = [] if host[index][2][row][slot] == sos_eos else [sos_eos]
    while index >= 0:
        row = host[index][0].index(utterance)
        tokens.append(host[index][2][row][slot])
        slot = host[index][1][row][slot]
        index -= 1
    return [sos_eos, *reversed(tokens)]
