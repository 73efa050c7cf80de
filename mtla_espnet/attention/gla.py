"""Grouped latent attention: a latent for each group of heads, one rotary key for all.

B utterances, T positions, H heads in G groups, g(i) the group of head i, d model size, r rank of a
group's latent, nope and rope widths of a head without and with position, v of its value.

    [c0_1 ; ... ; c0_G ; k0] = wkv_a x                       (B, T, G r + rope)
    c_g = LayerNorm_g(c0_g),  k^R = RoPE(k0)                 what a slot of the cache holds
    k_i = [K_i c_g(i) ; k^R],  v_i = V_i c_g(i)              rows of head i of wkv_b
    o_i = sum_j softmax_j(q_i . k_ij / sqrt(nope + rope)) v_ij,  y = wo [o_1 ; ... ; o_H]

With G = 1 this is MLA, by test. Heads of different groups share no latent, so that a model can be
split over devices by groups without a copy of the cache; here it is G latents of half the size.
Source: Zadouri, Strauss and Dao, arXiv 2505.21487, but for LayerNorm where it has RMSNorm, as in
our MLA.
"""

from dataclasses import replace

from torch import Tensor, nn

from mtla_espnet.attention.base import SelfAttention, require_integer
from mtla_espnet.attention.mla import Latent
from mtla_espnet.attention.paper_call import StandAlone
from mtla_espnet.attention.torch_arguments import given
from mtla_espnet.position import Positions


class GroupNorm(nn.GroupNorm):
    """LayerNorm of each group of the last axis, with weights of its own.

    Args:
        groups: G.
        width: r, numbers a group.
    """

    def __init__(self, groups: int, width: int):
        super().__init__(groups, groups * width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., G * r) -> (..., G * r)."""
        return super().forward(x.flatten(0, -2)).view(x.shape)


class GroupedLatent(Latent):
    """Latent attention with G latents, each read by H / G heads.

    Args:
        embed_dim: d.
        num_heads: H.
        dropout: of the attention weights.
        num_latent_groups: G, divides H.
        latent: the options of `Latent`; `kv_lora_rank` is r of a group, unset: 4 d / H / G.

    Raises:
        ValueError: as `Latent`, or G does not divide H.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        *,
        num_latent_groups: int = 2,
        **latent,
    ):
        groups = require_integer("num_latent_groups", num_latent_groups)
        if num_heads % groups:
            raise ValueError(
                f"num_latent_groups: {groups} does not divide the {num_heads} attention heads"
            )
        if latent.get("kv_lora_rank") is None and num_heads and embed_dim % num_heads == 0:
            latent["kv_lora_rank"] = max(2, 4 * embed_dim // num_heads // groups // 2 * 2)
        super().__init__(embed_dim, num_heads, dropout, **latent)
        self.num_latent_groups = groups
        if groups > 1:
            self.slot = replace(self.slot, groups=groups)
            bias = self.wkv_a.bias is not None
            self.wkv_a = nn.Linear(embed_dim, self.slot.width, bias=bias)
            if self.kv_norm is not None:
                self.kv_norm = GroupNorm(groups, self.kv_lora_rank)

    def entries(self, key: Tensor, key_position: Positions) -> Tensor:
        """Return [latents of the groups ; rotary key], (B, T, G r + rope)."""
        return SelfAttention.entries(self, key, key_position)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        query_position: Positions,
        key_position: Positions,
    ) -> Tensor:
        """Attend as any kind, by the keys and values of all heads."""
        return SelfAttention.forward(self, query, key, query_position, key_position)


class GroupedLatentAttention(StandAlone, GroupedLatent):
    """Grouped latent attention, called as in the code of MTLA's paper.

    Its sizes are those of the paper for embed_dim 512 and 8 heads: two latents of 128.

    Args:
        embed_dim: d, model size.
        num_heads: H.
        dropout: of the attention weights, in training.
        bias: of the projections; that of `wkv_b` is never used.
        q_lora_rank: rank of a low-rank query projection; 0 is a full one.
        kv_lora_rank: r, width of a group's latent.
        qk_nope_head_dim: a head's width without position.
        qk_rope_head_dim: a head's rotary width, even.
        v_head_dim: a head's value width.
        num_latent_groups: G, divides H.
        **others: `device`, `dtype`, and what `torch.nn.MultiheadAttention` takes where it
            means what is done here, such as `batch_first=True`.
    """

    def __init__(
        self,
        embed_dim,
        num_heads,
        dropout=0.0,
        bias=False,
        q_lora_rank=0,
        kv_lora_rank=128,
        qk_nope_head_dim=64,
        qk_rope_head_dim=32,
        v_head_dim=64,
        num_latent_groups=2,
        **others,
    ):
        super().__init__(**given(locals()))
