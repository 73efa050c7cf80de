"""Which hypotheses end, and when the search of an utterance is over."""

import torch
from torch import Tensor

from mtla_espnet.search.options import SearchOptions

_NOTHING = float("-inf")
# So many lengths in a row whose best is so far below the best of all end a search.
END_LENGTHS, END_MARGIN = 3, 10.0


class EndDetection:
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
        self.gain = None if options.length_exponent else max(options.penalty, 0.0)

    def update(
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
        over = self._beaten(total, ended_score, limits[:, 1] - index - 1)
        if self.detect:
            over |= self._hopeless(index)
        return total.masked_fill(over[:, None], _NOTHING), ended_score

    def clear(self) -> None:
        """Begin again."""
        self.best.fill_(_NOTHING)
        self.found.fill_(_NOTHING)

    def take(self, other: "EndDetection") -> None:
        """Go on from one of fewer steps."""
        self.best[:, : other.best.size(1)] = other.best
        self.found.copy_(other.found)

    def select(self, utterances: Tensor) -> None:
        """Keep these utterances, (B',) int64."""
        self.best, self.found = self.best[utterances], self.found[utterances]

    def _beaten(self, total: Tensor, ended_score: Tensor, left: Tensor) -> Tensor:
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
