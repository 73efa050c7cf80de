"""The other way in which MTLA merges latents: by a softmax over a window, channel by channel.

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
the own one, an attention sink. MTLA's sum instead has one number between 0 and 1 a position, and
shows a query the sum so far.
"""

import torch
from torch import Tensor, nn

from mtla_espnet.position import accurate


class WindowSoftmax(nn.Module):
    """Full windows of positions -> slots.

    Args:
        rank: r.
        down_rate: s, positions merged into one slot.
    """

    def __init__(self, rank: int, down_rate: int):
        super().__init__()
        self.gate = nn.Linear(rank, rank, bias=False)
        self.bias = nn.Parameter(torch.zeros(down_rate, rank))
        self.norm = nn.LayerNorm(rank)

    def forward(self, window: Tensor) -> Tensor:
        """Merge (..., s, r + rope) to (..., r + rope)."""
        rank = self.bias.size(1)
        latent, rope = window.split((rank, window.size(-1) - rank), dim=-1)
        score = self.gate(latent.to(self.bias.dtype)) + self.bias
        merged = (accurate(score).softmax(dim=-2) * accurate(latent)).sum(dim=-2)
        merged = self.norm(merged.to(self.bias.dtype)).to(window.dtype)
        return torch.cat((merged, rope[..., -1, :]), dim=-1)


def seen_slots_and_own(position: Tensor, size: int, down_rate: int) -> Tensor:
    """Return what queries see: finished slots before their window, and into their window.

    Args:
        position: (B, L) int64 of the queries, or -1.
        size: T, positions.
        down_rate: s.

    Returns:
        (B, 1, L, T // s + T) bool: of the slots, then of the positions.
    """
    position = position.clamp_min(0)[:, None, :, None]
    own = position // down_rate
    raw = torch.arange(size, device=position.device)
    window = torch.arange(size // down_rate, device=position.device)
    within = (raw <= position) & (raw // down_rate == own)
    return torch.cat((window < own, within), dim=-1)
