"""One decoding step of each kind of attention over a `GraphCache`.

The same function as `SelfAttention.step` over a `DecodingCache`, by test; here the
prefix is materialised, and nothing is moved, allocated by need or read by the host.
"""

import torch
from torch import Tensor

from mtla_espnet.attention.base import SelfAttention
from mtla_espnet.attention.mha import GroupedQuery
from mtla_espnet.attention.mla import Latent
from mtla_espnet.attention.mtla import TemporalLatent
from mtla_espnet.attention.ops import choose
from mtla_espnet.attention.step_weights import JointLinear, merge_table
from mtla_espnet.cache.graph import GraphCache


def new_cache(
    attention: SelfAttention,
    num_layers: int,
    batch: int,
    beams: int,
    prefix_slots: int,
    max_length: int,
) -> GraphCache:
    """Return an empty cache for layers like `attention`; see `GraphCache`."""
    latent = isinstance(attention, Latent)
    rotary = attention.qk_rope_head_dim if latent else attention.head_dim
    weight = attention.wo.weight
    return GraphCache(
        attention.cache_spec,
        num_layers,
        batch,
        beams,
        prefix_slots,
        max_length,
        attention.key_value_shapes,
        rotary,
        weight.dtype,
        weight.device,
    )


class GraphStep:
    """The step of one layer.

    Args:
        attention: of the layer.
        layer: its number in the cache.
        cache: of all layers.
    """

    def __init__(self, attention: SelfAttention, layer: int, cache: GraphCache):
        self._attention, self._layer, self._cache = attention, layer, cache
        self._operations = choose.decode_operations(cache.store.device)
        self._merge = None
        if isinstance(attention, TemporalLatent):
            chunks = cache.angles.size(0) // attention.down_rate + 1
            self._merge = merge_table(attention.hypernet_down, chunks)
        if isinstance(attention, Latent):
            first = attention.wq_a if attention.q_lora_rank else attention.wq
            self._project = JointLinear(first, attention.wkv_a)
        else:
            self._project = JointLinear(attention.wq, attention.wk, attention.wv)

    def write_prefix(self, entries: Tensor) -> None:
        """Store the prefix from its `SelfAttention.entries` (B, T, width)."""
        self._cache.write_prefix(self._layer, entries, self._attention.key_value)

    def __call__(self, x: Tensor) -> Tensor:
        """(N, d) normalised input -> (N, d) output of the attention."""
        if isinstance(self._attention, Latent):
            return self._latent(self._attention, x)
        return self._heads(self._attention, x)

    def _latent(self, attention: Latent, x: Tensor) -> Tensor:
        cache, layer, scale = self._cache, self._layer, attention.softmax_scale
        query, joint = self._project.split(x)
        if attention.q_lora_rank:
            query = attention.wq_b(attention.q_norm(query))
        query = query.unflatten(-1, (attention.num_heads, -1))
        self._operations.write_latent(joint, query, attention.kv_norm, self._merge, cache, layer)
        nope = attention.qk_nope_head_dim
        weight = attention.wkv_b.weight.unflatten(0, (attention.num_heads, -1))
        absorbed = torch.bmm(query[..., :nope].transpose(0, 1), weight[:, :nope])
        output, lse = self._operations.attend_prefix(query, cache, layer, scale)
        latent = self._operations.attend_suffix_latent(
            absorbed, query, output, lse, cache, layer, scale
        )
        output.transpose(0, 1).baddbmm_(latent, weight[:, nope:].transpose(1, 2))
        return attention.wo(output.flatten(1))

    def _heads(self, attention: GroupedQuery, x: Tensor) -> Tensor:
        cache, layer, scale = self._cache, self._layer, attention.head_dim**-0.5
        query, key, value = (
            y.unflatten(-1, (-1, attention.head_dim)) for y in self._project.split(x)
        )
        self._operations.write_heads(query, key, value, cache, layer)
        output, lse = self._operations.attend_prefix(query, cache, layer, scale)
        self._operations.attend_suffix_heads(query, output, lse, cache, layer, scale)
        return attention.wo(output.flatten(1))
