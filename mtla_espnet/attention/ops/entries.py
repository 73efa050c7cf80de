"""What a latent kind caches of every position, as one operator on CUDA.

LayerNorm, rotary key, and for MTLA the weights of latents and their sums inside chunks:
dozens of small operations in `mla.py` and `mtla.py`, whose launches take longer than their
work. The hyper-network's second projection is moved to the chunks' side of the product,
fc_c(PE(j)) . (W c + b) = (fc_c(PE(j)) W) . c + fc_c(PE(j)) . b, so that a position costs
one dot product.
"""

import torch
from torch import Tensor

from mtla_espnet.attention.ops.autograd import operator


def latent_entries(
    joint: Tensor,
    gain: Tensor,
    bias: Tensor,
    network: tuple[Tensor, Tensor, Tensor, Tensor, Tensor] | None,
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
        bias: (r,) of LayerNorm.
        network: the hyper-network's input PE(j), (J, r), then weight (r / 4, r) and bias
            (r / 4,) of fc_c and of fc_p. None: latents are not weighted and not merged,
            and `down_rate` is 1.
        position: (B or 1, T) int64, -1 where padded.
        cosine: (B or 1, T, rope / 2) float32, of the rotary angles.
        sine: (B or 1, T, rope / 2) float32, of the same angles.
        down_rate: s.
        eps: of LayerNorm.

    Returns:
        (B, T, r + rope) in joint's dtype; latents are 0 in padding if they are merged.
    """
    network = network or (None,) * 5
    return _entries(joint, gain, bias, *network, position, cosine, sine, down_rate, eps)[0]


def gates(
    encoding: Tensor, code_weight: Tensor, code_bias: Tensor, weight: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the hyper-network on the chunks' side.

    Args:
        encoding: (J, r), PE of chunks.
        code_weight: (r / 4, r) of fc_c.
        code_bias: (r / 4,) of fc_c.
        weight: (r / 4, r) of fc_p.
        bias: (r / 4,) of fc_p.

    Returns:
        fc_c(PE) (J, r / 4), gate (J, r) and offset (J,): the weight of latent c in chunk j
        is sigmoid(gate[j] . c + offset[j]).
    """
    chunks, rank = encoding.shape
    code = encoding.new_empty(chunks, len(code_bias))
    gate, offset = encoding.new_empty(chunks, rank), encoding.new_empty(chunks)
    # `out`: autocast would round
    torch.addmm(code_bias, encoding, code_weight.t(), out=code)
    torch.mm(code, weight, out=gate)
    torch.mv(code, bias, out=offset)
    return code, gate, offset


def _forward(
    joint: Tensor,
    gain: Tensor,
    bias: Tensor,
    encoding: Tensor | None,
    code_weight: Tensor | None,
    code_bias: Tensor | None,
    gate_weight: Tensor | None,
    gate_bias: Tensor | None,
    position: Tensor,
    cosine: Tensor,
    sine: Tensor,
    down_rate: int,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the entries, and what `gates` returns, empty where latents are not weighted."""
    from mtla_espnet.attention.ops import entries_triton  # needs Triton

    if encoding is None:
        found = tuple(joint.new_empty(0) for _ in range(3))
    else:
        found = gates(encoding, code_weight, code_bias, gate_weight, gate_bias)
    entry = entries_triton.forward(
        joint.contiguous(), gain, bias, *_gate_and_offset(found), position, cosine, sine,
        down_rate, eps,
    )  # fmt: skip
    return entry, *found


def _gate_and_offset(found):
    return found[1:] if found[0].numel() else (None, None)


def _fake(
    joint, gain, bias, encoding, code_weight, code_bias, gate_weight, gate_bias,
    position, cosine, sine, down_rate, eps,
):  # fmt: skip
    entry = joint.new_empty(joint.shape)
    if encoding is None:
        return entry, *(joint.new_empty(0) for _ in range(3))
    chunks, rank = encoding.shape
    shapes = (chunks, len(code_bias)), (chunks, rank), (chunks,)
    return entry, *(encoding.new_empty(shape) for shape in shapes)


def _backward(
    grad: Tensor,
    joint: Tensor,
    gain: Tensor,
    bias: Tensor,
    encoding: Tensor | None,
    gate_weight: Tensor | None,
    gate_bias: Tensor | None,
    position: Tensor,
    cosine: Tensor,
    sine: Tensor,
    code: Tensor,
    gate: Tensor,
    offset: Tensor,
    down_rate: int,
    eps: float,
) -> list[Tensor]:
    """Return gradients of joint, of [gain ; bias], and of the network's weights and biases."""
    from mtla_espnet.attention.ops import entries_triton  # needs Triton

    joint_grad, norm_grad, *rest = entries_triton.backward(
        grad.contiguous(), joint.contiguous(), gain, bias,
        *_gate_and_offset((code, gate, offset)), position, cosine, sine, down_rate, eps,
    )  # fmt: skip
    if not rest:
        return [joint_grad, norm_grad]
    gate_grad, offset_grad = rest
    code_grad = torch.addr(gate_grad @ gate_weight.t(), offset_grad, gate_bias)
    return [
        joint_grad,
        norm_grad,
        code_grad.t() @ encoding,
        code_grad.sum(dim=0),
        code.t() @ gate_grad,
        code.t() @ offset_grad,
    ]


def _fake_backward(
    grad, joint, gain, bias, encoding, gate_weight, gate_bias,
    position, cosine, sine, code, gate, offset, down_rate, eps,
):  # fmt: skip
    grads = [joint.new_empty(joint.shape), gain.new_empty(2, *gain.shape)]
    if encoding is not None:
        for one in (gate_weight, gate_bias) * 2:
            grads.append(one.new_empty(one.shape))
    return grads


def _save(ctx, inputs, output):
    *tensors, ctx.down_rate, ctx.eps = inputs
    ctx.set_materialize_grads(False)  # of all but the entries
    ctx.save_for_backward(*tensors[:4], *tensors[6:], *output[1:])


def _gradients(ctx, backward, grad, *_):
    joint, norm, *network = backward(grad, *ctx.saved_tensors, ctx.down_rate, ctx.eps)
    return joint, *norm.unbind(), None, *(network or [None] * 4), *[None] * 5


_entries = operator(
    "mtla_espnet::latent_entries", _forward, _fake, _backward, _fake_backward, _save, _gradients
)
