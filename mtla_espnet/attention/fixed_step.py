"""One decoding step of each kind of attention over a `FixedCache`.

The same function as `SelfAttention.step` over a `DecodingCache`, by test; here the
prefix is materialised, and nothing is moved, allocated by need or read by the host.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mtla_espnet.attention import decode_ops
from mtla_espnet.attention.base import SelfAttention
from mtla_espnet.attention.fixed_cache import FixedCache
from mtla_espnet.attention.mha import GroupedQuery
from mtla_espnet.attention.mla import Latent
from mtla_espnet.attention.mtla import TemporalLatent
from mtla_espnet.position import accurate, chunk_encoding


def new_cache(
    attention: SelfAttention,
    num_layers: int,
    batch: int,
    beams: int,
    prefix_slots: int,
    max_length: int,
) -> FixedCache:
    """Return an empty cache for layers like `attention`; see `FixedCache`."""
    if isinstance(attention, Latent):
        heads, rotary = attention.num_heads, attention.qk_rope_head_dim
        key_value = (heads, attention.qk_head_dim), (heads, attention.v_head_dim)
    else:
        rotary = attention.head_dim
        key_value = ((attention.num_kv_heads, rotary),) * 2
    weight = attention.wo.weight
    return FixedCache(
        attention.cache_spec,
        num_layers,
        batch,
        beams,
        prefix_slots,
        max_length,
        key_value,
        rotary,
        weight.dtype,
        weight.device,
    )


class FixedStep:
    """The step of one layer.

    Args:
        attention: of the layer.
        layer: its number in the cache.
        cache: of all layers.
    """

    def __init__(self, attention: SelfAttention, layer: int, cache: FixedCache):
        self._attention, self._layer, self._cache = attention, layer, cache
        self._operations = decode_ops.choose(cache.store.device)
        self._merge = None
        if isinstance(attention, TemporalLatent):
            self._merge = _merge_table(attention, cache.angles.size(0) // attention.down_rate + 1)
        if isinstance(attention, Latent):
            first = attention.wq_a if attention.q_lora_rank else attention.wq
            self._project = _Together(first, attention.wkv_a)
        else:
            self._project = _Together(attention.wq, attention.wk, attention.wv)

    def write_prefix(self, entries: Tensor) -> None:
        """Store the prefix from its `SelfAttention.entries` (B, T, width)."""
        attention = self._attention
        if isinstance(attention, Latent):
            sizes = attention.kv_lora_rank, attention.qk_rope_head_dim

            def materialise(entry):
                return attention.materialise(*entry.split(sizes, dim=-1))
        else:

            def materialise(entry):
                return entry.unflatten(-1, (2, *self._cache.prefix_key.shape[3:])).unbind(2)

        self._cache.write_prefix(self._layer, entries, materialise)

    def __call__(self, x: Tensor) -> Tensor:
        """(N, d) normalised input -> (N, d) output of the attention."""
        if isinstance(self._attention, Latent):
            return self._latent(self._attention, x)
        return self._heads(self._attention, x)

    def _latent(self, attention: Latent, x: Tensor) -> Tensor:
        cache, layer, scale = self._cache, self._layer, attention.softmax_scale
        query, joint = self._project(x)
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
        query, key, value = (x.unflatten(-1, (-1, attention.head_dim)) for x in self._project(x))
        self._operations.write_heads(query, key, value, cache, layer)
        output, lse = self._operations.attend_prefix(query, cache, layer, scale)
        self._operations.attend_suffix_heads(query, output, lse, cache, layer, scale)
        return attention.wo(output.flatten(1))


class _Together:
    """Several linear layers of one input as a single product; copies their weights."""

    def __init__(self, *layers: torch.nn.Linear):
        self._sizes = [layer.out_features for layer in layers]
        self._weight = torch.cat([layer.weight for layer in layers])
        self._bias = None
        if layers[0].bias is not None:
            self._bias = torch.cat([layer.bias for layer in layers])

    def __call__(self, x: Tensor) -> tuple[Tensor, ...]:
        return F.linear(x, self._weight, self._bias).split(self._sizes, dim=-1)


def _merge_table(attention: TemporalLatent, chunks: int) -> tuple[Tensor, Tensor]:
    """Return the hyper-network as a dot product a chunk: vectors (J, r), numbers (J,).

    sigmoid(fc_c(PE(j)) . fc_p(c)) = sigmoid((fc_c(PE(j)) W_p) . c + fc_c(PE(j)) . b_p).
    """
    network = attention.hypernet_down
    chunk = torch.arange(chunks, device=network.fc_c.weight.device)
    code = chunk_encoding(chunk, network.rank).to(network.fc_c.weight.dtype)
    code = accurate(F.linear(code, network.fc_c.weight, network.fc_c.bias))
    return code @ accurate(network.fc_p.weight), code @ accurate(network.fc_p.bias)
