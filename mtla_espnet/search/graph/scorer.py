"""The decoder as a scorer of `beam_search`, with its step as a CUDA graph.

It serves where others score as well: CTC, a language model. The results are those of a
`DecoderScorer`, by test.
"""

import torch
from torch import Tensor

from mtla_espnet.cache.graph import GraphCache
from mtla_espnet.decoder.decoder_only import DecoderOnly
from mtla_espnet.search.graph.buffers import Buffers


class StepBuffers(Buffers):
    """A decoder's step, for batches that fit."""

    def start(self, encoded: Tensor, lengths: Tensor) -> None:
        """Begin with new utterances: (B, T, d) and (B,)."""
        self._decoder.start(encoded, lengths)
        # sizes are noted at each step, which is not to wait for the device
        held = self._decoder.prefix_lengths(lengths).tolist()
        self.cache.known = held, 0

    def step(self) -> Tensor:
        """Add `tokens`, which go on from `cache.parents`; return logits (B, W, V)."""
        self._run(self._step)
        lengths, count = self.cache.known
        self.cache.known = lengths, count + 1
        return self._logits.unflatten(0, self.tokens.shape)

    def _step(self) -> None:
        self._logits = self._decoder.step(self.tokens.flatten())


class GraphScorer:
    """A decoder-only model as a scorer.

    Args:
        decoder: in evaluation mode; its parameters stay as they are (some are copied).
        encoded: (B, T, d) encoder output.
        lengths: (B,) int64.
        beams: hypotheses an utterance, at most.
        temperature: divides the logits.
        buffers: that fit; None: its own.
    """

    def __init__(
        self,
        decoder: DecoderOnly,
        encoded: Tensor,
        lengths: Tensor,
        beams: int,
        temperature: float = 1.0,
        buffers: StepBuffers | None = None,
    ):
        batch = len(lengths)
        self._buffers = buffers or StepBuffers(decoder, batch, encoded.size(1), beams)
        self._buffers.start(encoded, lengths)
        self._temperature = temperature
        self._place = torch.arange(batch, device=encoded.device)  # of what is left, in buffers
        self._width = 1
        self._done = 0

    @property
    def cache(self) -> GraphCache:
        """The decoder's cache."""
        return self._buffers.cache

    def score(self, tokens: Tensor) -> Tensor:
        """Take the newest token of each row, (N,); return (N, V) log probabilities."""
        if self._done == self.cache.max_length:
            self._buffers.grow(2 * self._done)
        self._done += 1
        self._width = len(tokens) // len(self._place)
        self._buffers.tokens[self._place, : self._width] = tokens.view(-1, self._width)
        logits = self._buffers.step()[self._place, : self._width]
        return (logits.flatten(0, 1).float() / self._temperature).log_softmax(dim=-1)

    def reorder(self, parents: Tensor) -> None:
        """Let row n go on from row parents[n], (N',) int64."""
        rows = self.cache.parents.view_as(self._buffers.tokens)
        beams = rows.size(1)
        parent = parents.view(len(self._place), -1) % self._width + self._place[:, None] * beams
        rows[self._place, : parent.size(1)] = parent

    def select(self, utterances: Tensor) -> None:
        """Keep the rows of these utterances, (B',) int64."""
        self._place = self._place[utterances]
