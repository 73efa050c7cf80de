"""What a latent kind caches of every position, as one custom operator on CUDA.

LayerNorm, rotary key, and for MTLA the weights of latents and their sums inside chunks:
dozens of small operations in `mla.py` and `mtla.py`, whose launches take longer than their
work. The hyper-network's second projection is moved to the chunks' side of the product,
fc_c(PE(j)) . (W c + b) = (fc_c(PE(j)) W) . c + fc_c(PE(j)) . b, so that a position costs
one dot product.
"""

from torch import Tensor

from mtla_espnet.attention.operator import operator


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


def _forward(
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


def _fake(joint, gain, bias, gate, offset, position, cosine, sine, down_rate, eps):
    return joint.new_empty(joint.shape)


def _backward(
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
    """Return gradients of joint, of [gain ; bias], and of gate and offset where given."""
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


def _fake_backward(
    grad, joint, gain, bias, gate, offset, position, cosine, sine, down_rate, eps
):  # fmt: skip
    norm = gain.new_empty(2, *gain.shape)
    gates = [x.new_empty(x.shape) for x in (gate, offset) if x is not None]
    return [joint.new_empty(joint.shape), norm, *gates]


def _save(ctx, inputs, output):
    *tensors, ctx.down_rate, ctx.eps = inputs
    ctx.save_for_backward(*tensors)


def _gradients(ctx, backward, grad):
    joint, norm, *gates = backward(grad, *ctx.saved_tensors, ctx.down_rate, ctx.eps)
    grads = joint, *norm.unbind(), *gates
    return *grads, *[None] * (10 - len(grads))


_entries = operator(
    "mtla_espnet::latent_entries", _forward, _fake, _backward, _fake_backward, _save, _gradients
)
