"""The beam search of `beam.py` at fixed shapes: on CUDA one graph is replayed a step.

It serves where the decoder alone scores. All state lies on the device, in buffers that are
used again by the next batch that fits them, perhaps with idle rows; what a step does depends
on no number of the host. An utterance that is over stays in its rows: nothing of it is chosen
any more. The results are those of `beam_search` with a `DecoderScorer`, by test.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mtla_espnet.cache.graph import GraphCache
from mtla_espnet.decoder.decoder_only import DecoderOnly
from mtla_espnet.search.ends import EndDetection
from mtla_espnet.search.graph import buffers
from mtla_espnet.search.graph.advance import advance
from mtla_espnet.search.graph.select import best_tokens
from mtla_espnet.search.history import Hypothesis, nbest
from mtla_espnet.search.options import SearchOptions

_NOTHING = float("-inf")
# After so many steps the host looks whether everything has ended, one look behind.
_LOOK_EVERY = 4


class GraphSearch:
    """Beam search by a decoder-only model alone.

    Args:
        decoder: in evaluation mode; its parameters stay as they are (some are copied).
        sos_eos: the token that begins and ends.
        options: of the search; `ctc_weight` is 0.
        blank: the token that is never emitted; None: every token may be.
    """

    def __init__(
        self,
        decoder: DecoderOnly,
        sos_eos: int,
        options: SearchOptions,
        blank: int | None = None,
    ):
        self._decoder, self._sos_eos, self._options = decoder, sos_eos, options
        self._blank = blank
        self._buffers: SearchBuffers | None = None

    @property
    def cache(self) -> GraphCache | None:
        """The decoder's cache, as the newest search left it: at its fullest."""
        return self._buffers and self._buffers.cache

    def __call__(self, encoded: Tensor, lengths: Tensor) -> list[list[Hypothesis] | None]:
        """Search the best token sequences of several utterances.

        Args:
            encoded: (B, T, d) encoder output.
            lengths: (B,) int64.

        Returns:
            For each utterance at most `nbest` hypotheses, best first; it may be empty where
            `minlenratio` left none. None: a score of the utterance was no number (NaN).
        """
        frames = lengths.tolist()
        limits = torch.tensor([self._options.length_limits(n) for n in frames])
        most = int(limits[:, 1].max())
        kept = self._fitting(frames, most)
        kept.start(encoded, lengths, limits)
        done, looks = 0, []
        while done < most:
            if done == kept.length:
                kept.grow(min(most, 2 * done))
                looks.clear()
            kept.step()
            done += 1
            if done % _LOOK_EVERY == 0 and done < most:
                looks.append(kept.look())
                if len(looks) > 1 and not _seen(looks.pop(0)):
                    break
        return kept.nbest(done)[: len(frames)]

    def _fitting(self, frames: Sequence[int], most: int) -> "SearchBuffers":
        """Return buffers for a batch; those of the last one where they fit."""
        size = len(frames), max(frames)
        if self._buffers is None or not self._buffers.fits(*size, self._options.beam_size):
            self._buffers = None  # freed before the next are made
            length = min(most, buffers.FIRST_LENGTH)
            self._buffers = SearchBuffers(
                self._decoder, self._sos_eos, self._options, *size, length, self._blank
            )
        return self._buffers


def _seen(look: tuple[Tensor, "torch.cuda.Event | None"]) -> bool:
    value, event = look
    if event is not None:
        event.synchronize()
    return bool(value)


