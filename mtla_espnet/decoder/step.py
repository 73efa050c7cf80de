"""One new token of every hypothesis: the decoder's blocks, whatever attends and multiplies."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from mtla_espnet.attention.ops.decode import add_norm
from mtla_espnet.attention.step import Step
from mtla_espnet.attention.step_weights import JointLinear, LiveLinear, StepNorm
from mtla_espnet.cache.growing import DecodingCache
from mtla_espnet.position import AngleTable

PREFIX_CACHES = ("auto", "latent", "materialised")
# Finished slots of a prefix from which keys and values are faster than latents, where several
# hypotheses ask. Two layers of 512/8/2048 on one CPU core, 5 hypotheses, mla: 1.13 times as fast
# at 128 slots, 1.17 at 256, 1.89 at 512; up to 64 slots the difference is in the noise, and so
# it is everywhere for one hypothesis.
_MATERIALISED_SLOTS = 128


class BlockSteps:
    """The stack of blocks at one new position.

    Args:
        decoder: a `DecoderOnly`.
        attend: of each block, called with (N, d) and what else `__call__` is given.
        linear: makes a product of linear layers; `JointLinear` or `LiveLinear`.
        norm: makes a norm of a LayerNorm.
        add_norm: as `decode.add_norm`.
    """

    def __init__(self, decoder, attend: list[Callable], linear, norm, add_norm=add_norm):
        self._embedding, self._add_norm = decoder.embed[0], add_norm
        blocks = decoder.blocks
        self._first = norm(blocks[0].attention_norm)
        following = [norm(block.attention_norm) for block in blocks[1:]] + [norm(decoder.norm)]
        self._layers = [
            (
                attending,
                norm(block.feed_forward_norm),
                linear(block.feed_forward[0], relu=True),
                linear(block.feed_forward[3]),
                next_norm,
            )
            for attending, block, next_norm in zip(attend, blocks, following, strict=True)
        ]
        self._output = linear(decoder.output_layer)

    def __call__(self, tokens: Tensor, *caches) -> Tensor:
        """(N,) int64 -> logits (N, vocab_size)."""
        x = self._embedding(tokens).mul_(math.sqrt(self._embedding.embedding_dim))
        h = self._first(x)
        for attend, norm, wide, narrow, next_norm in self._layers:
            h = self._add_norm(x, attend(h, *caches), norm)
            h = self._add_norm(x, narrow(wide(h)), next_norm)
        return self._output(h)


class DecoderStep:
    """A decoder's steps over a `DecodingCache`.

    Args:
        decoder: a `DecoderOnly` in evaluation mode.
        prepared: copy its weights into the form that is fastest for a few rows: they are not to
            change any more. Else they are read at every step.
    """

    def __init__(self, decoder, prepared: bool = True):
        self._decoder = decoder
        linear = JointLinear if prepared else LiveLinear
        attentions = [block.attention for block in decoder.blocks]
        attend = [Step(each, layer, prepared) for layer, each in enumerate(attentions)]
        self._blocks = BlockSteps(decoder, attend, linear, StepNorm)
        weight = decoder.output_layer.weight
        slot = attentions[0].slot
        place = weight.dtype, weight.device
        self._angles = AngleTable(slot.rotary_width, *place, slot.frequencies)

    @torch.no_grad()
    def init_cache(
        self, hs_pad: Tensor, hlens: Tensor, prefix_cache: str = "latent", beams: int = 1
    ) -> DecodingCache:
        """Write the prefix of each utterance once.

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
        lengths = decoder.prefix_lengths(hlens)
        materialised = prefix_cache == "materialised"
        if prefix_cache == "auto" and beams > 1:
            materialised = int(lengths.max()) // decoder.down_rate >= _MATERIALISED_SLOTS
        sizes = len(decoder.blocks), None, materialised
        cache = attention.new_cache(lengths, *sizes, self._angles)
        decoder.write_prefix(cache, hs_pad, hlens)
        return cache

    @torch.no_grad()
    def step(self, tokens: Tensor, cache: DecodingCache) -> Tensor:
        """Add one token to every hypothesis.

        Args:
            tokens: (N,) int64, the newest token of each row of the cache.
            cache: written in place.

        Returns:
            Logits of the next token, (N, vocab_size).
        """
        cache.advance()
        return self._blocks(tokens, cache)
