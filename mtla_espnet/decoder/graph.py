"""Decoding steps of the decoder-only stack at fixed shapes, for a CUDA graph."""

import math

import torch
from torch import Tensor

from mtla_espnet.attention.graph_step import GraphStep, new_cache
from mtla_espnet.attention.ops import choose
from mtla_espnet.decoder.decoder_only import DecoderOnly


class GraphDecoder:
    """A decoder with a cache for batches of up to the given sizes.

    Args:
        decoder: in evaluation mode; its parameters stay as they are (some are copied).
        batch: B.
        beams: hypotheses an utterance.
        prefix_slots: finished cache slots of the longest prefix.
        max_length: tokens.
    """

    def __init__(
        self, decoder: DecoderOnly, batch: int, beams: int, prefix_slots: int, max_length: int
    ):
        self._decoder = decoder
        attention = decoder.blocks[0].attention
        self._use(new_cache(attention, len(decoder.blocks), batch, beams, prefix_slots, max_length))

    def _use(self, cache) -> None:
        self.cache = cache
        self._steps = [
            GraphStep(block.attention, layer, cache)
            for layer, block in enumerate(self._decoder.blocks)
        ]
        self._operations = choose.decode_operations(cache.store.device)

    def start(self, encoded: Tensor, lengths: Tensor) -> None:
        """Write the prefixes (B, T, d) of `lengths` (B,), and begin."""
        self.cache.start(lengths)
        for step, entries in zip(
            self._steps, self._decoder.prefix_entries(encoded, lengths), strict=True
        ):
            step.write_prefix(entries)

    def grow(self, max_length: int) -> None:
        """Make room for more tokens; what was captured before is void."""
        self._use(self.cache.grown(max_length))

    def step(self, tokens: Tensor) -> Tensor:
        """Add a token to every hypothesis, which goes on from `cache.parents`.

        Args:
            tokens: (N,) int64.

        Returns:
            Logits (N, vocab_size).
        """
        decoder, cache, operations = self._decoder, self.cache, self._operations
        operations.advance(cache)
        embedding = decoder.embed[0]
        x = embedding(tokens) * math.sqrt(embedding.embedding_dim)
        following = [block.attention_norm for block in decoder.blocks][1:] + [decoder.norm]
        h = decoder.blocks[0].attention_norm(x)
        for block, attend, norm in zip(decoder.blocks, self._steps, following, strict=True):
            h = operations.add_norm(x, attend(h), block.feed_forward_norm)
            wide, _, _, narrow = block.feed_forward
            # ReLU in the product's epilogue
            h = torch._addmm_activation(wide.bias, h, wide.weight.t())
            h = operations.add_norm(x, narrow(h), norm)
        cache.step += 1
        return decoder.output_layer(h)
