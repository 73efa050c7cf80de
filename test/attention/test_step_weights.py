import pytest
import torch
from torch import nn

from mtla_espnet.attention.step_weights import JointLinear, merge_table
from strategies import build


@pytest.mark.parametrize("rows", [1, 3, 16, 90])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("sizes", [(8, 5), (200, 150)], ids=["small", "in oneDNN's layout"])
def test_layers_together_equal_each(rows, bias, sizes):
    torch.manual_seed(0)
    layers = [nn.Linear(160, size, bias=bias) for size in sizes]
    x = torch.randn(rows, 160)
    with torch.inference_mode():
        for relu in (False, True):
            found = JointLinear(*layers, relu=relu).split(x)
            for layer, y in zip(layers, found, strict=True):
                expected = layer(x).relu() if relu else layer(x)
                torch.testing.assert_close(y, expected, atol=1e-5, rtol=1e-5)


def test_the_weights_are_copies():
    layer = nn.Linear(4, 4)
    together, x = JointLinear(layer), torch.randn(2, 4)
    before = together(x)
    nn.init.zeros_(layer.weight)
    assert torch.equal(together(x), before)


def test_the_table_gives_the_hypernetworks_weights():
    network = build(("mtla", {"down_rate": 2})).hypernet_down
    latent, chunk = torch.randn(3, 7, network.rank), torch.arange(7)
    gate, offset = merge_table(network, 7)
    weight = ((gate * latent).sum(dim=-1) + offset).sigmoid()
    expected = network(latent, network.encode(chunk))
    torch.testing.assert_close(weight, expected, atol=1e-5, rtol=1e-5)
