"""A decoder, its cache and its step in buffers of fixed shape, for batches that fit them."""

from collections.abc import Callable

import torch

from mtla_espnet.cache.graph import GraphCache
from mtla_espnet.decoder.decoder_only import DecoderOnly
from mtla_espnet.decoder.graph import GraphDecoder

# Buffers are made for so many tokens at first, then doubled.
FIRST_LENGTH = 64
# Prefixes are padded to a multiple of so many positions: the next batch may fit as well.
_POSITIONS_STEP = 32
# A batch takes buffers for up to so many times as many utterances, rather than make its own.
_MOST_IDLE = 4 / 3


class Replay:
    """Runs a function of buffers alone; on CUDA it is captured at its second call.

    The first one compiles, tunes and fills caches, which a graph cannot hold. The
    function is handed in at each call and not kept: a method would tie its object, with
    gigabytes of buffers, into a cycle that only a garbage collection frees.
    """

    def __init__(self, device: torch.device):
        self._cuda = device.type == "cuda"
        self._warm = False
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, function: Callable[[], None]) -> None:
        """Run the function, which is the same one at each call."""
        if not self._cuda or not self._warm:
            function()
            self._warm = True
            return
        if self._graph is None:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                function()
            self._graph = graph
        self._graph.replay()


class Buffers:
    """A decoder's step for batches that fit.

    Args:
        decoder: in evaluation mode; its parameters stay as they are (some are copied).
        batch: B, the most utterances.
        positions: of the longest prefix.
        beams: W, hypotheses an utterance, at most.
        length: tokens that there is room for at first.

    Attributes:
        positions: of the longest prefix that fits.
        tokens: (B, W) int64, the newest token of each hypothesis.
    """

    def __init__(
        self,
        decoder: DecoderOnly,
        batch: int,
        positions: int,
        beams: int,
        length: int = FIRST_LENGTH,
    ):
        self.positions = -(-positions // _POSITIONS_STEP) * _POSITIONS_STEP
        slots = decoder.prefix_slots(self.positions)
        self._decoder = GraphDecoder(decoder, batch, beams, slots, length)
        self.device = decoder.output_layer.weight.device
        self.tokens = torch.zeros(batch, beams, dtype=torch.int64, device=self.device)
        self._run = Replay(self.device)

    @property
    def cache(self) -> GraphCache:
        """The decoder's cache."""
        return self._decoder.cache

    def fits(self, utterances: int, positions: int, beams: int) -> bool:
        """Return whether they are to serve a batch of this size."""
        batch, most_beams = self.tokens.shape
        few_idle = utterances <= batch <= _MOST_IDLE * utterances
        return few_idle and positions <= self.positions and beams == most_beams

    def grow(self, length: int) -> None:
        """Make room for more tokens."""
        self._decoder.grow(length)
        self._run = Replay(self.device)
