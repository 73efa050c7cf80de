"""Temporal latent attention whose windows are merged by a softmax over each channel.

B utterances, T positions, H heads, d model size, r rank of the latent, s `down_rate`, nope and rope
widths of a head without and with position. Latent c_t and rotary key k_t are those of MLA.

    z_t = W c_t + b_(t mod s)                                                 (r,), learned W and b
    C_j = LayerNorm(sum_m softmax_m(z_(js+m)) * c_(js+m)),  m = 0 ... s - 1   channel by channel
    slot j = [C_j ; k_(js+s-1)]              once window j = {js, ..., js + s - 1} is full
    query t sees the slots j < t // s, and [c_m ; k_m] of m = (t // s) s, ..., t, one by one

A query never sees an unfinished window merged, and its own window stays exact; the cache holds
T // s slots and the up to s - 1 positions of the unfinished window. Since z is made of the latent,
the raw positions are all that merging needs: one position at a time equals all positions at once.

Taken over from DeepSeek-V4's compressed attention (its report, equations 20 to 23): one gate a
channel, normalised over the window, a learned bias for each place in it, a norm of the sum, and raw
recent positions beside merged ones. Not taken over: z from the input (here from the latent), the
rotary key of the first position (here of the last, as in MTLA), a raw window that reaches behind
the own one, an attention sink. MTLA instead adds up latents with one number between 0 and 1 each,
and shows a query the sum so far.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from mtla_espnet.attention.base import SelfAttention, require_integer
from mtla_espnet.attention.mla import Latent
from mtla_espnet.attention.ops import sdpa
from mtla_espnet.cache.slot import finished_slots
from mtla_espnet.position import Positions, accurate


class SoftmaxMergedLatent(Latent):
    """MLA whose latents are merged over windows of `down_rate` positions by a softmax.

    Over all positions at once its scores have a dense mask: T x (T + T / s) numbers a head.

    Args:
        embed_dim: d.
        num_heads: H.
        dropout: of the attention weights.
        down_rate: s, positions merged into one slot.
        latent: the options of `Latent`.

    Raises:
        ValueError: as `Latent`, or `down_rate` < 1.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        *,
        down_rate: int = 2,
        **latent,
    ):
        super().__init__(embed_dim, num_heads, dropout, **latent)
        self.down_rate = require_integer("down_rate", down_rate)
        self.slot = replace(self.slot, down_rate=down_rate, window=True)
        self.merge_gate = nn.Linear(self.kv_lora_rank, self.kv_lora_rank, bias=False)
        self.merge_bias = nn.Parameter(torch.zeros(down_rate, self.kv_lora_rank))
        self.merge_norm = nn.LayerNorm(self.kv_lora_rank)

    def merge_window(self, window: Tensor) -> Tensor:
        """Merge full windows (..., s, r + rope) to slots (..., r + rope)."""
        latent, rope = window.split((self.kv_lora_rank, self.qk_rope_head_dim), dim=-1)
        score = self.merge_gate(latent.to(self.merge_bias.dtype)) + self.merge_bias
        merged = (accurate(score).softmax(dim=-2) * accurate(latent)).sum(dim=-2)
        merged = self.merge_norm(merged.to(self.merge_bias.dtype)).to(window.dtype)
        return torch.cat((merged, rope[..., -1, :]), dim=-1)

    def entries(self, key: Tensor, key_position: Positions) -> Tensor:
        """Return [latent ; rotary key] of each position alone, (B, T, r + rope)."""
        return SelfAttention.entries(self, key, key_position)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        query_position: Positions,
        key_position: Positions,
    ) -> Tensor:
        """Attend from each query to the finished windows before its own, and into its own.

        Args:
            query: (B, L, d).
            key: (B, T, d), each row's unpadded positions first.
            query_position: of (B, L), as of `SelfAttention.forward`.
            key_position: of (B, T).

        Returns:
            (B, L, d).
        """
        q = self.turned(self.heads(query), query_position).transpose(1, 2)
        entry = self.entries(key, key_position)
        merged = finished_slots(entry, self.down_rate, self.merge_window)
        k, v = self.key_value(torch.cat((merged, entry), dim=1))
        mask = query_position.once(
            ("windows", self.down_rate, entry.size(1), q.dtype),
            lambda: sdpa.kernel_mask(self._seen(query_position.index, entry.size(1)), q),
        )
        dropout = self.dropout if self.training else 0.0
        keys = k.transpose(1, 2), v.transpose(1, 2)
        output = sdpa.attend_masked(q, *keys, mask, self.softmax_scale, dropout)
        return self.wo(output.transpose(1, 2).flatten(2))

    def _seen(self, position: Tensor, size: int) -> Tensor:
        """Return which of T // s slots and T positions queries at (B, L) see, (B, 1, L, ...)."""
        position = position.clamp_min(0)[:, None, :, None]
        own = position // self.down_rate
        raw = torch.arange(size, device=position.device)
        window = torch.arange(size // self.down_rate, device=position.device)
        within = (raw <= position) & (raw // self.down_rate == own)
        return torch.cat((window < own, within), dim=-1)
