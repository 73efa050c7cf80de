"""The beam search of `beam.py` at fixed shapes: on CUDA one graph is replayed a step.

It serves where the decoder alone scores. All state lies on the device, in buffers that are
used again by later batches that fit them, perhaps with idle rows; what a step does depends
on no number of the host. An utterance that is over stays in its rows: nothing of it is chosen
any more. So a batch with a few long utterances is searched in parts of like lengths. The results
are those of `beam_search` with a `DecoderScorer`, by test.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mtla_espnet.cache.graph import GraphCache, Memory, new_memory
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
# Shapes of batches whose buffers and graphs are kept.
_MOST_SHAPES = 16
# So many rows take as long as a step of one row does: launches. An H200, 9 layers of 512/8/2048.
_ROWS_OF_A_LAUNCH = 3000


def parts(limits: Sequence[int], beams: int) -> list[list[int]]:
    """Split a batch where utterances of fewer steps would wait too long for others.

    Steps of part p cost (its most steps) * (launches + its rows). Parts are cut where the steps
    have halved, at those places where the sum is the least.

    Args:
        limits: most tokens of each utterance.
        beams: hypotheses an utterance.

    Returns:
        The numbers of the utterances of each part, those of most steps first.

    Example:
        >>> parts([30, 28, 29], beams=50)
        [[0, 2, 1]]
        >>> [len(part) for part in parts([200] + [30] * 83, beams=50)]
        [1, 83]
    """
    order = sorted(range(len(limits)), key=lambda number: -limits[number])
    places = [0]  # where a part may begin
    for place, number in enumerate(order):
        if 2 * limits[number] <= limits[order[places[-1]]]:
            places.append(place)
    best: dict[int, tuple[float, list[list[int]]]] = {len(order): (0.0, [])}
    for at in reversed(range(len(places))):
        first, found = places[at], []
        for end in (*places[at + 1 :], len(order)):
            cost = limits[order[first]] * (_ROWS_OF_A_LAUNCH + beams * (end - first))
            found.append((cost + best[end][0], [order[first:end], *best[end][1]]))
        best[first] = min(found, key=lambda pair: pair[0])
    return best[0][1]


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
        device = decoder.output_layer.weight.device
        pool = torch.cuda.graph_pool_handle() if device.type == "cuda" else None
        self._kept: list[SearchBuffers] = []  # the newest last
        self._arena = buffers.Arena(self._kept.clear, pool)
        self._reached = buffers.FIRST_LENGTH  # tokens that searches had

    @property
    def cache(self) -> GraphCache | None:
        """The decoder's cache, as the newest search left it: at its fullest."""
        return self._kept[-1].cache if self._kept else None

    def __call__(
        self,
        encoded: Tensor,
        lengths: Tensor,
        note: Callable[[GraphCache], None] = lambda cache: None,
    ) -> list[list[Hypothesis] | None]:
        """Search the best token sequences of several utterances.

        Args:
            encoded: (B, T, d) encoder output.
            lengths: (B,) int64.
            note: called with the cache at its fullest, once a part of the batch.

        Returns:
            For each utterance at most `nbest` hypotheses, best first; it may be empty where
            `minlenratio` left none. None: a score of the utterance was no number (NaN).
        """
        frames = lengths.tolist()
        limits = [self._options.length_limits(n) for n in frames]
        found: list[list[Hypothesis] | None] = [None] * len(frames)
        split = parts([most for _, most in limits], self._options.beam_size)
        for rows in split:
            if len(split) == 1:
                rows = list(range(len(frames)))  # noqa: PLW2901  (as they are)
                inputs = encoded, lengths
            else:
                index = torch.tensor(rows, device=encoded.device)
                longest = max(frames[row] for row in rows)
                inputs = encoded[index, :longest], lengths[index.to(lengths.device)]
            own = [frames[row] for row in rows]
            results = self._search(*inputs, own, torch.tensor([limits[row] for row in rows]))
            note(self.cache)
            for row, hypotheses in zip(rows, results, strict=True):
                found[row] = hypotheses
        return found

    def _search(
        self, encoded: Tensor, lengths: Tensor, frames: Sequence[int], limits: Tensor
    ) -> list[list[Hypothesis] | None]:
        """Search a batch of like lengths: (B, T, d), (B,), the same on the host, (B, 2)."""
        most = int(limits[:, 1].max())
        kept = self._fitting(frames, most)
        kept.start(encoded, lengths, limits)
        done, looks = 0, []
        while done < most:
            if done == kept.length:
                kept.grow(min(most, 2 * done), self._arena)
                self._kept[:] = [*(one for one in self._kept if one is not kept), kept]
                looks.clear()
            kept.step()
            done += 1
            if done % _LOOK_EVERY == 0 and done < most:
                looks.append(kept.look())
                if len(looks) > 1 and not _seen(looks.pop(0)):
                    break
        self._reached = max(self._reached, done)
        return kept.nbest(done)[: len(frames)]

    def _fitting(self, frames: Sequence[int], most: int) -> "SearchBuffers":
        """Return buffers for a batch, the smallest of the kept ones that fit, or new ones."""
        size = len(frames), max(frames)
        fitting = [one for one in self._kept if one.fits(*size, self._options.beam_size)]
        if fitting:
            chosen = min(fitting, key=lambda one: (len(one.tokens), one.positions))
        else:
            del self._kept[: 1 - _MOST_SHAPES]
            chosen = SearchBuffers(
                self._decoder, self._sos_eos, self._options, *size, min(most, self._reached),
                self._blank, self._arena,
            )  # fmt: skip
        if not self._kept or chosen is not self._kept[-1]:
            chosen.cache.clear()
            self._kept[:] = [*(one for one in self._kept if one is not chosen), chosen]
        return chosen


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
        memory: gives the cache's buffers of prefix and suffix.
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
        memory: Memory = new_memory,
    ):
        super().__init__(decoder, batch, positions, options.beam_size, length, memory)
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
        self._run_start = buffers.Replay(self.device, self._pool)
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

    def grow(self, length: int, memory: Memory = new_memory) -> None:
        """Make room for more tokens."""
        old = self.length, self._parent, self._token, self._ended, self._ends
        self.length = length
        self._run_start = buffers.Replay(self.device, self._pool)
        super().grow(length, memory)
        self._make_history()
        for new, kept in zip((self._parent, self._token, self._ended), old[1:4], strict=True):
            new[: old[0]] = kept
        self._ends.take(old[4])

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
