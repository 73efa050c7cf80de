"""Functions with a backward of their own, for torch.compile and for eager calls."""

from collections.abc import Callable

import torch
from torch.autograd.function import once_differentiable


def operator(
    name: str,
    forward: Callable,
    fake: Callable,
    backward: Callable,
    fake_backward: Callable,
    save: Callable,
    gradients: Callable,
) -> Callable:
    """Return `forward` with a backward.

    Called while torch.compile traces, forward and backward are two custom operators, so
    that it takes what is around them as a whole. Else they are an autograd.Function: an
    operator costs 0.1 ms of Python a call more, and updates on a GPU wait for the host.

    Args:
        name: of the forward's operator; the backward's ends in `_backward`.
        forward: with annotated arguments and results, which make the operator's schema.
            It must not depend on autocast, which operators do not see; products write to
            `out=`, which autocast leaves alone (to switch it off takes 0.05 ms).
        fake: of the forward, on tensors without data.
        backward: with annotated arguments and results, which make its operator's schema.
        fake_backward: of the backward.
        save: (context, inputs, output), as `setup_context` of an operator.
        gradients: (context, backward, *gradients of the output): calls the backward that
            it is given, and returns a gradient an input of the forward.
    """
    forward_operator = torch.library.custom_op(name, forward, mutates_args=())
    forward_operator.register_fake(fake)
    backward_operator = torch.library.custom_op(f"{name}_backward", backward, mutates_args=())
    backward_operator.register_fake(fake_backward)
    forward_operator.register_autograd(
        lambda ctx, *grads: gradients(ctx, backward_operator, *grads), setup_context=save
    )

    class Eager(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *inputs):
            output = forward(*inputs)
            save(ctx, inputs, output)
            return output

        @staticmethod
        @once_differentiable
        def backward(ctx, *grads):
            return gradients(ctx, backward, *grads)

    def call(*inputs):
        return (forward_operator if torch.compiler.is_compiling() else Eager.apply)(*inputs)

    return call
