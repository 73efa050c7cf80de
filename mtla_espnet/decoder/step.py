"""Decoding steps of the decoder-only stack with few operations, over a `DecodingCache`."""

import math

import torch
from torch import Tensor

from mtla_espnet.attention.mla import Latent
from mtla_espnet.attention.step import StepTables, pack
from mtla_espnet.attention.step_weights import JointLinear, Norm
from mtla_espnet.cache.growing import DecodingCache
from mtla_espnet.decoder.decoder_only import DecoderOnly

PREFIX_CACHES = ("auto", "latent", "materialised")
# Finished slots of a prefix from which keys and values are faster than latents, where several
# hypotheses ask. Two layers of 512/8/2048 on one CPU core, 5 hypotheses, mla: 1.13 times as fast
# at 128 slots, 1.17 at 256, 1.89 at 512; up to 64 slots the difference is in the noise, and so
# it is everywhere for one hypothesis.
_MATERIALISED_SLOTS = 128


class PreparedDecoder:
    """A decoder for inference; gives the scores of `DecoderOnly.step`, by test.

    Args:
        decoder: in evaluation mode; its parameters stay as they are (some are copied).
    """

    def __init__(self, decoder: DecoderOnly):
        self._decoder = decoder
        self._tables = StepTables(decoder.blocks[0].attention)
        self._attend = [pack(block.attention, self._tables) for block in decoder.blocks]
        self._wide = [JointLinear(block.feed_forward[0], relu=True) for block in decoder.blocks]
        self._narrow = [JointLinear(block.feed_forward[3]) for block in decoder.blocks]
        self._norms = [
            (Norm(block.attention_norm), Norm(block.feed_forward_norm)) for block in decoder.blocks
        ]
        self._norm, self._output = Norm(decoder.norm), JointLinear(decoder.output_layer)

    @torch.no_grad()
    def init_cache(
        self, hs_pad: Tensor, hlens: Tensor, prefix_cache: str = "latent", beams: int = 1
    ) -> DecodingCache:
        """Write the prefix of each utterance once; see `DecoderOnly.init_cache`.

        Args:
            hs_pad: (B, P, d) encoder output.
            hlens: (B,) its lengths.
            prefix_cache: `materialised` keeps prefixes of latent kinds as keys and values, once
                an utterance; `auto` where it is faster. Kinds with heads always do: keys and
                values are what their slots hold.
            beams: hypotheses that an utterance will have.
        """
        decoder = self._decoder
        attention = decoder.blocks[0].attention
        materialised = prefix_cache == "materialised" or not isinstance(attention, Latent)
        if prefix_cache == "auto" and beams > 1:
            materialised |= int(hlens.max()) // decoder.down_rate >= _MATERIALISED_SLOTS
        cache = attention.new_cache(hlens, len(decoder.blocks), materialised=materialised)
        entries = decoder.prefix_entries(hs_pad, hlens)
        for layer, (block, entry) in enumerate(zip(decoder.blocks, entries, strict=True)):
            cache.write_prefix(layer, entry, block.attention.key_value)
        return cache

    @torch.no_grad()
    def step(self, tokens: Tensor, cache: DecodingCache) -> Tensor:
        """Add one token to every hypothesis; see `DecoderOnly.step`."""
        decoder = self._decoder
        cache.advance()
        self._tables.prepare(cache)
        embedding = decoder.embed[0]
        x = embedding(tokens).mul_(math.sqrt(embedding.embedding_dim))
        layers = zip(self._norms, self._attend, self._wide, self._narrow, strict=True)
        for layer, ((norm, next_norm), attend, wide, narrow) in enumerate(layers):
            x += attend(norm(x), cache.layer(layer))
            x += narrow(wide(next_norm(x)))
        return self._output(self._norm(x))
