import torch
from torch import Tensor

from mtla_espnet.attention.ops.autograd import operator


def _forward(x: Tensor, y: Tensor, times: int) -> tuple[Tensor, Tensor]:
    product = x * y * times
    return product, product.sum()


def _backward(grad: Tensor, x: Tensor, y: Tensor, times: int) -> list[Tensor]:
    return [grad * y * times, grad * x * times]


def _save(ctx, inputs, output):
    x, y, ctx.times = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, y)


scaled_product = operator(
    "mtla_espnet_test::scaled_product",
    _forward,
    lambda x, y, times: (torch.empty_like(x), x.new_empty(())),
    _backward,
    lambda grad, x, y, times: [torch.empty_like(x), torch.empty_like(y)],
    _save,
    lambda ctx, backward, grad, *_: (*backward(grad, *ctx.saved_tensors, ctx.times), None),
)


def test_eager_and_compiled_calls_give_the_same_with_gradients():
    torch._dynamo.reset()
    x, y = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    compiled = torch.compile(
        lambda x, y: scaled_product(x, y, 3)[0], backend="aot_eager", fullgraph=True
    )
    for function in (lambda x, y: scaled_product(x, y, 3)[0], compiled):
        output = function(x, y)
        assert torch.equal(output, x * y * 3)
        grads = torch.autograd.grad(output.square().sum(), (x, y))
        expected = torch.autograd.grad((x * y * 3).square().sum(), (x, y))
        for ours, plain in zip(grads, expected, strict=True):
            torch.testing.assert_close(ours, plain)


def test_an_eager_call_with_gradients_passes_gradcheck():
    x, y = torch.randn(2, 5, dtype=torch.float64, requires_grad=True)

    def product(x, y):
        return scaled_product(x, y, 2)[0]

    assert torch.autograd.gradcheck(product, (x, y), check_undefined_grad=False)
