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
from mtla_espnet.search.ctc import CTCPrefixScorer
from mtla_espnet.search.history import Hypothesis, nbest
from mtla_espnet.search.options import SearchOptions

_NOTHING = float("-inf")
# End detection: so many lengths in a row whose best is so far below the best of all.
END_LENGTHS, END_MARGIN = 3, 10.0


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


class OfferScorer(Scorer, Protocol):
    """Scores some next tokens of each hypothesis."""

    def score(self, tokens: Tensor, offered: Tensor) -> Tensor:
        """Take the newest token (N,) and next ones (N, S); return their (N, S) scores."""


class DecoderScorer:
    """The decoder-only model as a scorer, over a prefix cache shared by the beam.

    Args:
        decoder: with `init_cache` and `step`.
        encoded: (B, T, d) encoder output.
        lengths: (B,) int64.
        temperature: divides the logits.
        copied: give every hypothesis a prefix of its own, to compare with.
        cache: with the prefixes; None: `init_cache` makes it.
    """

    def __init__(
        self,
        decoder,
        encoded: Tensor,
        lengths: Tensor,
        temperature: float = 1.0,
        copied: bool = False,
        cache: DecodingCache | None = None,
    ):
        self._decoder = decoder
        self._temperature = temperature
        self._copied, self._copies = copied, 1
        self.cache = decoder.init_cache(encoded, lengths) if cache is None else cache
        self.cache.expand(len(lengths))

    def score(self, tokens: Tensor) -> Tensor:
        """Take the newest token of each row, (N,); return (N, V) log probabilities."""
        logits = self._decoder.step(tokens, self.cache)
        return (logits.float() / self._temperature).log_softmax(dim=-1)

    def reorder(self, parents: Tensor) -> None:
        """Let row n go on from row parents[n], (N',) int64."""
        if self._copied and len(parents) > self.cache.rows:
            self._copies = len(parents) // self.cache.rows
            rows = torch.arange(self.cache.rows, device=parents.device)
            self.cache.select(rows.repeat_interleave(self._copies))
        else:
            self.cache.reorder(parents)

    def select(self, utterances: Tensor) -> None:
        """Keep the rows of these utterances, (B',) int64."""
        copy = torch.arange(self._copies, device=utterances.device)
        self.cache.select((utterances[:, None] * self._copies + copy).flatten())


