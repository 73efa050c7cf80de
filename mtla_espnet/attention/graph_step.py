"""One decoding step of a layer over a `GraphCache`, for any kind of attention.

The same function as `Step` over a `DecodingCache`, by test; here the prefix is materialised,
and nothing is moved, allocated by need or read by the host.
"""

import torch
from torch import Tensor

from mtla_espnet.attention.base import SelfAttention
from mtla_espnet.attention.ops import choose
from mtla_espnet.attention.step import absorbed
from mtla_espnet.attention.step_weights import JointLinear
from mtla_espnet.cache.graph import GraphCache, Memory, new_memory


def new_cache(
    attention: SelfAttention,
    num_layers: int,
    batch: int,
    beams: int,
    prefix_slots: int,
    max_length: int,
    memory: Memory = new_memory,
) -> GraphCache:
    """Return an empty cache for layers like `attention`.

    Args:
        attention: of any layer.
        num_layers: layers.
        batch: B.
        beams: hypotheses an utterance.
        prefix_slots: finished slots of the longest prefix.
        max_length: tokens.
        memory: gives the buffers of prefix and suffix.
    """
    weight = attention.layers.output.weight
    sizes = num_layers, batch, beams, prefix_slots, max_length
    shapes = attention.key_value_shapes
    return GraphCache(attention.slot, *sizes, shapes, weight.dtype, weight.device, memory)


class GraphStep:
    """The step of one layer.

    Args:
        attention: of the layer; the weights that read the input are copied.
        layer: its number in the cache.
        cache: of all layers.
    """

    def __init__(self, attention: SelfAttention, layer: int, cache: GraphCache):
        self._layer, self._cache = layer, cache
        self._layers, self._scale = attention.layers, attention.softmax_scale
        self._operations = choose.decode_operations(cache.device, attention)
        self._project = JointLinear(self._layers.query, *self._layers.entry)
        self._heads, self._merge_window = attention.num_heads, attention.merge_window
        self.gates = None
        if attention.gates is not None:
            chunks = cache.angles.size(0) // attention.slot.down_rate + 1
            self.gates = attention.gates(torch.arange(chunks, device=cache.device))
        self._absorbed = None if self._layers.up is None else absorbed(attention)

    def __call__(self, x: Tensor) -> Tensor:
        """(N, d) normalised input -> (N, d) output of the attention."""
        operations, layers = self._operations, self._layers
        place = self._cache, self._layer
        joint = self._project(x)
        width = layers.query.out_features
        query, entry = joint[:, :width], joint[:, width:]
        if layers.query_up is not None:
            query = layers.query_up(layers.query_norm(query))
        query = query.unflatten(-1, (self._heads, -1))
        operations.write(entry, query, layers.norm, self.gates, *place)
        if self._merge_window is not None:
            operations.merge(self._merge_window, *place)
        latent = None
        if self._absorbed is not None:
            key_weight, value_weight = self._absorbed
            nope = query[..., : key_weight.size(1)]
            latent = torch.bmm(nope.transpose(0, 1), key_weight)
        output, lse = operations.attend_prefix(query, *place, self._scale)
        latent = operations.attend_suffix(latent, query, output, lse, *place, self._scale)
        if latent is not None:
            output.transpose(0, 1).baddbmm_(latent, value_weight)
        return layers.output(output.flatten(1))
