"""CTC prefix scores in buffers of fixed shape: `CTCPrefixScorer` for a CUDA graph.

Posteriors are kept once, in float32, the frames of a label side by side, and candidates alone are
scored. Sums over frames are taken in logarithms relative to their largest term, which is found
in float64, so that float32 is exact to some 1e-6 whatever the prefix. Forward variables stay in
float64.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from mtla_espnet.attention.ops import choose
from mtla_espnet.cache.graph import Memory, new_memory
from mtla_espnet.search.ctc import CTCState, shifted

_NOTHING = float("-inf")
# So many posteriors are computed at once: their layer needs twice as much beside what is kept.
_AT_ONCE = 1 << 25


class GraphCTC:
    """Scores label extensions of W prefixes an utterance.

    Args:
        layer: encoder output (B, T, d) -> log posteriors (B, T, V).
        vocabulary: V.
        batch: B.
        positions: frames of the longest utterance.
        beams: W.
        blank: label of blank.
        eos: label that ends a hypothesis.
        skip: labels that begin every hypothesis and that CTC was not trained on.
        device: where the buffers live.
        memory: gives the buffer of the posteriors.
    """

    def __init__(
        self,
        layer: Callable[[Tensor], Tensor],
        vocabulary: int,
        batch: int,
        positions: int,
        beams: int,
        blank: int,
        eos: int,
        skip: int,
        device: torch.device,
        memory: Memory = new_memory,
    ):
        self._layer, self._blank, self._eos, self._skip = layer, blank, eos, skip
        shape = batch, vocabulary, positions
        self.log_p = memory("posteriors", shape, torch.float32, device)
        self.lengths = torch.ones(batch, dtype=torch.int64, device=device)
        exact = {"dtype": torch.float64, "device": device}
        self._held = torch.zeros(batch, positions, dtype=torch.bool, device=device)
        self._blank_sum = torch.zeros(batch, positions, **exact)
        self.state = CTCState(
            blank=torch.zeros(batch, beams, positions, **exact),
            either=torch.zeros(batch, beams, positions, **exact),
            prefix=torch.zeros(batch, beams, **exact),
            last=torch.zeros(batch, beams, dtype=torch.int64, device=device),
        )

    def start(self, encoded: Tensor, lengths: Tensor) -> None:
        """Take new utterances, B of them or fewer: (B, T, d) and (B,) int64, at least 1."""
        count, frames, _ = encoded.shape
        rows = max(1, _AT_ONCE // (frames * self.log_p.size(1)))
        for first in range(0, count, rows):
            found = self._layer(encoded[first : first + rows])
            self.log_p[first : first + len(found), :, :frames] = found.transpose(1, 2)
        self.lengths.fill_(1)
        self.lengths[:count] = lengths

    def begin(self) -> None:
        """Make all prefixes empty."""
        frame = torch.arange(self.log_p.size(2), device=self.lengths.device)
        self._held.copy_(frame < self.lengths[:, None])
        blank = self.log_p[:, self._blank].double().masked_fill(~self._held, 0.0)
        self._blank_sum.copy_(blank.cumsum(dim=1))
        self.state.blank.copy_(self._blank_sum[:, None].expand_as(self.state.blank))
        self.state.either.copy_(self.state.blank)
        self.state.prefix.zero_()
        self.state.last.fill_(-1)

    def score(self, label: Tensor, index: Tensor) -> Tensor:
        """Return log psi(g v) - log psi(g) of labels v (B, W, S) int64: (B, W, S) float64.

        Args:
            label: of each prefix g, the labels to score.
            index: (1,) int64, labels that each prefix has.
        """
        if choose.has_kernels(label.device):
            # here: Triton need not be installed where there is no GPU
            from mtla_espnet.search.graph.ctc_kernels import score as on_cuda

            return on_cuda(self, label, index, self._blank, self._eos, self._skip)
        state = self.state
        frames = self._frames(label.flatten(1)).unflatten(1, label.shape[1:])  # (B, W, S, T)
        again = (label == state.last[..., None])[..., None]
        before = torch.where(
            again, shifted(state.blank, state)[:, :, None], shifted(state.either, state)[:, :, None]
        )
        terms = (before + frames).masked_fill(~self._held[:, None, None], _NOTHING)
        psi = terms.logsumexp(dim=-1)
        prefix = state.prefix[..., None]
        if self._skip:
            psi = torch.where(index < self._skip, prefix, psi)
        at_end = (self.lengths - 1)[:, None, None].expand(-1, label.size(1), 1)
        psi = torch.where(label == self._eos, state.either.gather(2, at_end), psi)
        possible = (label != self._blank) & prefix.isfinite()
        return torch.where(possible, psi - prefix, _NOTHING)

    def extend(self, parent: Tensor, label: Tensor, score: Tensor, index: Tensor) -> None:
        """Let each prefix become an extension of one of its utterance.

        Args:
            parent: (B, W) int64, the prefix that is extended.
            label: (B, W) int64, by which label.
            score: (B, W) what `score` gave it.
            index: (1,) int64, as of `score`.
        """
        before = self.state.continued(parent)
        after = before.extended(label, score, self._frames(label), self._blank_sum)
        for name in ("blank", "either", "prefix", "last"):
            new = getattr(after, name)
            if self._skip:
                new = torch.where(index < self._skip, getattr(before, name), new)
            getattr(self.state, name).copy_(new)

    def _frames(self, label: Tensor) -> Tensor:
        """Return (B, K, T) float64 log posteriors of labels (B, K); 0 where padded."""
        row = torch.arange(len(label), device=label.device)[:, None]
        return self.log_p[row, label].double().masked_fill(~self._held[:, None], 0.0)