def beam_search(
    scorers: Mapping[str, Scorer],
    weights: Mapping[str, float],
    lengths: Sequence[int],
    sos_eos: int,
    options: SearchOptions,
    device: torch.device,
    ctc: CTCPrefixScorer | None = None,
    offer_scorers: Mapping[str, OfferScorer] | None = None,
    blank: int | None = None,
) -> list[list[Hypothesis] | None]:
    """Search the best token sequences of several utterances.

    Where CTC or others score offered tokens alone, each hypothesis offers those that the
    scorers of all tokens like best, and the end.

    Args:
        scorers: name -> scorer of all tokens, each with one row an utterance so far.
        weights: name -> weight, at least 0; "ctc" of CTC.
        lengths: encoder frames of each utterance.
        sos_eos: the token that begins and ends.
        options: of the search.
        device: of the scorers.
        ctc: posteriors to score by, or None.
        offer_scorers: name -> scorer of offered tokens, each with one row an utterance so far.
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
    steps = torch.arange(int(limits[:, 1].max()), device=device)
    ends = Ends(batch, len(steps), sos_eos, options, device)
    history: list[dict[str, Tensor]] = []
    first = placed = None  # the first row of each utterance, and for which shape that is
    offer_scorers = offer_scorers or {}
    holders = (*scorers.values(), *offer_scorers.values())
    few = int(options.pre_beam_ratio * beam) if ctc is not None or offer_scorers else None
    left_out = blank if ctc is None else None  # CTC leaves it out itself

    for index in steps.split(1):
        newest, shape = tokens.flatten(), tokens.shape
        full = {name: scorer.score(newest) for name, scorer in scorers.items()}
        offered, twice = _offered(full, weights, shape, beam, few, sos_eos, left_out)  # (B, W, S)
        flat = offered.flatten(0, 1)
        each = {name: score.gather(1, flat).view(*shape, -1) for name, score in full.items()}
        for name, scorer in offer_scorers.items():
            each[name] = scorer.score(newest, flat).view(*shape, -1)
        if ctc is not None:
            each["ctc"] = ctc.score(state, offered)
        score = _weighted({name: each[name] for name in parts}, weights)
        if options.penalty:
            score = score + options.penalty
        if twice is not None:
            score = score.masked_fill(twice, _NOTHING)
        candidates = (total[..., None] + score).flatten(1)  # (B, W * S)
        chosen, which = candidates.topk(min(beam, candidates.size(1)), dim=1)
        parent = which // offered.size(-1)
        token = offered.flatten(1).gather(1, which)

        # where nothing is left (fewer live hypotheses than the beam) the slot stays dead
        taken = {name: x.flatten(1).gather(1, which) for name, x in each.items()}
        parts = {name: part.gather(1, parent) + taken[name] for name, part in parts.items()}
        total, ended_score = ends.settle(chosen, token, limits, index)
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
        if len(keep) < len(utterance):  # finished utterances leave the batch
            for scorer in holders:
                scorer.select(keep)
            if state is not None:
                ctc.select(keep)
                state = state.select(keep)
            utterance, limits = utterance[keep], limits[keep]
            token, total = token[keep], total[keep]
            parts = {name: part[keep] for name, part in parts.items()}
            ends.select(keep)
        tokens = token
    if not history:
        return [[] for _ in range(batch)]
    whole = {name: torch.stack([step[name] for step in history]) for name in history[0]}
    parent, token, ended_score = (whole.pop(name) for name in ("parent", "token", "ended"))
    return nbest(
        parent, token, ended_score, whole, sos_eos, options.nbest, options.normalize_length
    )


class Ends:
    """Says which hypotheses end, and when an utterance is over.

    Steps are counted on the device: nothing here waits for it.

    Args:
        batch: B.
        steps: the most that there will be.
        sos_eos: the token that ends.
        options: of the search.
        device: of the scores.

    Attributes:
        best: (B, before + steps) float32, best score of what ended at each step; the
            columns `before` the first step stay empty.
        found: (B, N) float64, the n best scores that ended, in any order.
        gain: what a token can add to a score; None: a rank has no bound.
        detect: whether lengths that end far below the best one end a search.
    """

    def __init__(
        self, batch: int, steps: int, sos_eos: int, options: SearchOptions, device: torch.device
    ):
        self.sos_eos = sos_eos
        self.detect = options.maxlenratio == 0
        self.before = END_LENGTHS + 1
        self.best = torch.full((batch, steps + self.before), _NOTHING, device=device)
        kind = {"dtype": torch.float64, "device": device}
        self.found = torch.full((batch, options.nbest), _NOTHING, **kind)
        self.gain = None if options.normalize_length else max(options.penalty, 0.0)

    def settle(
        self, chosen: Tensor, token: Tensor, limits: Tensor, index: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Take what a step chose.

        Args:
            chosen: (B, K) float64 scores; minus infinity: no hypothesis.
            token: (B, K) int64.
            limits: (B, 2) int64, the least and the most tokens.
            index: (1,) int64, the step, from 0.

        Returns:
            (B, K) scores of the hypotheses that go on, and of those that ended; minus
            infinity elsewhere.
        """
        ends = (token == self.sos_eos) | (limits[:, 1:] == index + 1)
        counted = ends & (limits[:, :1] <= index) & (chosen != _NOTHING)  # NaN shall be seen
        ended_score = torch.where(counted, chosen, _NOTHING)
        best_now = ended_score.amax(dim=1, keepdim=True).to(self.best.dtype)
        self.best.index_copy_(1, index + self.before, best_now)
        total = chosen.masked_fill(ends, _NOTHING)
        over = self._settled(total, ended_score, limits[:, 1] - index - 1)
        if self.detect:
            over |= self._hopeless(index)
        return total.masked_fill(over[:, None], _NOTHING), ended_score

    def clear(self) -> None:
        """Begin again."""
        self.best.fill_(_NOTHING)
        self.found.fill_(_NOTHING)

    def take(self, other: "Ends") -> None:
        """Go on from one of fewer steps."""
        self.best[:, : other.best.size(1)] = other.best
        self.found.copy_(other.found)

    def select(self, utterances: Tensor) -> None:
        """Keep these utterances, (B',) int64."""
        self.best, self.found = self.best[utterances], self.found[utterances]

    def _settled(self, total: Tensor, ended_score: Tensor, left: Tensor) -> Tensor:
        """Return (B,) bool: nothing that goes on can still be one of the n best.

        A token adds a log probability, at most 0, and the length bonus.

        Args:
            total: (B, K) scores of what goes on.
            ended_score: (B, K) of what ended now.
            left: (B,) tokens until the limit.
        """
        if self.gain is None:
            return torch.zeros_like(left, dtype=torch.bool)
        both = torch.cat((self.found, ended_score), dim=1)
        count = self.found.size(1)
        best = both.amax(dim=1, keepdim=True) if count == 1 else both.topk(count, dim=1).values
        self.found.copy_(best)
        return total.amax(dim=1) + self.gain * left <= best[:, -1]

    def _hopeless(self, index: Tensor) -> Tensor:
        """Return (B,) bool: the last lengths that ended are far below the best.

        Source: Watanabe et al. 2017, equation 50, with ESPnet's count of lengths: the
        hypotheses of i tokens with both <sos/eos> ended at step i - 2.
        """
        back = torch.arange(END_LENGTHS, device=index.device)
        recent = self.best.index_select(1, index - 2 + self.before - back)
        best = self.best.amax(dim=1, keepdim=True)
        return ((recent > _NOTHING) & (recent - best < -END_MARGIN)).all(dim=1)


