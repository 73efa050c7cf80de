"""One pre-norm block: causal self-attention, then a feed-forward network."""

from torch import Tensor, nn

from mtla_espnet.attention.base import SelfAttention
from mtla_espnet.decoder.prefix import Join
from mtla_espnet.position import Positions


class Block(nn.Module):
    """x + Attention(LayerNorm(x)), then x + FeedForward(LayerNorm(x)).

    Args:
        attention: of any kind.
        linear_units: width of the feed-forward network.
        dropout_rate: after each of the two, and inside the feed-forward network.
    """

    def __init__(self, attention: SelfAttention, linear_units: int, dropout_rate: float):
        super().__init__()
        size = attention.embed_dim
        self.attention = attention
        self.attention_norm = nn.LayerNorm(size)
        self.feed_forward_norm = nn.LayerNorm(size)
        self.feed_forward = nn.Sequential(
            nn.Linear(size, linear_units),
            nn.ReLU(),
            nn.Dropout(dropout_rate),
            nn.Linear(linear_units, size),
        )
        self.dropout = nn.Dropout(dropout_rate)

    def forward(self, x: Tensor, position: Positions) -> Tensor:
        """All positions attend to all before them.

        Args:
            x: (B, T, d), unpadded first.
            position: of (B, T), -1 where padded.
        """
        h = self.attention_norm(x)
        return self._rest(x, self.attention(h, h, position, position))

    def forward_text(self, x: Tensor, prefix: Tensor, join: Join) -> Tensor:
        """Only text positions ask; the prefix gives keys as it is, without the norm.

        Args:
            x: (B, L, d) text.
            prefix: (B, P, d).
            join: of the two.
        """
        h = self.attention_norm(x)
        key = join(prefix.to(h.dtype), h)
        return self._rest(x, self.attention(h, key, join.text_position, join.position))

    def write_prefix(
        self, cache, layer: int, prefix: Tensor, position: Positions, norm: bool
    ) -> None:
        """Write what a layer of a cache keeps of the prefix.

        Args:
            cache: `DecodingCache` or `GraphCache`.
            layer: number of this block.
            prefix: (B, P, d).
            position: of (B, P), -1 where padded.
            norm: whether the prefix's keys have this block's norm.
        """
        key = self.attention_norm(prefix) if norm else prefix
        self.attention.write_prefix(cache, layer, key, position)

    def _rest(self, x: Tensor, attended: Tensor) -> Tensor:
        x = x + self.dropout(attended)
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))
