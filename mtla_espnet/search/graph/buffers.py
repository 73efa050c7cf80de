"""A decoder, its cache and its step in buffers of fixed shape, for batches that fit them."""

import contextlib
import math
from collections.abc import Callable

import torch
from torch import Tensor

from mtla_espnet.cache.graph import GraphCache, Memory, new_memory
from mtla_espnet.decoder.decoder_only import DecoderOnly
from mtla_espnet.decoder.graph import GraphDecoder
from mtla_espnet.position import next_size

# Buffers are made for so many tokens at first, then doubled.
FIRST_LENGTH = 64
# Prefixes are padded to one of few lengths, multiples of so many positions.
_POSITIONS_STEP = 32


class GraphPool:
    """Where CUDA graphs that never run at the same time keep what they compute in between.

    Nothing that is read after a graph has run may lie there, unless something refers to it.

    Args:
        device: of the graphs.
    """

    def __init__(self, device: torch.device):
        self._stream = torch.cuda.Stream(device)
        self._anchor: torch.cuda.CUDAGraph | None = None
        torch.zeros(1, device=device)  # loads its kernel, which a capture is not to do
        # a pool lasts as long as a graph of it, and other graphs come and go
        self._anchor = self.capture(lambda: torch.zeros(1, device=device))

    def capture(self, function: Callable[[], object]) -> torch.cuda.CUDAGraph:
        """Return a function's operations as a graph.

        `torch.cuda.graph` gives back all cached memory before, to be asked for again after:
        tens of milliseconds.
        """
        graph = torch.cuda.CUDAGraph()
        current = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            pool = {} if self._anchor is None else {"pool": self._anchor.pool()}
            graph.capture_begin(**pool, capture_error_mode="thread_local")
            try:
                function()
            except BaseException:
                with contextlib.suppress(RuntimeError):  # of the capture, which is over
                    graph.capture_end()
                raise
            graph.capture_end()
        current.wait_stream(self._stream)
        return graph


class Arena:
    """Large buffers of several shapes in one place: one shape is in use at a time.

    Where a buffer must become larger, all shapes that lie in it are void: `on_growth` forgets
    them, so that the old one is freed before the new one is made.

    Args:
        on_growth: called before a buffer is made anew.
        device: where the buffers live.

    Attributes:
        pool: of the shapes' graphs; None where there are none.
    """

    def __init__(self, on_growth: Callable[[], None], device: torch.device):
        self._on_growth = on_growth
        self.pool = graph_pool(device)
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


def graph_pool(device: torch.device) -> GraphPool | None:
    """Return a new pool for the graphs of a device; None where it has no graphs."""
    return GraphPool(device) if device.type == "cuda" else None


class Replay:
    """Runs a function of buffers alone; on CUDA it is captured at its second call.

    The first one compiles, tunes and fills caches, which a graph cannot hold. The
    function is handed in at each call and not kept: a method would tie its object, with
    gigabytes of buffers, into a cycle that only a garbage collection frees.

    Args:
        pool: of the graph; None: the function is run as it is, every time.
    """

    def __init__(self, pool: GraphPool | None):
        self._pool = pool
        self._warm = False
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, function: Callable[[], None]) -> None:
        """Run the function, which is the same one at each call."""
        if self._pool is None or not self._warm:
            function()
            self._warm = True
            return
        if self._graph is None:
            self._graph = self._pool.capture(function)
        self._graph.replay()


def padded(positions: int) -> int:
    """Return the length that prefixes are padded to: few lengths, so that batches share graphs.

    It depends on nothing but the batch, nor does anything else of the shapes that kernels see.
    So a batch is rounded alike wherever and after whatever it is decoded.

    Example:
        >>> [padded(positions) for positions in (1, 149, 600, 15000)]
        [32, 160, 640, 16384]
    """
    return next_size(-(-positions // _POSITIONS_STEP), 4) * _POSITIONS_STEP


class Buffers:
    """A decoder's step for batches of one shape.

    Args:
        decoder: in evaluation mode; its parameters stay as they are (some are copied).
        batch: B, utterances.
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
        self.positions = padded(positions)
        slots = decoder.prefix_slots(self.positions)
        self._decoder = GraphDecoder(decoder, batch, beams, slots, length, memory)
        self.device = decoder.output_layer.weight.device
        self.tokens = torch.zeros(batch, beams, dtype=torch.int64, device=self.device)
        self._pool = memory.pool if isinstance(memory, Arena) else graph_pool(self.device)
        self._run = Replay(self._pool)

    @property
    def cache(self) -> GraphCache:
        """The decoder's cache."""
        return self._decoder.cache

    def fits(self, utterances: int, positions: int, beams: int) -> bool:
        """Return whether they are to serve a batch of this size."""
        shape = *self.tokens.shape, self.positions
        return shape == (utterances, beams, padded(positions))

    def grow(self, length: int, memory: Memory = new_memory) -> None:
        """Make room for more tokens."""
        self._run = Replay(self._pool)  # the old graph's memory is freed first
        self._decoder.grow(length, memory)