def _placed(x: Tensor, utterance: Tensor, batch: int, beam: int) -> Tensor:
    """Return (B, W) of the whole batch, from the utterances that are left."""
    if x.shape == (batch, beam):
        return x
    whole = x.new_full((batch, beam), _NOTHING if x.is_floating_point() else 0)
    whole[utterance, : x.size(1)] = x
    return whole


def _weighted(
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


def _offered(full, weights, shape, beam, few, sos_eos, blank):
    """Return the tokens that each hypothesis offers, (B, W, S), and which stand there twice.

    Args:
        full: name -> (B * W, V) scores of all tokens.
        weights: of the scorers.
        shape: (B, W).
        beam: offers of each hypothesis where scorers of all tokens alone score.
        few: offers of each hypothesis to other scorers, beside the end; None: there is none.
        sos_eos: the end.
        blank: the token that is never offered; None: there is none.
    """
    # One scorer alone orders tokens by itself. float32 orders as well, but for ties.
    ranking = (
        _weighted(full, weights, torch.float32) if len(full) > 1 else next(iter(full.values()))
    )
    kept = ranking.size(-1)
    if blank is not None:
        ranking[:, blank] = _NOTHING
        kept -= 1
    size = min(beam if few is None else few, kept)
    if size == kept:
        token = torch.arange(kept, device=ranking.device)
        if blank is not None:
            token += token >= blank
        return token.expand(*shape, -1), None
    token = ranking.topk(size, dim=-1, sorted=False).indices.view(*shape, -1)
    if few is None:
        return token, None
    # CTC, above all, always knows the end
    end = token.new_full((*shape, 1), sos_eos)
    twice = torch.zeros_like(token, dtype=torch.bool)
    twice = torch.cat((twice, (token == sos_eos).any(dim=-1, keepdim=True)), dim=-1)
    return torch.cat((token, end), dim=-1), twice
