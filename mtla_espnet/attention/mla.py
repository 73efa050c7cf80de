"""Multi-head latent attention: a low-rank latent and one rotary key in the cache.

T positions t, H heads i, d model size, r rank of the latent, nope and rope widths of a head's
query and key without and with position, v width of its value. K_i (nope, r) and V_i (v, r) are
the rows of head i in wkv_b; RoPE_t turns pairs by angles of position t.

    [c0_t ; k0_t] = wkv_a x_t                                            (r + rope,)
    c_t = LayerNorm(c0_t),  k_t = RoPE_t(k0_t)        what the cache keeps of position t
    [q_ti ; p0_ti] = rows of head i of wq x_t,  p_ti = RoPE_t(p0_ti)     (nope + rope,)
    (with q_lora_rank: wq_b LayerNorm(wq_a x_t) in the place of wq x_t)

Over all positions at once keys and values are made, which takes fewer operations:

    u_ji = [K_i c_j ; k_j],  v_ji = V_i c_j
    o_ti = sum over j <= t of softmax_j([q_ti ; p_ti] . u_ji / sqrt(nope + rope)) v_ji

One position at a time the latents are read as they lie, K_i absorbed into the query and V_i into
the output, which reads r + rope numbers a position for all heads:

    a_ti = K_i^T q_ti                                                    (r,)
    o_ti = V_i (sum over j <= t of softmax_j((a_ti . c_j + p_ti . k_j) / sqrt(nope + rope)) c_j)

In both cases y_t = wo [o_t1 ; ... ; o_tH].
Source: DeepSeek-V2, arXiv 2405.04434; parameter names as in the PyPI package `mtla`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mtla_espnet.attention.base import (
    SelfAttention,
    StepLayers,
    head_size,
    require_integer,
)
from mtla_espnet.attention.ops import choose, chunked
from mtla_espnet.attention.ops.entries import latent_entries
from mtla_espnet.attention.step_weights import weight_of
from mtla_espnet.cache.slot import SlotForm
from mtla_espnet.position import Positions


def _numbers(name: str, values: object, count: int) -> tuple[float, ...]:
    """Return `values` if they are so many numbers.

    Raises:
        ValueError: names the option.
    """
    is_list = isinstance(values, list | tuple)
    if not is_list or len(values) != count or not all(isinstance(v, int | float) for v in values):
        raise ValueError(f"{name} must be {count} numbers, got {values!r}")
    return tuple(map(float, values))


class Latent(SelfAttention):
    """Attention whose keys and values are read from a latent of `kv_lora_rank` numbers.

    The equations stand at the head of this module.

    Args:
        embed_dim: d.
        num_heads: H.
        dropout: of the attention weights.
        bias: of the projections. As in the paper's code the bias of `wkv_b` exists,
            so that its state loads, and is never used: absorption needs a linear map.
        q_lora_rank: rank of a low-rank query projection; 0 is a full one.
        kv_lora_rank: r, even; unset: 4 d / H.
        qk_nope_head_dim: width of a head's part without position; unset: d / H.
        qk_rope_head_dim: width of the rotary part, even; unset: d / H / 2, made even.
        v_head_dim: width of a head's value; unset: d / H.
        rope_frequencies: rope / 2 angles, by which the pairs of the rotary part turn a position;
            unset: 10000^(-2k/rope).
        latent_norm: a LayerNorm makes the latent c; off: c = c0, as in models that
            `mtla-espnet convert` made of others.

    Raises:
        ValueError: a size that is not a positive integer, an odd rotary width or rank, or
            frequencies that are not rope / 2 numbers.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        *,
        bias: bool = False,
        q_lora_rank: int = 0,
        kv_lora_rank: int | None = None,
        qk_nope_head_dim: int | None = None,
        qk_rope_head_dim: int | None = None,
        v_head_dim: int | None = None,
        rope_frequencies: Sequence[float] | None = None,
        latent_norm: bool = True,
    ):
        super().__init__(embed_dim, num_heads, dropout)
        sizes = (kv_lora_rank, qk_nope_head_dim, qk_rope_head_dim, v_head_dim)
        if None in sizes:
            size = head_size(embed_dim, num_heads)
            follow = (4 * size, size, max(2, size // 4 * 2), size)
            sizes = tuple(f if s is None else s for s, f in zip(sizes, follow, strict=True))
        names = ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
        for name, value in zip(names, sizes, strict=True):
            require_integer(name, value)
        self.kv_lora_rank, self.qk_nope_head_dim, self.qk_rope_head_dim, self.v_head_dim = sizes
        for name in ("qk_rope_head_dim", "kv_lora_rank"):
            if getattr(self, name) % 2:
                raise ValueError(f"{name} must be even, got {getattr(self, name)}")
        self.q_lora_rank = require_integer("q_lora_rank", q_lora_rank, least=0)
        self.qk_head_dim = self.qk_nope_head_dim + self.qk_rope_head_dim
        self.softmax_scale = self.qk_head_dim**-0.5
        rope = self.qk_rope_head_dim
        if rope_frequencies is not None:
            rope_frequencies = _numbers("rope_frequencies", rope_frequencies, rope // 2)
        self.slot = SlotForm(
            self.kv_lora_rank,
            shared_width=rope,
            rotary_width=rope,
            frequencies=rope_frequencies,
        )

        query_width = num_heads * self.qk_head_dim
        if q_lora_rank:
            self.wq_a = nn.Linear(embed_dim, q_lora_rank, bias=bias)
            self.q_norm = nn.LayerNorm(q_lora_rank)
            self.wq_b = nn.Linear(q_lora_rank, query_width, bias=bias)
        else:
            self.wq = nn.Linear(embed_dim, query_width, bias=bias)
        self.wkv_a = nn.Linear(embed_dim, self.kv_lora_rank + self.qk_rope_head_dim, bias=bias)
        self.kv_norm = nn.LayerNorm(self.kv_lora_rank) if latent_norm else None
        self.wkv_b = nn.Linear(
            self.kv_lora_rank, num_heads * (self.qk_nope_head_dim + self.v_head_dim), bias=bias
        )
        self.wo = nn.Linear(num_heads * self.v_head_dim, embed_dim, bias=bias)

    @property
    def layers(self) -> StepLayers:
        """`wkv_b` is absorbed."""
        low_rank = self.q_lora_rank > 0
        return StepLayers(
            query=self.wq_a if low_rank else self.wq,
            query_norm=self.q_norm if low_rank else None,
            query_up=self.wq_b if low_rank else None,
            entry=(self.wkv_a,),
            norm=self.kv_norm,
            up=self.wkv_b,
            output=self.wo,
        )

    def entries(self, key: Tensor, key_position: Positions) -> Tensor:
        """Return [latent ; rotary key], (B, T, r + rope)."""
        joint = self.wkv_a(key)
        if self.kv_norm is not None and choose.runs_triton(joint):
            return self._entries_triton(joint, key_position)
        return torch.cat(self.made(joint, key_position), dim=-1)

    def _entries_triton(
        self,
        joint: Tensor,
        position: Positions,
        network: tuple[Tensor, Tensor, Tensor, Tensor, Tensor] | None = None,
    ) -> Tensor:
        return latent_entries(
            joint,
            self.kv_norm.weight,
            self.kv_norm.bias,
            network,
            position.index,
            *self._rotation(position),
            self.slot.down_rate,
            self.kv_norm.eps,
        )

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        query_position: Positions,
        key_position: Positions,
    ) -> Tensor:
        """Attend as any kind; where all positions ask, by a kernel for chunks if one serves."""
        q = self.heads(query)
        entry = self.entries(key, key_position)
        if query_position is key_position:
            dropout = self.dropout if self.training else 0.0
            kernel = choose.chunked_kernel(q, dropout, self.slot.down_rate)
            if kernel is not None:
                output = self._attend_chunked(kernel, q, entry, query_position, dropout)
                return self.wo(output.flatten(2))
        return self._attend(self.turned(q, query_position), entry, query_position, key_position)

    def _attend_chunked(
        self, kernel: str, query: Tensor, entry: Tensor, position: Positions, dropout: float
    ) -> Tensor:
        """All positions ask: (B, T, H, nope + rope) unturned -> (B, T, H, v)."""
        sizes = self.qk_nope_head_dim, self.qk_rope_head_dim, self.v_head_dim
        return chunked.attend(
            kernel,
            query,
            chunked.pack(kernel, entry, weight_of(self.wkv_b), self.num_heads, *sizes),
            *self._rotation(position),
            self.slot.down_rate,
            self.v_head_dim,
            self.softmax_scale,
            dropout,
        )

    def _rotation(self, position: Positions) -> tuple[Tensor, Tensor]:
        """Return the cosines and sines of the rotary part, float32."""
        return position.rotation(self.qk_rope_head_dim, frequencies=self.slot.frequencies)

    def _attend(
        self, query: Tensor, entry: Tensor, query_position: Positions, key_position: Positions
    ) -> Tensor:
        """Attend over entries: (B, L, H, nope + rope), turned, -> (B, L, d)."""
        return self.attended(query, *self.key_value(entry), query_position, key_position)
