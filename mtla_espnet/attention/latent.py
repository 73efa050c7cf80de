"""What a latent kind caches of every position, as one custom operator on CUDA.

LayerNorm, rotary key, and for MTLA the weights of latents and their sums inside chunks:
dozens of small operations in `mla.py` and `mtla.py`, whose launches take longer than their
work. The hyper-network's second projection is moved to the chunks' side of the product,
fc_c(PE(j)) . (W c + b) = (fc_c(PE(j)) W) . c + fc_c(PE(j)) . b, so that a position costs
one dot product.
"""

import torch
from torch import Tensor


def latent_entries(
    joint: Tensor,
    gain: Tensor,
    bias: Tensor,
    gate: Tensor | None,
    offset: Tensor | None,
    position: Tensor,
    cosine: Tensor,
    sine: Tensor,
    down_rate: int,
    eps: float,
) -> Tensor:
    """Return [latent or partial of its chunk ; turned rotary key] of every position.

    Args:
        joint: (B, T, r + rope) [latent before LayerNorm ; rotary key before its turn].
        gain: (r,) of LayerNorm.
        bias: (r,) likewise.
        gate: (J, r): a position's weight is sigmoid(gate[j] . latent + offset[j]); None:
            latents are not weighted and not merged, and `down_rate` is 1.
        offset: (J,) or None.
        position: (B or 1, T) int64, -1 where padded.
        cosine: (B or 1, T, rope / 2) float32, of the rotary angles.
        sine: likewise.
        down_rate: s.
        eps: of LayerNorm.

    Returns:
        (B, T, r + rope) in joint's dtype; latents are 0 in padding if they are merged.
    """
    return _entries(joint, gain, bias, gate, offset, position, cosine, sine, down_rate, eps)


@torch.library.custom_op("mtla_espnet::latent_entries", mutates_args=())
def _entries(
    joint: Tensor,
    gain: Tensor,
    bias: Tensor,
    gate: Tensor | None,
    offset: Tensor | None,
    position: Tensor,
    cosine: Tensor,
    sine: Tensor,
    down_rate: int,
    eps: float,
) -> Tensor:
    from mtla_espnet.attention import latent_kernels  # needs Triton

    return latent_kernels.forward(
        joint.contiguous(), gain, bias, gate, offset, position, cosine, sine, down_rate, eps
    )


@_entries.register_fake
def _(joint, gain, bias, gate, offset, position, cosine, sine, down_rate, eps):
    return joint.new_empty(joint.shape)


@torch.library.custom_op("mtla_espnet::latent_entries_backward", mutates_args=())
def _entries_backward(
    grad: Tensor,
    joint: Tensor,
    gain: Tensor,
    bias: Tensor,
    gate: Tensor | None,
    offset: Tensor | None,
    position: Tensor,
    cosine: Tensor,
    sine: Tensor,
    down_rate: int,
    eps: float,
) -> list[Tensor]:
    """Return gradients of joint, gain, bias, and of gate and offset where these are given."""
    from mtla_espnet.attention import latent_kernels  # needs Triton

    return latent_kernels.backward(
        grad.contiguous(),
        joint.contiguous(),
        gain,
        bias,
        gate,
        offset,
        position,
        cosine,
        sine,
        down_rate,
        eps,
    )


@_entries_backward.register_fake
def _(grad, joint, gain, bias, gate, offset, position, cosine, sine, down_rate, eps):
    inputs = [joint, gain, bias, gate, offset]
    return [x.new_empty(x.shape) for x in inputs if x is not None]


def _setup_context(ctx, inputs, output):
    *tensors, ctx.down_rate, ctx.eps = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx, grad):
    grads = _entries_backward(grad, *ctx.saved_tensors, ctx.down_rate, ctx.eps)
    return *grads, *[None] * (10 - len(grads))


_entries.register_autograd(_backward, setup_context=_setup_context)
