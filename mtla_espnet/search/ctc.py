"""CTC prefix scores of a whole beam at once, without a loop over frames or labels.

The score of a prefix g extended by label v is the probability that the input's
labelling begins with g v (Watanabe et al. 2017, algorithm 2, in its notation):

    psi(g v) = sum_t phi_{t-1}(g, v) * p_t(v)
    phi_t(g, v) = r^b_t(g) + (r^n_t(g) unless v repeats g's last label)

Over all v that is one matrix product of phi with the frames' probabilities, so every
label of the vocabulary is scored. The forward variables r^n, r^b are linear
recurrences in t; they are solved by cumulative sums in float64, and only for the
hypotheses that the search keeps.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

_NOTHING = float("-inf")


@dataclass
class CTCState:
    """Forward variables of the kept prefixes, in float64 logarithms.

    Attributes:
        blank: (B, W, T) r^b: the prefix has been emitted by frame t, which is blank.
        either: (B, W, T) r^b + r^n: the prefix has been emitted by frame t, which is blank or
            its last label.
        prefix: (B, W) psi of the prefix itself.
        last: (B, W) int64, its last label; -1 of the empty prefix.
        skip: labels that come next and that CTC does not know.
    """

    blank: Tensor
    either: Tensor
    prefix: Tensor
    last: Tensor
    skip: int = 0

    def continued(self, parent: Tensor) -> "CTCState":
        """Return the state of prefixes `parent` (B, K) of each utterance, before their labels."""
        index = parent[..., None].expand(-1, -1, self.blank.size(-1))
        return CTCState(
            self.blank.gather(1, index),
            self.either.gather(1, index),
            self.prefix.gather(1, parent),
            self.last.gather(1, parent),
            max(0, self.skip - 1),
        )

    def extended(
        self, label: Tensor, score: Tensor, frames: Tensor, blank_sum: Tensor
    ) -> "CTCState":
        """Return the state after one more label each.

        Args:
            label: (B, K) int64.
            score: (B, K) log psi(g v) - log psi(g) of it.
            frames: (B, K, T) float64 log posteriors of the label; 0 where padded.
            blank_sum: (B, T) float64 sums of blank's up to each frame; padded ones add nothing.
        """
        before = torch.where((label == self.last)[..., None], self.blank, self.either)
        # r^n_t = p_t (r^n_{t-1} + phi_{t-1}), divided by the product of p up to t
        total = frames.cumsum(dim=-1)
        earlier = _shift(total, 0.0)
        nonblank = total + (shifted(before, self) - earlier).logcumsumexp(dim=-1)
        # r^b_t = b_t (r^b_{t-1} + r^n_{t-1}), divided by the product of b up to t
        blank_sum = blank_sum[:, None]
        arrived = _shift(nonblank, _NOTHING) - _shift(blank_sum, 0.0)
        blank = blank_sum + arrived.logcumsumexp(dim=-1)
        either = torch.logaddexp(nonblank, blank)
        return CTCState(blank, either, self.prefix + score.double(), label)

    def select(self, index: Tensor) -> "CTCState":
        """Keep utterances `index` (B',)."""
        chosen = (x[index] for x in (self.blank, self.either, self.prefix, self.last))
        return CTCState(*chosen, self.skip)


class CTCPrefixScorer:
    """Scores label extensions of prefixes against CTC posteriors.

    Args:
        log_probability: (B, T, V) log posteriors of the frames.
        lengths: (B,) int64 frames of each utterance, at least 1.
        blank: label of blank; never scored above zero probability.
        eos: label that ends a hypothesis: scores the prefix as the whole labelling.
        skip: labels that begin every hypothesis and that CTC was not trained on, such as an
            intent: they cost nothing, whatever they are.
    """

    def __init__(
        self, log_probability: Tensor, lengths: Tensor, blank: int, eos: int, skip: int = 0
    ):
        self._log_probability = log_probability  # few of it are needed in float64
        self._probability = log_probability.double().exp()
        size = log_probability.size(1)
        index = torch.arange(size, device=log_probability.device)
        self._held = index < lengths.to(log_probability.device)[:, None]  # (B, T)
        self._probability *= self._held[..., None]
        self._lengths = lengths.to(log_probability.device)
        self._blank, self._eos, self._skip = blank, eos, skip
        # a padded frame costs nothing, so that cumulative sums stay finite
        blank_score = log_probability[..., blank].double().masked_fill(~self._held, 0.0)
        self._blank_sum = blank_score.cumsum(dim=1)  # (B, T)

    def start(self) -> CTCState:
        """Return the state of the empty prefix, one an utterance (W = 1)."""
        blank = self._blank_sum[:, None]
        return CTCState(
            blank=blank,
            either=blank,
            prefix=torch.zeros_like(blank[..., 0]),
            last=torch.full_like(blank[..., 0], -1, dtype=torch.int64),
            skip=self._skip,
        )

    def score(self, state: CTCState, label: Tensor | None = None) -> Tensor:
        """Return log psi(g v) - log psi(g), float64.

        What extends an impossible prefix is impossible, -inf.

        Args:
            state: of the prefixes g.
            label: (B, W, S) int64, the labels v of each prefix; None: the whole vocabulary.

        Returns:
            (B, W, S), S = V for the whole vocabulary.
        """
        before = shifted(state.either, state)
        largest = before.amax(dim=-1, keepdim=True).clamp_min(torch.finfo(before.dtype).min)
        # one product for all labels, also where few are asked for: faster than to collect those
        psi = torch.matmul((before - largest).exp_(), self._probability)
        if label is None:
            label = torch.arange(psi.size(-1), device=psi.device)
        else:
            psi = psi.gather(2, label)
        psi = psi.log_().add_(largest)
        # the last label again: only after a blank in between
        last = state.last[..., None]
        emitted = shifted(state.blank, state) + self._frames(state.last.clamp_min(0))
        repeated = emitted.masked_fill_(~self._held[:, None], _NOTHING).logsumexp(dim=-1)
        psi = torch.where(label == last, repeated[..., None], psi)
        prefix = state.prefix[..., None]
        if state.skip:
            psi = prefix.expand_as(psi)
        at_end = (self._lengths - 1)[:, None, None].expand(-1, before.size(1), 1)
        psi = torch.where(label == self._eos, state.either.gather(2, at_end), psi)
        possible = (label != self._blank) & prefix.isfinite()
        return torch.where(possible, psi - prefix, _NOTHING)

    def extend(self, state: CTCState, parent: Tensor, label: Tensor, score: Tensor) -> CTCState:
        """Return the state of chosen extensions.

        Args:
            state: of the prefixes that were scored.
            parent: (B, K) int64, prefix of the utterance that each extends.
            label: (B, K) int64, its new label.
            score: (B, K) what `score` gave it.
        """
        chosen = state.continued(parent)
        if state.skip:
            return chosen
        return chosen.extended(label, score, self._frames(label), self._blank_sum)

    def _frames(self, label: Tensor) -> Tensor:
        """Return (B, K, T) log posteriors of one label a hypothesis; 0 where padded."""
        size = self._log_probability.size(1)
        index = label[:, None].expand(-1, size, -1)
        frames = self._log_probability.gather(2, index).transpose(1, 2).double()
        return frames.masked_fill(~self._held[:, None], 0.0)

    def select(self, index: Tensor) -> None:
        """Keep utterances `index` (B',)."""
        for name in ("_log_probability", "_probability", "_held", "_lengths", "_blank_sum"):
            setattr(self, name, getattr(self, name)[index])


def _shift(x: Tensor, first: float) -> Tensor:
    """Move (..., T) one frame later; frame 0 becomes `first`."""
    return torch.nn.functional.pad(x[..., :-1], (1, 0), value=first)


def shifted(phi: Tensor, state: CTCState) -> Tensor:
    """Return phi_{t-1} of phi (B, W, T): before the first frame only the empty prefix is."""
    earlier = _shift(phi, _NOTHING)
    earlier[..., 0] = torch.where(state.last < 0, 0.0, _NOTHING)
    return earlier
