"""What is done row by row around the attention over chunks, in plain PyTorch.

A row is one head of one position. Each function has a form of the same name and signature in
`chunked_triton`; what is here is what a kernel must equal, and what runs elsewhere.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mtla_espnet.attention.ops.row_sizes import RowSizes


def merge(
    output_a: Tensor, lse_a: Tensor, output_b: Tensor, lse_b: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the attention over the union of two sets of keys.

    softmax over a and b = (e^lse_a * output_a + e^lse_b * output_b) / (e^lse_a + e^lse_b).

    Args:
        output_a: (..., D), attention over the first keys.
        lse_a: (...), log-sum-exp of its scores, float32; -inf where it saw none.
        output_b: (..., D), over the second keys.
        lse_b: (...), of its scores; not -inf where `lse_a` is.

    Returns:
        Output (..., D) in the dtype of `output_a`, and log-sum-exp (...).
    """
    lse = torch.logaddexp(lse_a, lse_b)
    share_a, share_b = (lse_a - lse).exp()[..., None], (lse_b - lse).exp()[..., None]
    return (output_a * share_a + output_b * share_b).to(output_a.dtype), lse


def _chunks(x: Tensor, down_rate: int) -> Tensor:
    """(B, T, ...) -> (B, J, s, ...); what is past T is 0."""
    missing = -x.size(1) % down_rate
    if missing:
        x = F.pad(x, (0, 0) * (x.dim() - 2) + (0, missing))
    return x.unflatten(1, (-1, down_rate))


def _positions(x: Tensor, size: int) -> Tensor:
    """(B, J, s, ...) -> (B, T = size, ...), contiguous."""
    return x.flatten(1, 2)[:, :size].contiguous()


def _rows(folded: Tensor, heads: int) -> Tensor:
    """(B, J, H * s, D) -> (B, J, s, H, D), a view."""
    return folded.unflatten(2, (heads, -1)).transpose(2, 3)


def _rows_of_kernel(x: Tensor, heads: int) -> Tensor:
    """(B, H * s, J, ...) -> (B, J, s, H, ...), a view."""
    return x.unflatten(1, (heads, -1)).movedim((3, 2), (1, 2))


def _own_scores(folded: Tensor, key_value: Tensor, scale: float, sizes: RowSizes) -> Tensor:
    """Return (B, J, s, H) float32."""
    query = _rows(folded, sizes.heads)[..., sizes.left :]
    key = _chunks(key_value, sizes.down_rate)[..., sizes.value_pad :]
    return (query.float() * key.float()).sum(-1) * scale


def fold_query(query: Tensor, cosine: Tensor, sine: Tensor, sizes: RowSizes) -> Tensor:
    """Turn the rotary part of the queries and fold residues into the heads.

    Args:
        query: (B, T, H, nope + rope), the last `rope` are turned.
        cosine: (B or 1, T, rope / 2) float32.
        sine: (B or 1, T, rope / 2) float32.
        sizes: of the problem.

    Returns:
        (B, J, H * s, width): [zeros ; rope ; nope ; zeros] a row; zero past T.
    """
    rate, begin, rope = sizes.down_rate, sizes.left, sizes.rope
    query = _chunks(query, rate)
    cosine, sine = (_chunks(x, rate)[:, :, :, None] for x in (cosine, sine))
    padded = sizes.width > sizes.nope + rope
    make = query.new_zeros if padded else query.new_empty
    folded = make(*query.shape[:2], sizes.heads * rate, sizes.width)
    rows = _rows(folded, sizes.heads)
    even, odd = query[..., sizes.nope :: 2].float(), query[..., sizes.nope + 1 :: 2].float()
    rows[..., begin : begin + rope : 2] = even * cosine - odd * sine
    rows[..., begin + 1 : begin + rope : 2] = even * sine + odd * cosine
    rows[..., begin + rope : begin + rope + sizes.nope] = query[..., : sizes.nope]
    return folded


def merge_own(
    folded: Tensor,
    key_value: Tensor,
    part: Tensor,
    lse: Tensor,
    scale: float,
    sizes: RowSizes,
    left: Tensor | None = None,
) -> Tensor:
    """Merge each position's own key into its attention over finished chunks.

    Args:
        folded: of `fold_query`.
        key_value: (B, T, H, packed), [value ; key] a row.
        part: (B, H * s, J - 1, at least v) attention of the chunks after the first.
        lse: (B, H * s, J - 1) its log-sum-exp, float32; that of all keys after the call.
        scale: of the scores.
        sizes: of the problem.
        left: (B, T, H), by which dropout multiplies own values; None: there is none.

    Returns:
        (B, T, H, v).
    """
    size, width = key_value.size(1), sizes.value_width
    score = _own_scores(folded, key_value, scale, sizes)
    value = _chunks(key_value, sizes.down_rate)[..., :width]
    if left is not None:
        value = value * _chunks(left, sizes.down_rate)[..., None]
    output = key_value.new_empty(value.shape)
    output[:, 0] = value[:, 0]
    kept = _rows_of_kernel(lse, sizes.heads)
    part = _rows_of_kernel(part, sizes.heads)[..., :width]
    output[:, 1:], whole = merge(part, kept, value[:, 1:], score[:, 1:])
    kept.copy_(whole)
    return _positions(output, size)


