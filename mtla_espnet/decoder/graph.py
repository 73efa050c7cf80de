"""Decoding steps of the decoder-only stack at fixed shapes, for a CUDA graph."""

import torch
from torch import Tensor

from mtla_espnet.attention.graph_step import GraphStep, new_cache
from mtla_espnet.attention.ops import choose
from mtla_espnet.attention.step_weights import LiveLinear
from mtla_espnet.cache.graph import Memory, new_memory
from mtla_espnet.decoder.decoder_only import DecoderOnly
from mtla_espnet.decoder.step import BlockSteps


def why_no_graph(decoder, device: torch.device) -> str:
    """Return why steps at fixed shapes do not serve a decoder; empty if they do."""
    if not isinstance(decoder, DecoderOnly):
        return f"{type(decoder).__name__} is not decoder-only"
    return choose.why_no_kernels(device, decoder.output_layer.weight.dtype)


class GraphDecoder:
    """A decoder with a cache for batches of up to the given sizes.

    Args:
        decoder: in evaluation mode; its parameters stay as they are (some are copied).
        batch: B.
        beams: hypotheses an utterance.
        prefix_slots: finished cache slots of the longest prefix.
        max_length: tokens.
        memory: gives the cache's buffers of prefix and suffix.
    """

    def __init__(
        self,
        decoder: DecoderOnly,
        batch: int,
        beams: int,
        prefix_slots: int,
        max_length: int,
        memory: Memory = new_memory,
    ):
        self._decoder = decoder
        sizes = len(decoder.blocks), batch, beams, prefix_slots, max_length
        self.cache = new_cache(decoder.blocks[0].attention, *sizes, memory)
        self._operations = choose.decode_operations(self.cache.device, decoder.blocks[0].attention)
        self._make_steps()

    def _make_steps(self) -> None:
        attentions = [block.attention for block in self._decoder.blocks]
        steps = [GraphStep(each, layer, self.cache) for layer, each in enumerate(attentions)]
        self._blocks = BlockSteps(
            self._decoder, steps, LiveLinear, lambda norm: norm, self._operations.add_norm
        )

    def prefix_lengths(self, lengths: Tensor) -> Tensor:
        """Return the prefix positions (B,) of encoder outputs of `lengths` (B,) frames."""
        return self._decoder.prefix_lengths(lengths)

    def start(self, encoded: Tensor, lengths: Tensor) -> None:
        """Write the prefixes (B, T, d) of `lengths` (B,), and begin."""
        self.cache.start(self.prefix_lengths(lengths))
        self._decoder.write_prefix(self.cache, encoded, lengths)

    def grow(self, max_length: int, memory: Memory = new_memory) -> None:
        """Make room for more tokens; what was captured before is void."""
        self.cache.grow(max_length, memory)
        self._make_steps()

    def step(self, tokens: Tensor) -> Tensor:
        """Add a token to every hypothesis, which goes on from `cache.parents`.

        Args:
            tokens: (N,) int64.

        Returns:
            Logits (N, vocab_size).
        """
        self._operations.advance(self.cache)
        logits = self._blocks(tokens)
        self.cache.step += 1
        return logits
