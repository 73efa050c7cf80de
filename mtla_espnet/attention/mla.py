"""Multi-head latent attention: a low-rank latent and one rotary key in the cache."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtla_espnet.attention.base import SelfAttention, head_size, require_integer
from mtla_espnet.attention.ops import choose, chunked_cuda, sdpa
from mtla_espnet.attention.ops.entries import latent_entries
from mtla_espnet.cache.growing import LayerCache
from mtla_espnet.cache.spec import CacheSpec
from mtla_espnet.position import Positions, rotate


class Latent(SelfAttention):
    """Attention whose keys and values are read from a latent of `kv_lora_rank` numbers.

    [c0 ; k0] = wkv_a x; latent c = LayerNorm(c0); rotary key = RoPE(k0), one for all
    heads. A head's key is [wkv_b's nope rows c ; rotary key], its value wkv_b's value
    rows times c. The cache keeps c and the rotary key. Over full sequences keys and
    values are materialised (fewer operations); a decoding step scores in latent
    space instead, with wkv_b absorbed into query and output.
    Source: DeepSeek-V2, arXiv 2405.04434; parameter names as in the PyPI package `mtla`.

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

    Raises:
        ValueError: a size that is not a positive integer, an odd rotary width or rank.
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

        query_width = num_heads * self.qk_head_dim
        if q_lora_rank:
            self.wq_a = nn.Linear(embed_dim, q_lora_rank, bias=bias)
            self.q_norm = nn.LayerNorm(q_lora_rank)
            self.wq_b = nn.Linear(q_lora_rank, query_width, bias=bias)
        else:
            self.wq = nn.Linear(embed_dim, query_width, bias=bias)
        self.wkv_a = nn.Linear(embed_dim, self.kv_lora_rank + self.qk_rope_head_dim, bias=bias)
        self.kv_norm = nn.LayerNorm(self.kv_lora_rank)
        self.wkv_b = nn.Linear(
            self.kv_lora_rank, num_heads * (self.qk_nope_head_dim + self.v_head_dim), bias=bias
        )
        self.wo = nn.Linear(num_heads * self.v_head_dim, embed_dim, bias=bias)

    @property
    def cache_spec(self) -> CacheSpec:
        """The latent and the rotary key."""
        return CacheSpec(self.kv_lora_rank + self.qk_rope_head_dim)

    # -- projections -----------------------------------------------------------
    def _heads(self, query: Tensor) -> Tensor:
        """Return unturned queries (B, L, H, nope + rope)."""
        if self.q_lora_rank:
            q = self.wq_b(self.q_norm(self.wq_a(query)))
        else:
            q = self.wq(query)
        return q.unflatten(-1, (self.num_heads, self.qk_head_dim))

    def _turn(self, query: Tensor, rotary: Positions | Tensor) -> tuple[Tensor, Tensor]:
        """Return (B, L, H, nope) and the turned (B, L, H, rope)."""
        nope, rope = query.split((self.qk_nope_head_dim, self.qk_rope_head_dim), dim=-1)
        return nope, rotate(rope, rotary)

    def _query(self, query: Tensor, rotary: Tensor) -> tuple[Tensor, Tensor]:
        return self._turn(self._heads(query), rotary)

    def _latent(self, key: Tensor, rotary: Tensor) -> tuple[Tensor, Tensor]:
        """Return the normalised latent (B, T, r) and the turned rotary key (B, T, rope)."""
        return self._normalise(self.wkv_a(key), rotary)

    def _normalise(self, joint: Tensor, rotary: Positions | Tensor) -> tuple[Tensor, Tensor]:
        latent, rope = joint.split((self.kv_lora_rank, self.qk_rope_head_dim), dim=-1)
        return self.kv_norm(latent).to(joint.dtype), rotate(rope, rotary)

    def materialise(self, latent: Tensor, rope: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys (B, T, H, nope + rope) and values (B, T, H, v) of latents."""
        both = F.linear(latent, self.wkv_b.weight)
        both = both.unflatten(-1, (self.num_heads, -1))
        nope, value = both.split((self.qk_nope_head_dim, self.v_head_dim), dim=-1)
        rope = rope[:, :, None].expand(-1, -1, self.num_heads, -1)
        return torch.cat((nope, rope), dim=-1), value

    # -- the contract ----------------------------------------------------------
    @property
    def key_value_shapes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """See `SelfAttention`."""
        return (self.num_heads, self.qk_head_dim), (self.num_heads, self.v_head_dim)

    def key_value(self, entries: Tensor) -> tuple[Tensor, Tensor]:
        """See `SelfAttention`."""
        return self.materialise(*entries.split(self._entry_sizes, dim=-1))

    def entries(self, key: Tensor, key_position: Positions) -> Tensor:
        """Return [latent ; rotary key], (B, T, r + rope)."""
        joint = self.wkv_a(key)
        if choose.runs_triton(joint):
            return self._entries_fused(joint, key_position)
        return torch.cat(self._normalise(joint, key_position), dim=-1)

    def _entries_fused(
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
            *position.rotation(self.qk_rope_head_dim),
            self.cache_spec.down_rate,
            self.kv_norm.eps,
        )

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        query_position: Positions,
        key_position: Positions,
    ) -> Tensor:
        """See `SelfAttention.forward`."""
        q = self._heads(query)
        entry = self.entries(key, key_position)
        kernel = None
        if query_position is key_position:
            dropout = self.dropout if self.training else 0.0
            kernel = choose.chunked_kernel(q, dropout, self.cache_spec.down_rate)
        if kernel in ("flash", "cudnn"):
            output = self._attend_fused(kernel, q, entry, query_position)
        else:
            q = torch.cat(self._turn(q, query_position), dim=-1)
            output = self._attend(q, entry, query_position, key_position)
        return self.wo(output.flatten(2))

    def _attend_fused(
        self, kernel: str, query: Tensor, entry: Tensor, position: Positions
    ) -> Tensor:
        """All positions ask, on CUDA: (B, T, H, nope + rope) unturned -> (B, T, H, v)."""
        sizes = self.qk_nope_head_dim, self.qk_rope_head_dim, self.v_head_dim
        weight = chunked_cuda.pack_weight(self.wkv_b.weight, self.num_heads, *sizes)
        return chunked_cuda.attend(
            kernel,
            query,
            F.linear(entry, weight).unflatten(-1, (self.num_heads, -1)),
            *position.rotation(self.qk_rope_head_dim),
            self.cache_spec.down_rate,
            self.v_head_dim,
            self.softmax_scale,
        )

    def _attend(
        self, query: Tensor, entry: Tensor, query_position: Positions, key_position: Positions
    ) -> Tensor:
        """Attend over materialised entries: (B, L, H, nope + rope) -> (B, L, H, v)."""
        key, value = self.key_value(entry)
        return sdpa.attend(
            query.transpose(1, 2),
            key.transpose(1, 2),
            value.transpose(1, 2),
            query_position,
            key_position,
            scale=self.softmax_scale,
            dropout=self.dropout if self.training else 0.0,
        ).transpose(1, 2)

    @property
    def _entry_sizes(self) -> tuple[int, int]:
        return self.kv_lora_rank, self.qk_rope_head_dim

    def _extend(self, entry: Tensor, cache: LayerCache) -> Tensor:
        """Return the newest slot after a new position's own `entry` (N, r + rope)."""
        return entry

    def step(self, query: Tensor, cache: LayerCache, rotary: Tensor | None = None) -> Tensor:
        """See `SelfAttention.step`; scores are taken in latent space."""
        rotary = cache.position[:, None] if rotary is None else rotary
        own = torch.cat(self._latent(query, rotary), dim=-1)[:, 0]
        cache.write(self._extend(own, cache))
        nope, rope = self._query(query, rotary)
        weight = self.wkv_b.weight.unflatten(0, (self.num_heads, -1))  # (H, nope + v, r)
        key_weight, value_weight = weight.split((self.qk_nope_head_dim, self.v_head_dim), dim=1)
        absorbed = torch.einsum("nhd,hdr->nhr", nope[:, 0], key_weight.to(nope.dtype))
        q = torch.cat((absorbed, rope[:, 0]), dim=-1)[:, None]  # (N, 1, H, r + rope)
        prefix, suffix = (x[:, None].to(q.dtype) for x in (cache.prefix, cache.suffix))
        output = sdpa.attend_cached(
            q,
            (prefix, prefix[..., : self.kv_lora_rank], cache.prefix_mask),
            (suffix, suffix[..., : self.kv_lora_rank], cache.suffix_mask),
            scale=self.softmax_scale,
        )
        value = torch.einsum("nhr,hvr->nhv", output[:, 0], value_weight.to(output.dtype))
        return self.wo(value.flatten(1))[:, None]
