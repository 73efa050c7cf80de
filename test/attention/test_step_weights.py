import pytest
import torch
from torch import nn

from mtla_espnet.attention.step_weights import JointLinear, LiveLinear, StepNorm


@pytest.mark.parametrize("rows", [1, 3, 16, 90])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("sizes", [(8, 5), (200, 150)], ids=["small", "in oneDNN's layout"])
def test_layers_together_equal_each(rows, bias, sizes):
    torch.manual_seed(0)
    layers = [nn.Linear(160, size, bias=bias) for size in sizes]
    x = torch.randn(rows, 160)
    with torch.inference_mode():
        for relu in (False, True):
            found = JointLinear(*layers, relu=relu)(x).split(sizes, dim=-1)
            for layer, y in zip(layers, found, strict=True):
                expected = layer(x).relu() if relu else layer(x)
                torch.testing.assert_close(y, expected, atol=1e-5, rtol=1e-5)


def test_the_weights_are_copies():
    layer = nn.Linear(4, 4)
    together, x = JointLinear(layer), torch.randn(2, 4)
    before = together(x)
    nn.init.zeros_(layer.weight)
    assert torch.equal(together(x), before)


@pytest.mark.parametrize("relu", [True, False])
def test_live_layers_follow_their_weights(relu):
    layers = [nn.Linear(6, size) for size in ((4,) if relu else (4, 3))]
    x = torch.randn(2, 6)
    with torch.inference_mode():
        live = LiveLinear(*layers, relu=relu)
        for _ in range(2):
            torch.testing.assert_close(live(x), JointLinear(*layers, relu=relu)(x))
            nn.init.ones_(layers[0].weight)


@pytest.mark.parametrize("groups", [1, 2])
def test_a_norm_is_that_of_each_group(groups):
    norm = nn.LayerNorm(8) if groups == 1 else nn.GroupNorm(groups, 8)
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(3, 8)
    parts = [nn.functional.layer_norm(part, part.shape[1:]) for part in x.chunk(groups, dim=1)]
    expected = torch.cat(parts, dim=1) * norm.weight + norm.bias
    torch.testing.assert_close(StepNorm(norm, groups)(x), expected)
