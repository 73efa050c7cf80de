"""The beam search of `beam.py` at fixed shapes: on CUDA one graph is replayed a step.

It serves where the decoder scores, alone or with CTC. All state lies on the device, in buffers
that are used again by later batches of the same shape; what a step does depends on no number of
the host. An utterance that is over stays in its rows: nothing of it is
chosen any more. So a batch with a few long utterances is searched in parts of like lengths. The
results are those of `beam_search` with a `DecoderScorer` and a `CTCPrefixScorer`, by test.
"""

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mtla_espnet.cache.graph import GraphCache
from mtla_espnet.decoder.decoder_only import DecoderOnly
from mtla_espnet.search.graph import buffers
from mtla_espnet.search.graph.joint import JointBuffers
from mtla_espnet.search.graph.state import SearchBuffers
from mtla_espnet.search.history import Hypothesis
from mtla_espnet.search.options import SearchOptions

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
    """Beam search by a decoder-only model, alone or joint with CTC.

    Args:
        decoder: in evaluation mode; its parameters stay as they are (some are copied).
        sos_eos: the token that begins and ends.
        options: of the search; `ctc_weight` is 0, or with CTC above 0 and below 1.
        blank: the token that is never emitted; None: every token may be, without CTC.
        ctc: encoder output (B, T, d) -> log posteriors (B, T, V); None: without CTC.
        ctc_skip: tokens that begin every hypothesis and that CTC was not trained on.
    """

    def __init__(
        self,
        decoder: DecoderOnly,
        sos_eos: int,
        options: SearchOptions,
        blank: int | None = None,
        ctc: Callable[[Tensor], Tensor] | None = None,
        ctc_skip: int = 0,
    ):
        self._options = options
        own = decoder, sos_eos, options
        if ctc is None:
            self._make = functools.partial(SearchBuffers, *own, blank)
        else:
            self._make = functools.partial(JointBuffers, ctc, ctc_skip, *own, blank)
        self._kept: list[SearchBuffers] = []  # the newest last
        self._arena = buffers.Arena(self._kept.clear, decoder.output_layer.weight.device)
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
            encoded: (B, T, d) encoder output; with CTC in float32.
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
            chosen = self._make(*size, min(most, self._reached), self._arena)
        if not self._kept or chosen is not self._kept[-1]:
            chosen.cache.clear()
            self._kept[:] = [*(one for one in self._kept if one is not chosen), chosen]
        return chosen


def _seen(look: tuple[Tensor, "torch.cuda.Event | None"]) -> bool:
    value, event = look
    if event is not None:
        event.synchronize()
    return bool(value)
