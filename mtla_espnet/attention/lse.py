"""Merge of two softmax attentions over disjoint keys by their log-sum-exp."""

import torch
from torch import Tensor


def merge(
    output_a: Tensor, lse_a: Tensor, output_b: Tensor, lse_b: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the attention over the union of two sets of keys.

    softmax over a and b = (e^lse_a * output_a + e^lse_b * output_b) / (e^lse_a + e^lse_b).

    Args:
        output_a: (..., D), attention over the first keys.
        lse_a: (...), log-sum-exp of its scores, float32; -inf where it saw none.
        output_b: (..., D), over the second keys.
        lse_b: (...), likewise; not -inf where `lse_a` is.

    Returns:
        Output (..., D) in the dtype of `output_a`, and log-sum-exp (...).
    """
    lse = torch.logaddexp(lse_a, lse_b)
    share_a, share_b = (lse_a - lse).exp()[..., None], (lse_b - lse).exp()[..., None]
    return (output_a * share_a + output_b * share_b).to(output_a.dtype), lse
