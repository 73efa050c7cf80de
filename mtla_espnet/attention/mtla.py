"""Multi-head temporal latent attention: latents merged over chunks of s positions.

T positions t, s `down_rate`, j = t // s the chunk of position t, H heads i, r rank of the latent.
c_t (r,), k_t (rope,), the queries q_ti and p_ti, K_i and V_i are those of MLA.

    PE(j)[2 k] = sin(j 10000^(-2 k / r)),  PE(j)[2 k + 1] = cos of the same        (r,)
    w_t = sigmoid(fc_c(PE(j)) . fc_p(c_t))             one number a position, in 0 to 1
    m_t = sum of w_n c_n over the members n <= t of t's own chunk                    (r,)
    slot j = [m_e ; k_e],  e = j s + s - 1             once the chunk is full

A query sees every finished chunk before its own, and its own chunk as far as it has come:

    S_t = {j s + s - 1 for all j < t // s} and {t}     positions whose [m ; k] query t sees
    o_ti = sum over n in S_t of softmax_n((q_ti . K_i m_n + p_ti . k_n) / sqrt(nope + rope)) V_i m_n

When t ends its chunk, [m_t ; k_t] is the slot. So training at all positions equals decoding one
position at a time. w_t is one number, so all m_t are a cumulative sum inside chunks: O(T). As a
dot product with a table of chunks, which steps and kernels use, it is

    w_t = sigmoid(g_j . c_t + h_j),  g_j = W_p^T fc_c(PE(j)),  h_j = b_p . fc_c(PE(j))

With `merge: softmax` a slot is made of its positions by `mtla_espnet.attention.window_softmax`
instead, and a query sees its own chunk position by position.

Source: arXiv 2505.13544; parameter names as in the PyPI package `mtla`.
"""

import itertools
from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtla_espnet.attention.base import SelfAttention, require_integer
from mtla_espnet.attention.mla import Latent
from mtla_espnet.attention.ops import choose, sdpa
from mtla_espnet.attention.ops.entries import gates
from mtla_espnet.attention.window_softmax import WindowSoftmax, seen_slots_and_own
from mtla_espnet.cache.slot import finished_slots
from mtla_espnet.position import Positions, accurate, chunk_encoding

MERGES = ("sum", "softmax")


def merge_chunks(latent: Tensor, weight: Tensor, position: Tensor, down_rate: int) -> Tensor:
    """Return the running weighted sum of latents inside chunks of `down_rate` positions.

    Row i sums weight[m] * latent[m] over members m <= i of i's own chunk, so a
    finished chunk is its last member's row. O(T) work and memory, summed in float32
    inside each chunk. Source: arXiv 2505.13544.

    Args:
        latent: (B, T, r) float, after LayerNorm.
        weight: (B, T) float in (0, 1).
        position: (B, T) int64: row t holds t, or -1 where padded.
        down_rate: positions a chunk, >= 1.

    Returns:
        (B, T, r) in latent's dtype; padding rows are 0.

    Raises:
        ValueError: down_rate < 1.

    Example:
        >>> x = torch.ones(1, 3, 1)
        >>> merge_chunks(x, x[..., 0], torch.arange(3)[None], 2).flatten().tolist()
        [1.0, 2.0, 1.0]
    """
    require_integer("down_rate", down_rate)
    weight = accurate(weight).masked_fill(position < 0, 0.0)
    weighted = accurate(latent) * weight[..., None]
    size = latent.size(1)
    blocks = F.pad(weighted, (0, 0, 0, -size % down_rate)).unflatten(1, (-1, down_rate))
    # additions of whole slices: a cumulative sum over so short an axis is slower everywhere
    sums = itertools.accumulate(blocks.unbind(dim=2))
    merged = torch.stack(list(sums), dim=2).flatten(1, 2)[:, :size]
    return merged.masked_fill((position < 0)[..., None], 0.0).to(latent.dtype)


