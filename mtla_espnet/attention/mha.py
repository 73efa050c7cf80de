"""Multi-head, grouped-query and multi-query attention: H, G and 1 key/value heads."""

import torch
from torch import Tensor, nn

from mtla_espnet.attention.base import SelfAttention, head_size, require_integer
from mtla_espnet.attention.ops import sdpa
from mtla_espnet.cache.growing import LayerCache
from mtla_espnet.cache.spec import CacheSpec
from mtla_espnet.position import Positions, rotate


class GroupedQuery(SelfAttention):
    """Attention with G key/value heads, each shared by H / G query heads.

    Rotary position embedding on queries and keys. The cache keeps the turned keys
    and the values: 2 * G * d / H numbers a position.
    Source: Ainslie et al., arXiv 2305.13245.

    Args:
        embed_dim: d.
        num_heads: H, divides d; d / H is even.
        dropout: of the attention weights.
        bias: of the projections.
        num_kv_heads: G, divides H.

    Raises:
        ValueError: sizes that do not divide.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        *,
        bias: bool = True,
        num_kv_heads: int = 2,
    ):
        super().__init__(embed_dim, num_heads, dropout)
        size = head_size(embed_dim, num_heads)
        if size % 2:
            raise ValueError(
                f"attention_heads: the head size {size} = {embed_dim} / {num_heads} is odd, "
                "but rotary positions turn pairs"
            )
        if num_heads % require_integer("num_kv_heads", num_kv_heads):
            raise ValueError(
                f"num_kv_heads: {num_kv_heads} does not divide the {num_heads} attention heads"
            )
        self.head_dim = size
        self.num_kv_heads = num_kv_heads
        self.wq = nn.Linear(embed_dim, embed_dim, bias=bias)
        self.wk = nn.Linear(embed_dim, num_kv_heads * size, bias=bias)
        self.wv = nn.Linear(embed_dim, num_kv_heads * size, bias=bias)
        self.wo = nn.Linear(embed_dim, embed_dim, bias=bias)

    @property
    def cache_spec(self) -> CacheSpec:
        """Keys and values of G heads."""
        return CacheSpec(2 * self.num_kv_heads * self.head_dim)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.head_dim))

    def _key_value(self, key: Tensor, rotary: Positions | Tensor) -> tuple[Tensor, Tensor]:
        """Return turned keys and values, (B, T, G, h) each."""
        return rotate(self._heads(self.wk(key)), rotary), self._heads(self.wv(key))

    def entries(self, key: Tensor, key_position: Positions) -> Tensor:
        """Return [turned keys ; values], (B, T, 2 * G * h)."""
        k, v = self._key_value(key, key_position)
        return _pack(k, v)

    @property
    def key_value_shapes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """See `SelfAttention`."""
        return ((self.num_kv_heads, self.head_dim),) * 2

    def key_value(self, entries: Tensor) -> tuple[Tensor, Tensor]:
        """See `SelfAttention`."""
        return entries.unflatten(-1, (2, self.num_kv_heads, self.head_dim)).unbind(-3)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        query_position: Positions,
        key_position: Positions,
    ) -> Tensor:
        """See `SelfAttention.forward`."""
        q = rotate(self._heads(self.wq(query)), query_position)
        k, v = self._key_value(key, key_position)
        output = sdpa.attend(
            q.transpose(1, 2),
            k.transpose(1, 2),
            v.transpose(1, 2),
            query_position,
            key_position,
            scale=self.head_dim**-0.5,
            dropout=self.dropout if self.training else 0.0,
        )
        return self.wo(output.transpose(1, 2).flatten(2))

    def step(self, query: Tensor, cache: LayerCache, rotary: Tensor | None = None) -> Tensor:
        """See `SelfAttention.step`; the beams share one matrix product a key head."""
        rotary = cache.position[:, None] if rotary is None else rotary
        k, v = self._key_value(query, rotary)
        cache.write(_pack(k, v)[:, 0])
        q = rotate(self._heads(self.wq(query)), rotary)
        # (N, H, h) -> (N, G, H / G, h)
        q = q[:, 0].unflatten(1, (self.num_kv_heads, -1))
        output = sdpa.attend_cached(
            q,
            (*self._unpack(cache.prefix), cache.prefix_mask),
            (*self._unpack(cache.suffix), cache.suffix_mask),
            scale=self.head_dim**-0.5,
        )
        return self.wo(output.flatten(1))[:, None]

    def _unpack(self, entry: Tensor) -> tuple[Tensor, Tensor]:
        """Split cache entries (rows, slots, 2 G h) into two (rows, G, slots, h)."""
        return entry.unflatten(-1, (2, self.num_kv_heads, self.head_dim)).permute(2, 0, 3, 1, 4)


def _pack(key: Tensor, value: Tensor) -> Tensor:
    return torch.cat((key.flatten(2), value.flatten(2)), dim=-1)


class MultiHead(GroupedQuery):
    """Multi-head attention: as many key/value heads as query heads.

    Args:
        embed_dim: d.
        num_heads: H, divides d; d / H is even.
        dropout: of the attention weights.
        bias: of the projections.
    """

    def __init__(self, embed_dim: int, num_heads: int, dropout: float = 0.0, *, bias: bool = True):
        super().__init__(embed_dim, num_heads, dropout, bias=bias, num_kv_heads=num_heads)


class MultiQuery(GroupedQuery):
    """Multi-query attention: one key/value head. Source: Shazeer, arXiv 1911.02150.

    Args:
        embed_dim: d.
        num_heads: H, divides d; d / H is even.
        dropout: of the attention weights.
        bias: of the projections.
    """

    def __init__(self, embed_dim: int, num_heads: int, dropout: float = 0.0, *, bias: bool = True):
        super().__init__(embed_dim, num_heads, dropout, bias=bias, num_kv_heads=1)