class SearchBuffers(buffers.Buffers):
    """The state of a search, and one step of it.

    Args:
        decoder: in evaluation mode; its parameters stay as they are (some are copied).
        sos_eos: the token that begins and ends.
        options: of the search.
        batch: B, the most utterances.
        positions: of the longest prefix.
        length: tokens that there is room for.
        blank: the token that is never emitted; None: every token may be.
    """

    def __init__(
        self,
        decoder: DecoderOnly,
        sos_eos: int,
        options: SearchOptions,
        batch: int,
        positions: int,
        length: int,
        blank: int | None = None,
    ):
        super().__init__(decoder, batch, positions, options.beam_size, length)
        self._sos_eos, self._options, self._blank = sos_eos, options, blank
        self.length = length
        weight = decoder.output_layer.weight
        self._encoded = weight.new_zeros(batch, self.positions, weight.size(1))
        whole = {"dtype": torch.int64, "device": self.device}
        scores = {"dtype": torch.float64, "device": self.device}
        self._lengths = torch.zeros(batch, **whole)
        self._limits = torch.zeros(batch, 2, **whole)
        self._index = torch.zeros(1, **whole)
        self._total = torch.zeros(self.tokens.shape, **scores)
        self._begin = torch.zeros(batch, **scores)
        self._run_start = buffers.Replay(self.device)
        self._make_history()

    def _make_history(self) -> None:
        shape = (self.length, *self.tokens.shape)
        self._parent = self.tokens.new_zeros(shape)
        self._token = self.tokens.new_zeros(shape)
        self._ended = self._total.new_zeros(shape)
        batch = len(self.tokens)
        self._ends = EndDetection(batch, self.length, self._sos_eos, self._options, self.device)

    def start(self, encoded: Tensor, lengths: Tensor, limits: Tensor) -> None:
        """Begin with new utterances, B of them or fewer: (B, T, d), (B,) and (B, 2)."""
        count = len(lengths)
        self._encoded[:count, : encoded.size(1)] = encoded
        self._lengths.fill_(1)  # of idle rows, which hold something old
        self._lengths[:count] = lengths
        self._limits[:count] = limits.to(self.device)
        self._begin.fill_(_NOTHING)
        self._begin[:count] = 0.0
        self.cache.utterances = count
        self._run_start(self._start)

    def _start(self) -> None:
        self._decoder.start(self._encoded, self._lengths)
        self.tokens.fill_(self._sos_eos)
        self._total.fill_(_NOTHING)
        self._total[:, 0] = self._begin  # all begin alike: one is enough
        self._index.zero_()
        self._ends.clear()

    def grow(self, length: int) -> None:
        """Make room for more tokens."""
        old = self.length, self._parent, self._token, self._ended, self._ends
        self.length = length
        super().grow(length)
        self._make_history()
        for new, kept in zip((self._parent, self._token, self._ended), old[1:4], strict=True):
            new[: old[0]] = kept
        self._ends.take(old[4])
        self._run_start = buffers.Replay(self.device)

    def step(self) -> None:
        """Add a token to every hypothesis."""
        self._run(self._step)

    def _step(self) -> None:
        options = self._options
        logits = self._decoder.step(self.tokens.flatten())
        chosen, parent, token = best_tokens(
            logits, self._total, options.temperature, options.penalty, self._blank
        )
        advance(
            self._ends, chosen, parent, token, self._limits, self._index, self._total,
            self.tokens, self.cache.parents, (self._parent, self._token, self._ended),
        )  # fmt: skip

    def look(self) -> tuple[Tensor, "torch.cuda.Event | None"]:
        """Ask whether any hypothesis goes on, without waiting for the answer."""
        going = (self._total > _NOTHING).any()
        if self.device.type != "cuda":
            return going, None
        answer = torch.empty((), dtype=torch.bool, pin_memory=True)
        answer.copy_(going, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        return answer, event

    def nbest(self, steps: int) -> list[list[Hypothesis] | None]:
        """Return the best hypotheses of the steps so far; None: a score is NaN."""
        options = self._options
        self._ended[steps - 1].masked_fill_(self._total.isnan(), float("nan"))  # and never ends
        parent, token, ended = (x[:steps] for x in (self._parent, self._token, self._ended))
        count = torch.arange(1, steps + 1, device=self.device)[:, None, None]
        return nbest(
            parent, token, ended, {"decoder": ended - options.penalty * count},
            self._sos_eos, options.nbest, options.normalize_length,
        )  # fmt: skip