class HyperNetwork(nn.Module):
    """The weight of a position's latent in its chunk: sigmoid(fc_c(PE(j)) . fc_p(c)).

    Args:
        rank: r, even; the two projections are r -> r / 4, always with bias.
    """

    def __init__(self, rank: int):
        super().__init__()
        self.rank = rank
        self.fc_c = nn.Linear(rank, rank // 4)
        self.fc_p = nn.Linear(rank, rank // 4)

    def encode(self, chunk: Tensor) -> Tensor:
        """Return PE(j) of int64 chunk numbers as the first projection takes it."""
        return chunk_encoding(chunk, self.rank).to(self.fc_c.weight.dtype)

    def forward(self, latent: Tensor, encoding: Tensor, repeats: int = 1) -> Tensor:
        """Return the weights.

        Args:
            latent: (B, T, r).
            encoding: (..., r) of `encode`, its chunks broadcast against (B, T) after
                `repeats`.
            repeats: each number stands for so many positions in a row; the last
                ones may be cut.

        Returns:
            (B, T) float32.
        """
        code = self.fc_c(encoding)
        if repeats > 1:
            code = code.repeat_interleave(repeats, dim=-2)[..., : latent.size(1), :]
        return (accurate(code) * accurate(self.fc_p(latent))).sum(dim=-1).sigmoid()


class TemporalLatent(Latent):
    """MLA whose latents are merged over chunks of `down_rate` consecutive positions.

    The equations stand at the head of this module.

    Args:
        embed_dim: d.
        num_heads: H.
        dropout: of the attention weights.
        down_rate: s, positions merged into one slot.
        merge: `sum`, weighted by the hyper-network, as in the paper; `softmax`: over the
            chunk, channel by channel, and the own chunk is seen position by position. Over all
            positions at once its scores have a dense mask, T x (T + T / s) numbers a head.
        latent: the options of `Latent`; `kv_lora_rank` is at least 4, and the
            hyper-network has biases even where `bias` is false.

    Raises:
        ValueError: as `Latent`, `down_rate` < 1, or an unknown `merge`.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        *,
        down_rate: int = 2,
        merge: str = "sum",
        **latent,
    ):
        if merge not in MERGES:
            raise ValueError(f"merge: {merge!r} is unknown; choose {' or '.join(MERGES)}")
        super().__init__(embed_dim, num_heads, dropout, **latent)
        self.down_rate, self.merge = require_integer("down_rate", down_rate), merge
        require_integer("kv_lora_rank", self.kv_lora_rank, least=4)
        window = merge == "softmax"
        self.slot = replace(self.slot, down_rate=self.down_rate, window=window)
        if window:
            self.window_softmax = WindowSoftmax(self.kv_lora_rank, self.down_rate)
        else:
            self.hypernet_down = HyperNetwork(self.kv_lora_rank)

    @property
    def merge_window(self) -> WindowSoftmax | None:
        """What makes a slot of a full chunk's positions; None: they are added up as they come."""
        return self.window_softmax if self.slot.window else None

    @property
    def gates(self) -> Callable[[Tensor], tuple[Tensor, Tensor]] | None:
        """The hyper-network as a dot product a chunk; None: latents are not weighted."""
        return None if self.slot.window else self._gates

    @torch.no_grad()
    def _gates(self, chunk: Tensor) -> tuple[Tensor, Tensor]:
        """Return the hyper-network as a dot product a chunk.

        sigmoid(fc_c(PE(j)) . fc_p(c)) = sigmoid((fc_c(PE(j)) W_p) . c + fc_c(PE(j)) . b_p).

        Args:
            chunk: (J,) int64.

        Returns:
            (J, r) and (J,), in float32 at least.
        """
        network = self.hypernet_down
        code, gate = network.fc_c, network.fc_p
        parts = network.encode(chunk), code.weight, code.bias, gate.weight, gate.bias
        return gates(*map(accurate, parts))[1:]

    def entries(self, key: Tensor, key_position: Positions) -> Tensor:
        """Return [partial of the position's chunk ; its rotary key], (B, T, r + rope).

        Merged by a softmax, slots are made of what each position alone has: that is returned.
        """
        if self.slot.window:
            return SelfAttention.entries(self, key, key_position)
        joint = self.wkv_a(key)
        name = "chunks", self.down_rate, self.kv_lora_rank, self.hypernet_down.fc_c.weight.dtype
        encoding = key_position.once(name, lambda: self._encoded_chunks(key))
        if self.kv_norm is not None and choose.runs_triton(joint):
            code, gate = self.hypernet_down.fc_c, self.hypernet_down.fc_p
            network = encoding, code.weight, code.bias, gate.weight, gate.bias
            return self._entries_triton(joint, key_position, network)
        latent, rope = self.made(joint, key_position)
        weight = self.hypernet_down(latent, encoding, repeats=self.down_rate)
        merged = merge_chunks(latent, weight, key_position.index, self.down_rate)
        return torch.cat((merged, rope), dim=-1)

    def _encoded_chunks(self, key: Tensor) -> Tensor:
        """Return PE of all chunks of (B, T, d), (J, r)."""
        chunks = -(-key.size(1) // self.down_rate)
        return self.hypernet_down.encode(torch.arange(chunks, device=key.device))

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        query_position: Positions,
        key_position: Positions,
    ) -> Tensor:
        """Attend as MLA does, to finished chunks and the own one."""
        if not self.slot.window:
            return super().forward(query, key, query_position, key_position)
        q = self.turned(self.heads(query), query_position).transpose(1, 2)
        entry = self.entries(key, key_position)
        merged = finished_slots(entry, self.down_rate, self.merge_window)
        k, v = self.key_value(torch.cat((merged, entry), dim=1))
        rate, size = self.down_rate, entry.size(1)
        mask = query_position.once(
            ("windows", rate, size, q.dtype),
            lambda: sdpa.kernel_mask(seen_slots_and_own(query_position.index, size, rate), q),
        )
        dropout = self.dropout if self.training else 0.0
        keys = k.transpose(1, 2), v.transpose(1, 2)
        return self._output(sdpa.attend_masked(q, *keys, mask, self.softmax_scale, dropout))

    def _chunks_and_own(self, position: Tensor, size: int, query: Tensor) -> tuple[Tensor, Tensor]:
        """Return where finished chunks and own partials lie, and who sees which.

        Args:
            position: (B, L) of the queries.
            size: T, positions.
            query: (B, H, L, D).

        Returns:
            (B, J + L, 1) int64, and the mask (B, 1, L, J + L) of `sdpa.kernel_mask`.
        """
        rate = self.down_rate
        chunk = torch.arange(size // rate, device=position.device)
        last = (chunk * rate + rate - 1).expand(len(position), -1)
        rows = torch.cat((last, position.clamp_min(0)), dim=1)
        before = chunk < (position // rate)[..., None]
        own = torch.eye(position.size(1), dtype=torch.bool, device=position.device)
        seen = torch.cat((before, own.expand(len(before), -1, -1)), dim=-1)
        return rows[..., None], sdpa.kernel_mask(seen[:, None], query)

    def _attend(
        self, query: Tensor, entry: Tensor, query_position: Positions, key_position: Positions
    ) -> Tensor:
        """Attend from each query to the finished chunks before its own, and to its own partial."""
        rate = self.down_rate
        if rate == 1:  # the own partial is the chunk
            return super()._attend(query, entry, query_position, key_position)
        dropout = self.dropout if self.training else 0.0
        query = query.transpose(1, 2)
        if query.is_cuda:  # one fused kernel, where launches cost more than the work
            rows, mask = query_position.once(
                ("chunks and own", key_position, rate, query.dtype),
                lambda: self._chunks_and_own(query_position.index, entry.size(1), query),
            )
            rows = entry.gather(1, rows.expand(-1, -1, entry.size(-1)))
            key, value = (x.transpose(1, 2) for x in self.key_value(rows))
            scale = self.softmax_scale
            return self._output(sdpa.attend_masked(query, key, value, mask, scale, dropout))
        own = entry
        if query_position is not key_position:
            index = query_position.index.clamp_min(0)[..., None]
            own = entry.gather(1, index.expand(-1, -1, entry.size(-1)))
        own, chunks = (
            [x.transpose(1, 2) for x in self.key_value(each)]
            for each in (own, entry[:, rate - 1 :: rate])
        )
        before = torch.arange(chunks[0].size(2), device=query.device)
        before = before < (query_position.index // rate)[:, None, :, None]
        scale = self.softmax_scale
        return self._output(sdpa.attend_with_own(query, *chunks, before, *own, scale, dropout))

    def _output(self, attended: Tensor) -> Tensor:
        """(B, H, L, v) -> (B, L, d)."""
        return self.wo(attended.transpose(1, 2).flatten(2))
