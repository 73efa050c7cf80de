"""A decoding step with few operations: what the plain beam search spends its time in.

The same function as `SelfAttention.step` over a `DecodingCache`, by test. Weights of one
input are one product, what depends on positions alone is made once a step for all layers,
the merging weight of temporal latents is one dot product with a table, and what is new is
written in place: a third of the operations. On a CPU, where a step of a small model is
bound by their number, it takes less than half the time.
"""

import torch
from torch import Tensor

from mtla_espnet.attention.base import SelfAttention
from mtla_espnet.attention.mha import GroupedQuery
from mtla_espnet.attention.mla import Latent
from mtla_espnet.attention.mtla import TemporalLatent
from mtla_espnet.attention.step_weights import JointLinear, Norm, merge_table
from mtla_espnet.cache.growing import DecodingCache, LayerCache
from mtla_espnet.position import accurate, rotation

# Tables of positions and chunks are made for so many at first, then doubled.
_FIRST_POSITIONS = 256


class StepTables:
    """What the layers of a step share: rotary angles and chunk numbers of its positions.

    Args:
        attention: of any layer.
    """

    def __init__(self, attention: SelfAttention):
        latent = isinstance(attention, Latent)
        self._width = attention.qk_rope_head_dim if latent else attention.head_dim
        self._rate = attention.cache_spec.down_rate
        weight = attention.wo.weight
        self._dtype, self._device = accurate(weight.new_empty(0)).dtype, weight.device
        self.positions = 0

    def prepare(self, cache: DecodingCache) -> None:
        """Set `angle` and `chunk` to those of the newest positions."""
        furthest = cache.longest + cache.step
        if furthest > self.positions:
            self.positions = max(_FIRST_POSITIONS, 2 * furthest)
            index = torch.arange(self.positions, device=self._device)[None]
            parts = torch.stack(rotation(index, self._width, self._dtype), dim=-1)
            self._angles = torch.view_as_complex(parts)[0]
        self.angle = self._angles.index_select(0, cache.position)[:, None]  # (N, 1, D / 2)
        self.chunk = cache.position // self._rate if self._rate > 1 else cache.position

    @property
    def chunks(self) -> int:
        """How many chunks the positions have."""
        return -(-self.positions // self._rate)


def pack(attention: SelfAttention, tables: StepTables) -> "Step":
    """Return the step of a layer.

    Args:
        attention: of the layer; its parameters stay as they are (some are copied).
        tables: of all layers.
    """
    kind = _LatentStep if isinstance(attention, Latent) else _HeadsStep
    return kind(attention, tables)


class Step:
    """One new position of every hypothesis; see `pack`."""

    def __init__(self, tables: StepTables):
        self._tables = tables

    def __call__(self, x: Tensor, cache: LayerCache) -> Tensor:
        """(N, d) normalised input -> (N, d); the cache is written in place."""
        raise NotImplementedError

    def _turn(self, x: Tensor) -> None:
        """Turn the last axis of (N, heads, D) in place."""
        if x.dtype in (torch.float32, torch.float64):
            # `view`, here as elsewhere: `unflatten` does the same in Python, at 3 us a call
            torch.view_as_complex(x.view(*x.shape[:-1], -1, 2)).mul_(self._tables.angle)
        else:
            pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
            x.copy_(torch.view_as_real(pairs * self._tables.angle).flatten(-2))


class _HeadsStep(Step):
    """Of the kinds with key and value heads; their prefix is kept by heads too."""

    def __init__(self, attention: GroupedQuery, tables: StepTables):
        super().__init__(tables)
        self._project = JointLinear(attention.wq, attention.wk, attention.wv)
        self._output = JointLinear(attention.wo)
        self._scale = attention.head_dim**-0.5
        self._heads, self._groups = attention.num_heads, attention.num_kv_heads
        self._size = attention.head_dim

    def __call__(self, x: Tensor, cache: LayerCache) -> Tensor:
        joint = self._project(x).view(len(x), -1, self._size)  # (N, H + 2 G, h)
        self._turn(joint[:, : -self._groups])
        query, entry = joint[:, : self._heads], joint[:, self._heads :]
        slots, newest = cache.newest()
        slots.index_copy_(0, newest, entry.flatten(1).to(slots.dtype))
        query = query.view(len(x), self._groups, -1, self._size)  # (N, G, R, h)
        shared = _prefix_scores(query, cache, self._scale)
        suffix = cache.suffix.unflatten(-1, (2, self._groups, self._size))
        suffix_key, suffix_value = suffix.permute(2, 0, 3, 1, 4).flatten(1, 2)
        own = torch.baddbmm(
            _spread(cache.suffix_bias, self._groups),
            query.flatten(0, 1),
            suffix_key.transpose(1, 2),
            alpha=self._scale,
        )
        shared, own = _softmax(shared, own.view(*query.shape[:3], -1))
        output = _prefix_output(shared, cache).flatten(0, 1)
        output = torch.baddbmm(output, own.flatten(0, 1), suffix_value)
        return self._output(output.view(len(x), -1))


class _LatentStep(Step):
    """Of the latent kinds; their prefix is kept as latents or materialised."""

    def __init__(self, attention: Latent, tables: StepTables):
        super().__init__(tables)
        first = attention.wq_a if attention.q_lora_rank else attention.wq
        self._project = JointLinear(first, attention.wkv_a)
        self._widen = None
        if attention.q_lora_rank:
            self._widen, self._query_norm = JointLinear(attention.wq_b), Norm(attention.q_norm)
        self._norm = Norm(attention.kv_norm)
        self._output = JointLinear(attention.wo)
        self._heads, self._rank = attention.num_heads, attention.kv_lora_rank
        self._nope = attention.qk_nope_head_dim
        weight = attention.wkv_b.weight.detach().unflatten(0, (self._heads, -1))
        self._key_weight = weight[:, : self._nope].contiguous()  # (H, nope, r)
        self._value_weight = weight[:, self._nope :].transpose(1, 2).contiguous()  # (H, r, v)
        self._scale = attention.softmax_scale
        self._network = attention.hypernet_down if isinstance(attention, TemporalLatent) else None
        self._merges = attention.cache_spec.down_rate > 1
        self._positions = 0

    def __call__(self, x: Tensor, cache: LayerCache) -> Tensor:
        rank = self._rank
        query, joint = self._project.split(x)
        if self._widen is not None:
            query = self._widen(self._query_norm(query))
        query = query.view(len(x), self._heads, -1)
        nope, rope = query[..., : self._nope], query[..., self._nope :]
        self._turn(rope)
        self._turn(joint[:, None, rank:])
        self._write(joint, cache)
        absorbed = torch.bmm(nope.transpose(0, 1), self._key_weight).transpose(0, 1)
        latent_query = torch.cat((absorbed, rope), dim=-1)  # (N, H, r + rope)
        suffix = cache.suffix.to(x.dtype)
        own = torch.baddbmm(
            cache.suffix_bias, latent_query, suffix.transpose(1, 2), alpha=self._scale
        )
        if cache.materialised:
            shared = _prefix_scores(query[:, :, None], cache, self._scale)[:, :, 0]
            shared, own = _softmax(shared, own)
            output = self._values(torch.bmm(own, suffix[..., :rank]))
            output += _prefix_output(shared[:, :, None], cache)[:, :, 0]
            return self._output(output.flatten(1))
        # the hypotheses and heads of an utterance are the rows of one product
        prefix = cache.prefix.to(x.dtype)
        rows = len(prefix), -1
        shared = _product(
            cache.prefix_bias, prefix, latent_query.view(*rows, rank + rope.size(-1)), self._scale
        )
        shared, own = _softmax(shared, own.view(*rows, own.size(-1)))
        latent = torch.bmm(shared, prefix[..., :rank]).view(len(x), -1, rank)
        own = own.view(len(x), self._heads, -1)
        output = self._values(torch.baddbmm(latent, own, suffix[..., :rank]))
        return self._output(output.flatten(1))

    def _values(self, latent: Tensor) -> Tensor:
        """(N, H, r) -> (N, H, v)."""
        return torch.bmm(latent.transpose(0, 1), self._value_weight).transpose(0, 1)

    def _write(self, joint: Tensor, cache: LayerCache) -> None:
        """Cache the newest position, given [latent before its norm ; turned key] (N, width)."""
        rank = self._rank
        slots, newest = cache.newest()
        latent = self._norm(joint[:, :rank])
        if self._network is not None:
            gate, offset = self._gates()
            weight = torch.baddbmm(offset, gate[:, None], accurate(latent)[..., None]).sigmoid_()
            if self._merges:  # a slot is zero before its first member
                partial = accurate(slots.index_select(0, newest)[:, :rank])
                latent = torch.addcmul(partial, accurate(latent), weight[:, 0])
            else:
                latent = accurate(latent) * weight[:, 0]
        entry = torch.cat((latent.to(slots.dtype), joint[:, rank:].to(slots.dtype)), dim=-1)
        slots.index_copy_(0, newest, entry)

    def _gates(self) -> tuple[Tensor, Tensor]:
        """Return (N, r) and (N, 1, 1) of the newest positions' chunks."""
        if self._positions != self._tables.positions:
            self._positions = self._tables.positions
            self._gate, self._offset = merge_table(self._network, self._tables.chunks)
        chunk = self._tables.chunk
        offset = self._offset.index_select(0, chunk)
        return self._gate.index_select(0, chunk), offset[:, None, None]


def _fold(x: Tensor, batch: int) -> Tensor:
    """(N, G, R, ...) -> (B * G, N / B * R, ...): the hypotheses of an utterance as rows."""
    return x.unflatten(0, (batch, -1)).transpose(1, 2).flatten(2, 3).flatten(0, 1)


def _unfold(x: Tensor, groups: int, heads: int) -> Tensor:
    """Undo `_fold`."""
    x = x.unflatten(0, (-1, groups)).unflatten(2, (-1, heads))
    return x.transpose(1, 2).flatten(0, 1)


def _prefix_scores(query: Tensor, cache: LayerCache, scale: float) -> Tensor:
    """Score the prefix, (N, G, R, D) -> (N, G, R, P): one product an utterance and group."""
    groups, heads = query.shape[1:3]
    key, _ = cache.prefix_key_value
    bias = _spread(cache.prefix_bias, groups)
    query = _fold(query, len(key))
    return _unfold(_product(bias, key.flatten(0, 1), query, scale), groups, heads)


def _product(bias: Tensor, key: Tensor, query: Tensor, scale: float) -> Tensor:
    """(X, 1, P), (X, P, D), (X, M, D) -> scores (X, M, P)."""
    # transposed, since MKL takes half the time for it
    product = torch.baddbmm(bias.transpose(1, 2), key, query.transpose(1, 2), alpha=scale)
    return product.transpose(1, 2)


def _spread(bias: Tensor, groups: int) -> Tensor:
    """Repeat the rows of a bias once a key head; one for all rows stays one."""
    return bias.repeat_interleave(groups, dim=0) if groups > 1 and len(bias) > 1 else bias


def _prefix_output(weight: Tensor, cache: LayerCache) -> Tensor:
    """Weigh the prefix's values, (N, G, R, P) -> (N, G, R, Dv)."""
    groups, heads = weight.shape[1:3]
    _, value = cache.prefix_key_value
    return _unfold(torch.bmm(_fold(weight, len(value)), value.flatten(0, 1)), groups, heads)


def _softmax(shared: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """Normalise both parts of the scores as one, along the last axis."""
    scores = accurate(torch.cat((shared, own), dim=-1))
    weight = scores.softmax(dim=-1).to(own.dtype)
    return weight[..., : shared.size(-1)], weight[..., shared.size(-1) :]
