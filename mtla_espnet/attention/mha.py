"""Multi-head, grouped-query and multi-query attention: H, G and 1 key/value heads."""

import torch
from torch import Tensor, nn

from mtla_espnet.attention.base import (
    SelfAttention,
    StepLayers,
    head_size,
    require_integer,
)
from mtla_espnet.cache.slot import SlotForm
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
        self.softmax_scale = size**-0.5
        self.num_kv_heads = num_kv_heads
        self.slot = SlotForm(size, num_kv_heads, value_width=size, rotary_width=size)
        self.wq = nn.Linear(embed_dim, embed_dim, bias=bias)
        self.wk = nn.Linear(embed_dim, num_kv_heads * size, bias=bias)
        self.wv = nn.Linear(embed_dim, num_kv_heads * size, bias=bias)
        self.wo = nn.Linear(embed_dim, embed_dim, bias=bias)

    @property
    def layers(self) -> StepLayers:
        """Projections alone."""
        return StepLayers(self.wq, (self.wk, self.wv), self.wo)

    def _key_value(self, key: Tensor, position: Positions) -> tuple[Tensor, Tensor]:
        """(B, T, d) -> turned keys and values, (B, T, G, d / H)."""
        k, v = (layer(key).unflatten(-1, (-1, self.head_dim)) for layer in (self.wk, self.wv))
        return rotate(k, position), v

    def entries(self, key: Tensor, key_position: Positions) -> Tensor:
        """Return [turned keys ; values], (B, T, 2 G d / H), joined only once they are made."""
        return torch.cat([x.flatten(2) for x in self._key_value(key, key_position)], dim=-1)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        query_position: Positions,
        key_position: Positions,
    ) -> Tensor:
        """Attend as any kind, by keys and values that need not lie in slots before."""
        q = self.turned(self.heads(query), query_position)
        return self.attended(q, *self._key_value(key, key_position), query_position, key_position)


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
