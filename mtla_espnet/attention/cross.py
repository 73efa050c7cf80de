"""Cross-attention to latents that are merged over chunks of s positions of the key.

B utterances, L queries x_l, T key positions t with inputs z_t, s `down_rate`, H heads i, r rank.
K_i (nope, r) and V_i (v, r) are the rows of head i in wkv_b, PE(j) is that of `mtla.py`.

    c_t = LayerNorm(wkv_a z_t),  w_t = sigmoid(fc_c(PE(t // s)) . fc_p(c_t))
    m_j = sum of w_t c_t over the unpadded t of chunk j                               (r,)
    o_li = sum over j of softmax_j(q_li . K_i m_j / sqrt(nope)) V_i m_j,  q_l = wq x_l

Every query sees every chunk: nothing is causal, and there are no rotary positions. The last chunk
may be short: what it has so far counts. The paper says that MTLA is not made for cross-attention
and its code has this form as a possibility (`assets/variant.py` of the PyPI package `mtla`, with
`cross_att=True`), which takes whole chunks alone; of these the output is the same.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtla_espnet.attention.base import require_integer
from mtla_espnet.attention.incremental_state import KeepsIncrementalState
from mtla_espnet.attention.mtla import HyperNetwork, merge_chunks
from mtla_espnet.attention.step_weights import weight_of
from mtla_espnet.attention.torch_arguments import MAKING, check_padding, refuse_others
from mtla_espnet.position import unpadded_first

_LEAVE_OUT = "this attention has none: leave it out"
_MAKING = {name: MAKING[name] for name in ("batch_first", "add_bias_kv", "add_zero_attn")} | {
    "cross_att": ((True,), "for self-attention take MultiheadTemporalLatentAttention"),
    "qk_rope_head_dim": ((0,), _LEAVE_OUT),
    "recompute_prompt_attn": ((True, False), _LEAVE_OUT),
}
_CALL = {
    "is_causal": ((False,), "every query sees every chunk: leave it out"),
    "need_weights": ((False,), "the weights are not kept, only the output is returned"),
    "average_attn_weights": ((), "the weights are not kept: leave it out"),
    "static_kv": ((True, False), "a cache keeps the first key: leave it out"),
    "position": ((None,), "there are no rotary positions: leave it out"),
    **dict.fromkeys(
        ("attn_mask", "self_attn_mask"),
        ((None,), "every query sees every chunk: tell padding by key_padding_mask"),
    ),
}


@dataclass
class CrossCache:
    """The merged latents of keys, which stay as they are for all queries.

    Attributes:
        latent: (B, J, r); what no position is in is 0.
        chunks: (B,) int64, chunks that each row has.
    """

    latent: Tensor
    chunks: Tensor

    @property
    def rows(self) -> int:
        """Rows."""
        return len(self.chunks)

    @property
    def nbytes(self) -> int:
        """Bytes of the chunks that the rows have."""
        return int(self.chunks.sum()) * self.latent.size(2) * self.latent.element_size()

    def reorder(self, parents: Tensor) -> None:
        """Let row n go on from row parents[n], (N',) int64; there may be more or fewer rows."""
        parents = parents.to(self.chunks.device)
        self.latent, self.chunks = self.latent[parents], self.chunks[parents]


class MultiheadTemporalLatentCrossAttention(KeepsIncrementalState, nn.Module):
    """Cross-attention to merged latents; the equations stand at the head of this module.

    Args:
        embed_dim: d, model size.
        num_heads: H.
        dropout: of the attention weights, in training.
        bias: of the projections; that of `wkv_b` is loaded and, as in the paper's code, never used.
        q_lora_rank: rank of a low-rank query projection; 0 is a full one.
        kv_lora_rank: r, width of the latent, even, at least 4.
        qk_nope_head_dim: a head's width of queries and keys.
        v_head_dim: a head's value width.
        down_rate: s, positions of the key merged into one.
        kdim: size of the key; None: d.
        device: of the parameters; None: PyTorch's default.
        dtype: of the parameters; None: PyTorch's default.
        **others: what means the same here, of `torch.nn.MultiheadAttention` and of the paper's
            code, such as `batch_first=True` and `cross_att=True`.

    Raises:
        ValueError: sizes that do not fit, or an argument that asks for something else.

    Example:
        >>> model = MultiheadTemporalLatentCrossAttention(embed_dim=512, num_heads=8, down_rate=4)
        >>> text, encoded = torch.randn(2, 7, 512), torch.randn(2, 50, 512)
        >>> model(text, encoded, encoded).shape
        torch.Size([2, 7, 512])
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = False,
        q_lora_rank: int = 0,
        kv_lora_rank: int = 256,
        qk_nope_head_dim: int = 64,
        v_head_dim: int = 64,
        down_rate: int = 2,
        kdim: int | None = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        **others,
    ):
        super().__init__()
        refuse_others(others, _MAKING)
        self.num_heads = require_integer("num_heads", num_heads)
        self.kv_lora_rank = require_integer("kv_lora_rank", kv_lora_rank, least=4)
        if kv_lora_rank % 2:
            raise ValueError(f"kv_lora_rank must be even, got {kv_lora_rank}")
        self.qk_nope_head_dim = require_integer("qk_nope_head_dim", qk_nope_head_dim)
        self.v_head_dim = require_integer("v_head_dim", v_head_dim)
        self.down_rate = require_integer("down_rate", down_rate)
        self.q_lora_rank = require_integer("q_lora_rank", q_lora_rank, least=0)
        self.dropout, self.softmax_scale = dropout, qk_nope_head_dim**-0.5
        if q_lora_rank:
            self.wq_a = nn.Linear(embed_dim, q_lora_rank, bias=bias)
            self.q_norm = nn.LayerNorm(q_lora_rank)
            self.wq_b = nn.Linear(q_lora_rank, num_heads * qk_nope_head_dim, bias=bias)
        else:
            self.wq = nn.Linear(embed_dim, num_heads * qk_nope_head_dim, bias=bias)
        self.wkv_a = nn.Linear(kdim or embed_dim, kv_lora_rank, bias=bias)
        self.kv_norm = nn.LayerNorm(kv_lora_rank)
        width = num_heads * (qk_nope_head_dim + v_head_dim)
        self.wkv_b = nn.Linear(kv_lora_rank, width, bias=bias)
        self.wo = nn.Linear(num_heads * v_head_dim, embed_dim, bias=bias)
        self.hypernet_down = HyperNetwork(kv_lora_rank)
        self.to(device=device, dtype=dtype)

    def init_cache(self, key: Tensor, key_padding_mask: Tensor | None = None) -> CrossCache:
        """Return what all queries read of a key.

        Args:
            key: (B, T, d), T at least 1.
            key_padding_mask: (B, T) bool, true at padding, left or right.

        Raises:
            ValueError: shapes that do not fit.
        """
        batch, size, _ = key.shape
        if not size:
            raise ValueError("key has no positions")
        counts = torch.full((batch,), size, device=key.device)
        index = torch.arange(size, device=key.device).expand(batch, size)
        if key_padding_mask is not None:
            check_padding(key_padding_mask, key)
            counts = (~key_padding_mask).sum(dim=1)
            column, index = unpadded_first(key_padding_mask)
            key = key.gather(1, column[..., None].expand_as(key))
            key = key.masked_fill((index < 0)[..., None], 0.0)
        latent = self.kv_norm(self.wkv_a(key))
        rate = self.down_rate
        chunk = torch.arange(-(-size // rate), device=key.device)
        weight = self.hypernet_down(latent, self.hypernet_down.encode(chunk), repeats=rate)
        merged = merge_chunks(latent, weight, index, rate)
        chunks = -(-counts // rate)
        # the row of a chunk's last position, which in a row's last chunk may come early
        last = torch.minimum(chunk * rate + rate - 1, counts[:, None] - 1).clamp_min(0)
        merged = merged.gather(1, last[..., None].expand(-1, -1, self.kv_lora_rank))
        return CrossCache(merged.masked_fill((chunk >= chunks[:, None])[..., None], 0.0), chunks)

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        *,
        cache: CrossCache | None = None,
        incremental_state: dict | None = None,
        **others,
    ) -> Tensor:
        """Attend from each query to all chunks of the key.

        Args:
            query: (B, L, d).
            key: (B, T, d); None with a cache.
            value: equal to `key`, or None: both are made of one input.
            key_padding_mask: (B, T) bool, true at padding, left or right; None with a cache.
            cache: of `init_cache`, which serves any number of calls; no gradients.
            incremental_state: the call of the paper's code: a dict, empty at first, which keeps
                a cache of the first call's key. Later calls read no key. Better use `cache`.
            **others: what means the same here, of `torch.nn.MultiheadAttention` and of the
                paper's code, such as `need_weights=False` and `static_kv=True`.

        Returns:
            (B, L, d); of a row without a key that is no padding, what `wo` makes of zeros.

        Raises:
            ValueError: `value` is not equal to `key`, shapes that do not fit, or an argument
                of `others` that asks for something else.
            TypeError: an argument of `others` that neither has.
        """
        refuse_others(others, _CALL)
        if incremental_state is not None:
            if cache is not None:
                raise ValueError("cache and incremental_state: give one of them")
            cache = incremental_state.get(self._state_name)
        elif cache is not None and key is not None:
            raise ValueError("the cache holds a key: leave key and value out")
        if cache is None:
            if key is None:
                raise ValueError("key is missing: give key, or the cache of init_cache(key)")
            if value is not None and value is not key and not torch.equal(value, key):
                raise ValueError(
                    "value must be equal to key: keys and values are made of one input"
                )
            held = self.init_cache(key, key_padding_mask)
            if incremental_state is None:
                self._check_rows(query, held)
                return self._attend(query, held)
            held = CrossCache(held.latent.detach(), held.chunks)
            cache = incremental_state[self._state_name] = held
        self._check_rows(query, cache)
        return self._attend_absorbed(query, cache)

    def _check_rows(self, query: Tensor, held: CrossCache) -> None:
        if query.dim() != 3 or len(query) != held.rows:
            raise ValueError(f"{held.rows} rows of keys, but query is {tuple(query.shape)}")

    def _queries(self, query: Tensor) -> Tensor:
        """(B, L, d) -> (B, H, L, nope)."""
        q = self.wq_b(self.q_norm(self.wq_a(query))) if self.q_lora_rank else self.wq(query)
        return q.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def _attend(self, query: Tensor, held: CrossCache) -> Tensor:
        """Make keys and values of all heads, which is fewer operations for many queries."""
        both = F.linear(held.latent, weight_of(self.wkv_b)).unflatten(-1, (self.num_heads, -1))
        key, value = both.transpose(1, 2).split((self.qk_nope_head_dim, self.v_head_dim), dim=-1)
        return self._output(self._softmax(self._queries(query), key, value, held), held)

    @torch.no_grad()
    def _attend_absorbed(self, query: Tensor, held: CrossCache) -> Tensor:
        """Read latents as they lie, `wkv_b` absorbed into the query and the output."""
        weight = weight_of(self.wkv_b).unflatten(0, (self.num_heads, -1))
        key, value = weight.split((self.qk_nope_head_dim, self.v_head_dim), dim=1)
        latent = held.latent[:, None].expand(-1, self.num_heads, -1, -1)
        q = torch.einsum("bhln,hnr->bhlr", self._queries(query), key)
        read = self._softmax(q, latent, latent, held)
        return self._output(torch.einsum("bhlr,hvr->bhlv", read, value), held)

    def _softmax(self, query: Tensor, key: Tensor, value: Tensor, held: CrossCache) -> Tensor:
        # a row without chunks sees all, so that nothing is NaN, and is left out afterwards
        counts = torch.where(held.chunks > 0, held.chunks, key.size(2))
        seen = torch.arange(key.size(2), device=key.device) < counts[:, None]
        return F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=seen[:, None, None],
            dropout_p=self.dropout if self.training else 0.0,
            scale=self.softmax_scale,
        )

    def _output(self, attended: Tensor, held: CrossCache) -> Tensor:
        """(B, H, L, v) -> (B, L, d)."""
        attended = attended.masked_fill((held.chunks == 0)[:, None, None, None], 0.0)
        return self.wo(attended.transpose(1, 2).flatten(2))
