"""ESPnet's scorers in our search: language models, n-grams, decoders that are not ours."""

import inspect

import torch
from torch import Tensor


class ESPnetScorer:
    """A `BatchScorerInterface` of ESPnet as a scorer of the beam search.

    It is handed every hypothesis as a whole, and the encoder output once a hypothesis, as
    in ESPnet's own search.

    Args:
        scorer: the language model or decoder.
        encoded: (B, T, d) encoder output; (B, 0, d) for a model of text alone.
        lengths: (B,) int64 of it.
        temperature: divides the scores before they are normalised again.
    """

    def __init__(self, scorer, encoded: Tensor, lengths: Tensor, temperature: float = 1.0):
        self._scorer = scorer
        self._temperature = temperature
        self._encoded = encoded
        self._lengths = lengths.to(encoded.device)
        self._masked = "xs_mask" in inspect.signature(scorer.batch_score).parameters
        self._states = [
            scorer.batch_init_state(x[:length])
            for x, length in zip(encoded, lengths.tolist(), strict=True)
        ]
        self._sequences = torch.zeros(len(lengths), 0, dtype=torch.int64, device=encoded.device)
        self._spread: dict[str, Tensor] = {}

    def score(self, tokens: Tensor) -> Tensor:
        """Take the newest token of each row, (N,); return (N, V) log probabilities."""
        self._sequences = torch.cat((self._sequences, tokens[:, None]), dim=1)
        if not self._spread or len(self._spread["xs"]) != len(tokens):
            self._spread = self._spread_over(len(tokens) // len(self._lengths))
        scores, self._states = self._scorer.batch_score(
            self._sequences, self._states, **self._spread
        )
        scores = scores.float()
        if self._temperature == 1.0:
            return scores
        return (scores / self._temperature).log_softmax(dim=-1)

    def reorder(self, parents: Tensor) -> None:
        """Let row n go on from row parents[n], (N',) int64."""
        self._sequences = self._sequences[parents]
        select = self._scorer.select_state
        self._states = [select(self._states, row) for row in parents.tolist()]

    def select(self, utterances: Tensor) -> None:
        """Keep the rows of these utterances, (B',) int64."""
        width = len(self._sequences) // len(self._lengths)
        rows = utterances[:, None] * width + torch.arange(width, device=utterances.device)
        self.reorder(rows.flatten())
        self._encoded, self._lengths = self._encoded[utterances], self._lengths[utterances]
        self._spread = {}

    def _spread_over(self, width: int) -> dict[str, Tensor]:
        """Return the encoder output and its mask, once a hypothesis."""
        spread = {"xs": self._encoded.repeat_interleave(width, dim=0)}
        if self._masked:
            index = torch.arange(self._encoded.size(1), device=self._encoded.device)
            held = index < self._lengths[:, None]
            spread["xs_mask"] = held.repeat_interleave(width, dim=0)[:, None]  # (N, 1, T)
        return spread


class ESPnetPartialScorer:
    """A `PartialScorerInterface` of ESPnet that scores candidates alone.

    As of ESPnet's `NgramPartScorer`, a state is that of a hypothesis before its newest token:
    it does not depend on which token comes next.

    Args:
        scorer: with `init_state` and `score_partial`.
        encoded: (B, T, d) encoder output; (B, 0, d) for a model of text alone.
        lengths: (B,) int64 of it.
    """

    def __init__(self, scorer, encoded: Tensor, lengths: Tensor):
        self._scorer = scorer
        self._encoded = [x[:n] for x, n in zip(encoded, lengths.tolist(), strict=True)]
        self._states = [scorer.init_state(x) for x in self._encoded]
        self._sequences = torch.zeros(len(lengths), 0, dtype=torch.int64, device=encoded.device)

    def score(self, tokens: Tensor, candidates: Tensor) -> Tensor:
        """Take the newest token (N,) and next ones (N, S); return their (N, S) scores."""
        self._sequences = torch.cat((self._sequences, tokens[:, None]), dim=1)
        width = len(tokens) // len(self._encoded)
        scored = [
            self._scorer.score_partial(y, candidate, state, self._encoded[row // width])
            for row, (y, candidate, state) in enumerate(
                zip(self._sequences, candidates, self._states, strict=True)
            )
        ]
        scores, self._states = map(list, zip(*scored, strict=True))
        return torch.stack(scores).float()

    def reorder(self, parents: Tensor) -> None:
        """Let row n go on from row parents[n], (N',) int64."""
        self._sequences = self._sequences[parents]
        self._states = [self._states[row] for row in parents.tolist()]

    def select(self, utterances: Tensor) -> None:
        """Keep the rows of these utterances, (B',) int64."""
        width = len(self._sequences) // len(self._encoded)
        rows = utterances[:, None] * width + torch.arange(width, device=utterances.device)
        self.reorder(rows.flatten())
        self._encoded = [self._encoded[b] for b in utterances.tolist()]
