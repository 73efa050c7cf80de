"""Scaled dot products over true positions; PyTorch's kernels behind one signature."""

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from mtla_espnet.attention.ops.choose import switches
from mtla_espnet.position import Positions, accurate

# The memory-efficient kernel's log-sum-exp has a multiple of so many rows, infinite at the end.
_EFFICIENT_ROWS = 32
# Kernels that know no key head of several query heads.
_WITHOUT_GROUPS = ("cpu", "efficient")


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
    query_position: Positions,
    key_position: Positions,
    scale: float,
    dropout: float = 0.0,
) -> Tensor:
    """Causal attention over true positions.

    Args:
        query: (B, H, L, D).
        key: (B, G, T, D), G divides H.
        value: (B, G, T, Dv).
        query_position: of (B, L); the object `key_position` where all keys ask.
        key_position: of (B, T), unpadded first, then -1.
        scale: of the scores.
        dropout: of the weights.

    Returns:
        (B, H, L, Dv).
    """
    mask = None
    if query_position is not key_position:
        mask = query_position.once(
            ("visible", key_position, query.dtype),
            lambda: kernel_mask(visible(query_position.index, key_position.index), query),
        )
    return attend_masked(query, key, value, mask, scale, dropout)


def kernel_mask(seen: Tensor, query: Tensor) -> Tensor:
    """Return a boolean mask in the form that PyTorch's attention takes as it is.

    On CUDA that is what is added to scores, in rows of a multiple of 16 numbers: it makes
    that of a boolean mask at each call, and all layers have the same mask.

    Args:
        seen: (B, 1, L, T) bool.
        query: of the layers, for its dtype and device.
    """
    if not query.is_cuda:
        return seen
    size = seen.size(-1)
    rows = query.new_zeros(*seen.shape[:-1], -(-size // 16) * 16)
    return rows[..., :size].masked_fill_(~seen, float("-inf"))


def attend_masked(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scale: float,
    dropout: float = 0.0,
) -> Tensor:
    """PyTorch's attention: (B, H, L, Dv).

    Args:
        query: (B, H, L, D).
        key: (B, G, T, D), G divides H.
        value: (B, G, T, Dv).
        mask: of `kernel_mask`; None: causal.
        scale: of the scores.
        dropout: of the weights.
    """
    with _kernels(query):
        return F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask,
            dropout_p=dropout,
            is_causal=mask is None,
            scale=scale,
            enable_gqa=query.size(1) != key.size(1),
        )


def _kernels(query: Tensor) -> AbstractContextManager:
    """Keep PyTorch's attention from cuDNN, its first choice on an H200, if it has another.

    cuDNN spends 0.15 s on every new shape, and ragged batches are all of a new shape.
    Whoever has fixed shapes switches flash off by `torch.nn.attention.sdpa_kernel`.
    """
    if query.is_cuda and all(switches()[:2]):
        return sdpa_kernel(
            [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
        )
    return nullcontext()


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


def _for_each_head(query: Tensor, *shared: Tensor) -> list[Tensor]:
    """(B, G, T, D) -> (B, H, T, D), a copy for each head of the query (B, H, ...)."""
    return [x.repeat_interleave(query.size(1) // x.size(1), dim=1) for x in shared]


def kernel_forward(
    kernel: str, query: Tensor, key: Tensor, value: Tensor, scale: float, dropout: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Causal attention that also returns its log-sum-exp.

    Args:
        kernel: of `choose.chunked_kernel`; all but 'cudnn' want one width, on CUDA in eights.
        query: (B, H, T, D).
        key: (B, G, T, D), G divides H; 'cpu' and 'efficient' get a copy for each query head.
        value: (B, G, T, Dv).
        scale: of the scores.
        dropout: of the weights, with 'efficient' alone.

    Returns:
        Output (B, H, T, Dv), log-sum-exp (B, H, T) float32, and the state of dropout (2,)
        int64, where the backward wants it: on the CPU, but in a CUDA graph.
    """
    aten = torch.ops.aten
    if kernel in _WITHOUT_GROUPS:
        key, value = _for_each_head(query, key, value)
    state = torch.zeros(2, dtype=torch.int64, device="cpu")
    if kernel == "cpu":
        output, lse = aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, True, attn_mask=None, scale=scale
        )
    elif kernel == "flash":
        output, lse, *_ = aten._scaled_dot_product_flash_attention(
            query, key, value, 0.0, True, False, scale=scale
        )
    elif kernel == "efficient":
        output, lse, *parts = aten._scaled_dot_product_efficient_attention(
            query, key, value, None, True, dropout, True, scale=scale
        )
        lse = lse[..., : query.size(2)]  # rows are filled up
        if dropout:
            state = torch.stack([part.reshape(()) for part in parts])
    else:
        output, lse, *_ = aten._scaled_dot_product_cudnn_attention(
            query, key, value, None, True, 0.0, True, False, scale=scale
        )
        lse = lse.view(query.shape[:3])
    return output, lse, state


def kernel_backward(
    kernel: str,
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: Tensor,
    lse: Tensor,
    scale: float,
    dropout: float = 0.0,
    state: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Backward of `kernel_forward` for a given output and log-sum-exp.

    Handing in those of a larger softmax gives the gradients of this part of it. `state` is
    that of the forward, which 'efficient' alone needs.

    Returns:
        Gradients of query, key, value; the last two in float32 where they are sums of copies.
    """
    groups = key.size(1)
    if kernel in _WITHOUT_GROUPS and groups < query.size(1):
        copies = _for_each_head(query, key, value)
        query_grad, *grads = kernel_backward(
            kernel, grad, query, *copies, output, lse, scale, dropout, state
        )
        shared = (x.unflatten(1, (groups, -1)).sum(2, dtype=torch.float32) for x in grads)
        return query_grad, *shared
    aten = torch.ops.aten
    tensors = grad, query, key, value, output
    if kernel == "cpu":
        return aten._scaled_dot_product_flash_attention_for_cpu_backward(
            *tensors, lse, 0.0, True, attn_mask=None, scale=scale
        )
    size = query.size(2)
    if kernel == "efficient":
        seed, offset = state.unbind()
        filled = F.pad(lse, (0, -size % _EFFICIENT_ROWS), value=float("inf"))
        *grads, _ = aten._scaled_dot_product_efficient_attention_backward(
            grad, query, key, value, None, output, filled, seed, offset, dropout,
            [True, True, True, False], True, scale=scale,
        )  # fmt: skip
        return tuple(grads)
    nothing = lse.new_empty((), dtype=torch.int64)  # of dropout, which there is none of
    if kernel == "flash":
        return aten._scaled_dot_product_flash_attention_backward(
            *tensors, lse, None, None, size, size, 0.0, True, nothing, nothing, scale=scale
        )
    return aten._scaled_dot_product_cudnn_attention_backward(
        *tensors,
        lse[..., None],
        nothing,
        nothing,
        None,
        None,
        None,
        size,
        size,
        0.0,
        True,
        scale=scale,
    )