def backward_own(
    grad: Tensor,
    folded: Tensor,
    key_value: Tensor,
    output: Tensor,
    lse: Tensor,
    scale: float,
    sizes: RowSizes,
    value_width: int,
    left: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return what the kernel's backward takes, and the own key's part of the softmax.

    Args:
        grad: (B, T, H, v), of the output.
        folded: (B, J, H * s, width), the queries that `fold_query` returned.
        key_value: (B, T, H, packed).
        output: (B, T, H, v).
        lse: of `merge_own`.
        scale: of the scores.
        sizes: of the problem.
        value_width: of the two folded results, padded with zeros.
        left: as `merge_own` had it.

    Returns:
        Folded grad and output (B, J - first, H * s, value_width); weight of the own key
        and gradient of its unscaled score, (B, J * H * s) float32, unset where s = 1.
    """
    first, rate = sizes.first, sizes.down_rate
    grad, output = _chunks(grad, rate), _chunks(output, rate)
    shape = len(grad), grad.size(1) - first, sizes.heads * rate, value_width
    make = grad.new_zeros if value_width > sizes.value_width else grad.new_empty
    both = make(shape), make(shape)
    for target, x in zip(both, (grad, output), strict=True):
        _rows(target, sizes.heads)[..., : sizes.value_width] = x[:, first:]
    if not first:
        return *both, *lse.new_empty(2, 0)
    value = _chunks(key_value, rate)[..., : sizes.value_width].float()
    if left is not None:
        left = _chunks(left, rate)
        value = value * left[..., None]
    weight = _own_scores(folded, key_value, scale, sizes)
    weight[:, 0], kept = 1.0, _rows_of_kernel(lse, sizes.heads)
    weight[:, 1:] = (weight[:, 1:] - kept).exp_()
    weight_grad = weight * (grad.float() * (value - output.float())).sum(-1) * scale
    weight_grad[:, 0] = 0.0
    if left is not None:
        weight = weight * left
    return *both, *(x.transpose(2, 3).flatten(1) for x in (weight, weight_grad))


def gather_gradients(
    grad: Tensor,
    folded: Tensor,
    key_value: Tensor,
    cosine: Tensor,
    sine: Tensor,
    weights: tuple[Tensor, Tensor],
    parts: tuple[Tensor, Tensor, Tensor],
    sizes: RowSizes,
) -> tuple[Tensor, Tensor]:
    """Add the own key's gradients to the kernel's, unfold, and turn the queries back.

    Args:
        grad: (B, T, H, v), of the output.
        folded: of `fold_query`.
        key_value: (B, T, H, packed).
        cosine: (B or 1, T, rope / 2) float32, of the queries' angles.
        sine: (B or 1, T, rope / 2) float32, of the same angles.
        weights: the last two results of `backward_own`.
        parts: the kernel's gradients of query (B, H * s, J - first, width), key and value
            (B, H, J - first, at least their width).
        sizes: of the problem.

    Returns:
        Gradients of the unturned query (B, T, H, nope + rope) and of `key_value`.
    """
    size, rate, first, rope = grad.size(1), sizes.down_rate, sizes.first, sizes.rope
    pad, dtype = sizes.value_pad, key_value.dtype
    key_value, grad = _chunks(key_value, rate), _chunks(grad, rate)
    total = key_value.new_zeros(key_value.shape, dtype=torch.float32)
    width = sizes.packed - pad
    asked = total.new_zeros(*total.shape[:-1], width)
    if first:
        shape = len(total), total.size(1), sizes.heads, rate
        share, score_grad = (x.view(shape).transpose(2, 3)[..., None] for x in weights)
        torch.mul(share, grad, out=total[..., : sizes.value_width])
        query = _rows(folded, sizes.heads)[..., sizes.left :]
        torch.mul(score_grad, query, out=total[..., pad:])
        torch.mul(score_grad, key_value[..., pad:], out=asked)
    asked[:, first:] += _rows_of_kernel(parts[0], sizes.heads)[..., sizes.left :]
    # the chunk's share goes to its last member
    last, left = total[:, : total.size(1) - first, -1], parts[1].size(-1) - width
    last[..., pad:] += parts[1][..., left:].transpose(1, 2)
    last[..., :pad] += parts[2][..., :pad].transpose(1, 2)

    cosine, sine = (_chunks(x, rate)[:, :, :, None] for x in (cosine, sine))
    query_grad = grad.new_empty(*asked.shape[:-1], sizes.nope + rope)
    query_grad[..., : sizes.nope] = asked[..., rope : rope + sizes.nope]
    even, odd = asked[..., :rope:2], asked[..., 1:rope:2]
    query_grad[..., sizes.nope :: 2] = even * cosine + odd * sine
    query_grad[..., sizes.nope + 1 :: 2] = odd * cosine - even * sine
    return _positions(query_grad, size), _positions(total.to(dtype), size)
