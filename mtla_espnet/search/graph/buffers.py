"""A decoder, its cache and its step in buffers of fixed shape, for batches that fit them."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from mtla_espnet.cache.graph import GraphCache, Memory, new_memory
from mtla_espnet.decoder.decoder_only import DecoderOnly
from mtla_espnet.decoder.graph import GraphDecoder

# Buffers are made for so many tokens at first, then doubled.
FIRST_LENGTH = 64
# Prefixes are padded to a multiple of so many positions: the next batch may fit as well.
_POSITIONS_STEP = 32
# A batch takes buffers for up to so many times as many utterances, rather than make its own, and
# of up to so many times as long prefixes.
_MOST_IDLE, _MOST_LONGER = 4 / 3, 2.0


class Arena:
    """Large buffers of several shapes in one place: one shape is in use at a time.

    Where a buffer must become larger, all shapes that lie in it are void: `on_growth` forgets
    them, so that the old one is freed before the new one is made.

    Args:
        on_growth: called before a buffer is made anew.
        pool: of CUDA graphs' memory that shapes share, too; None: there is none.
    """

    def __init__(self, on_growth: Callable[[], None], pool=None):
        self._on_growth, self.pool = on_growth, pool
        self._blocks: dict[str, Tensor] = {}

    def __call__(
        self, name: str, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
    ) -> Tensor:
        """Return a buffer, which others of that name share. It holds what they left there."""
        size, block = math.prod(shape), self._blocks.pop(name, None)
        if block is None or len(block) < size or block.dtype != dtype:
            if block is not None:
                self._on_growth()
                del block
            block = torch.zeros(size, dtype=dtype, device=device)
        self._blocks[name] = block
        return block[:size].view(shape)


class Replay:
    """Runs a function of buffers alone; on CUDA it is captured at its second call.

    The first one compiles, tunes and fills caches, which a graph cannot hold. The
    function is handed in at each call and not kept: a method would tie its object, with
    gigabytes of buffers, into a cycle that only a garbage collection frees.

    Args:
        device: that the function runs on.
        pool: of CUDA graphs' memory, for graphs that never run at the same time and leave
            nothing in it; None: its own.
    """

    def __init__(self, device: torch.device, pool=None):
        self._cuda, self._pool = device.type == "cuda", pool
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
            with torch.cuda.graph(graph, pool=self._pool):
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
        memory: gives the cache's buffers of prefix and suffix, as `Arena`.

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
        memory: Memory = new_memory,
    ):
        self.positions = -(-positions // _POSITIONS_STEP) * _POSITIONS_STEP
        slots = decoder.prefix_slots(self.positions)
        self._decoder = GraphDecoder(decoder, batch, beams, slots, length, memory)
        self.device = decoder.output_layer.weight.device
        self.tokens = torch.zeros(batch, beams, dtype=torch.int64, device=self.device)
        self._pool = getattr(memory, "pool", None)
        self._run = Replay(self.device, self._pool)

    @property
    def cache(self) -> GraphCache:
        """The decoder's cache."""
        return self._decoder.cache

    def fits(self, utterances: int, positions: int, beams: int) -> bool:
        """Return whether they are to serve a batch of this size."""
        batch, most_beams = self.tokens.shape
        few_idle = utterances <= batch <= _MOST_IDLE * utterances
        room = max(_MOST_LONGER * positions, _POSITIONS_STEP)
        return few_idle and positions <= self.positions <= room and beams == most_beams

    def grow(self, length: int, memory: Memory = new_memory) -> None:
        """Make room for more tokens."""
        self._run = Replay(self.device, self._pool)  # the old graph's memory is freed first
        self._decoder.grow(length, memory)
