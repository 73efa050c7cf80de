"""Which path computes an attention, and why; the kernels behind one signature.

Two choices are made here and nowhere else:

- `attend`: scaled dot products of queries and keys at given positions. Where the
  queries are all the keys, causality alone hides the right padding, so PyTorch's
  fused kernel runs without a mask; else a boolean mask is handed to it.
- `fold_kernel`: whether a kernel is at hand that returns the log-sum-exp, which
  the folded MTLA needs. Only kernels that are the same forward and backward
  are used; everything else takes the plain path.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mtla_espnet.position import accurate

_HALF = (torch.float16, torch.bfloat16)


def visible(query_position: Tensor, key_position: Tensor) -> Tensor:
    """Return (B, 1, L, T) bool: which keys a query sees.

    A padded query (-1) sees the key at position 0, so that no row is empty.
    """
    key = key_position[:, None, None, :]
    return (key >= 0) & (key <= query_position.clamp_min(0)[:, None, :, None])


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_position: Tensor,
    key_position: Tensor,
    scale: float,
    dropout: float = 0.0,
) -> Tensor:
    """Causal attention over true positions.

    Args:
        query: (B, H, L, D).
        key: (B, G, T, D), G divides H.
        value: (B, G, T, Dv).
        query_position: (B, L) int64; the object `key_position` where all keys ask.
        key_position: (B, T) int64, unpadded first, then -1.
        scale: of the scores.
        dropout: of the weights.

    Returns:
        (B, H, L, Dv).
    """
    causal = query_position is key_position
    mask = None if causal else visible(query_position, key_position)
    return F.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        dropout_p=dropout,
        is_causal=causal,
        scale=scale,
        enable_gqa=query.size(1) != key.size(1),
    )


def attend_cached(query: Tensor, prefix: tuple, suffix: tuple, scale: float) -> Tensor:
    """One softmax over a prefix shared by hypotheses and each one's own suffix.

    The hypotheses of an utterance and the query heads of a key head are folded
    into one query axis, so the prefix is read once an utterance by a matrix
    product, not once a hypothesis.

    Args:
        query: (N, G, R, D): R query heads of each key head.
        prefix: key (B, G, P, D), value (B, G, P, Dv), mask (B, P) bool or None.
        suffix: key (N, G, S, D), value (N, G, S, Dv), mask (N, S) bool or None.
        scale: of the scores.

    Returns:
        (N, G, R, Dv).
    """
    rows, batch = query.size(0), prefix[0].size(0)

    def fold(x: Tensor) -> Tensor:  # (N, G, R, ...) -> (B, G, N / B * R, ...)
        return x.unflatten(0, (batch, rows // batch)).transpose(1, 2).flatten(2, 3)

    def unfold(x: Tensor) -> Tensor:
        return x.unflatten(2, (rows // batch, -1)).transpose(1, 2).flatten(0, 1)

    scores = [
        unfold(fold(query) @ prefix[0].transpose(-1, -2)),
        query @ suffix[0].transpose(-1, -2),
    ]
    if prefix[2] is not None:
        mask = prefix[2].repeat_interleave(rows // batch, dim=0)[:, None, None]
        scores[0] = scores[0].masked_fill(~mask, float("-inf"))
    if suffix[2] is not None:
        scores[1] = scores[1].masked_fill(~suffix[2][:, None, None], float("-inf"))
    sizes = [score.size(-1) for score in scores]
    weight = (accurate(torch.cat(scores, dim=-1)) * scale).softmax(dim=-1).to(query.dtype)
    shared, own = weight.split(sizes, dim=-1)
    return unfold(fold(shared) @ prefix[1]) + own @ suffix[1]


def attend_with_own(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor,
    own_key: Tensor,
    own_value: Tensor,
    scale: float,
    dropout: float = 0.0,
) -> Tensor:
    """One softmax over masked keys and one further key that is the query's own.

    Args:
        query: (B, H, L, D).
        key: (B, H, J, D).
        value: (B, H, J, Dv).
        mask: (B, 1, L, J) bool, true where a key is seen; a row may be empty.
        own_key: (B, H, L, D).
        own_value: (B, H, L, Dv).
        scale: of the scores.
        dropout: of the weights.

    Returns:
        (B, H, L, Dv).
    """
    scores = (query @ key.transpose(-1, -2)).masked_fill(~mask, float("-inf"))
    own = (query * own_key).sum(dim=-1, keepdim=True)
    weight = (accurate(torch.cat((scores, own), dim=-1)) * scale).softmax(dim=-1)
    weight = F.dropout(weight.to(value.dtype), dropout, training=dropout > 0)
    return weight[..., :-1] @ value + weight[..., -1:] * own_value


def fold_kernel(query: Tensor, dropout: float) -> str | None:
    """Return which kernel serves the folded MTLA: 'cpu', 'cuda' or None.

    On a CPU PyTorch's flash kernel takes float32, bfloat16 and float16. On CUDA
    FlashAttention takes half precision alone. Neither returns a log-sum-exp under
    dropout of the weights, which then takes the plain path.
    """
    if dropout > 0 or query.dtype == torch.float64:
        return None
    if query.device.type == "cpu":
        return "cpu"
    if query.device.type == "cuda" and query.dtype in _HALF:
        return "cuda" if torch.cuda.get_device_capability(query.device) >= (8, 0) else None
    return None


def fold_width(kernel: str, key_width: int, value_width: int) -> int:
    """Return the width that keys and values are padded to: equal, on CUDA in eights."""
    width = max(key_width, value_width)
    return -(-width // 8) * 8 if kernel == "cuda" else width


def fold_states(kernel: str, query: Tensor) -> tuple[Tensor, Tensor]:
    """Return empty tensors of the shape and type of a kernel's random states."""
    if kernel == "cpu":
        return query.new_empty(0), query.new_empty(0)
    return (
        query.new_empty(2, dtype=torch.uint64),
        query.new_empty((), dtype=torch.uint64),
    )


def fold_forward(
    kernel: str, query: Tensor, key: Tensor, value: Tensor, scale: float
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Causal attention that also returns its log-sum-exp.

    Args:
        kernel: of `fold_kernel`.
        query: (B, H, T, D).
        key: (B, H, T, D).
        value: (B, H, T, D), all of `fold_width`.
        scale: of the scores.

    Returns:
        Output (B, H, T, D), log-sum-exp (B, H, T) float32, and the two random states
        that the backward of this kernel takes.
    """
    aten = torch.ops.aten
    if kernel == "cpu":
        output, lse = aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, True, attn_mask=None, scale=scale
        )
        return output, lse, fold_states(kernel, query)
    output, lse, _, _, _, _, seed, offset, _ = aten._scaled_dot_product_flash_attention(
        query, key, value, 0.0, True, False, scale=scale
    )
    return output, lse, (seed, offset)


def fold_backward(
    kernel: str,
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: Tensor,
    lse: Tensor,
    states: tuple[Tensor, Tensor],
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Backward of `fold_forward` for a given output and log-sum-exp.

    Handing in those of a larger softmax gives the gradients of this part of it.

    Returns:
        Gradients of query, key, value.
    """
    aten = torch.ops.aten
    if kernel == "cpu":
        return aten._scaled_dot_product_flash_attention_for_cpu_backward(
            grad, query, key, value, output, lse, 0.0, True, attn_mask=None, scale=scale
        )
    size = query.size(2)
    return aten._scaled_dot_product_flash_attention_backward(
        grad,
        query,
        key,
        value,
        output,
        lse,
        None,
        None,
        size,
        size,
        0.0,
        True,
        *states,
        scale=scale,
    )
