"""Weights prepared for decoding: copies of parameters that no longer change."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# oneDNN's product with a weight in its own layout, and ReLU in it, is up to 1.9 times as fast as
# MKL's (60 rows, 144 x 576, an AMD EPYC; 16 rows: 1.4 times), but each call costs some 6 us more.
_LEAST_ONEDNN = 40_000
# Rows that the layout is made for; it serves any number.
_ONEDNN_ROWS = 64


def weight_of(layer: nn.Linear) -> Tensor:
    """Return the weight of a linear layer that is no more than its weight and bias.

    What low-rank adapters of the package `peft` add is in it, without their dropout.

    Raises:
        ValueError: another adapter or a hook computes beside it, and would be left out.
    """
    is_plain = isinstance(layer, nn.Linear) and type(layer).forward is nn.Linear.forward
    hooks = layer._forward_hooks or layer._forward_pre_hooks
    if (is_plain and not hooks) or getattr(layer, "merged", False) is True:
        return layer.weight
    if not hooks and _has_plain_lora(layer):
        names = [] if layer.disable_adapters else layer.active_adapters
        return layer.weight + sum(layer.get_delta_weight(name) for name in names)
    raise ValueError(
        f"{type(layer).__module__}.{type(layer).__name__} computes more than a linear layer, and "
        "its weight alone is used here (absorbed into others, or in a cached step): merge the "
        "adapter into the weight first"
    )


def _has_plain_lora(layer: nn.Module) -> bool:
    """Tell whether a layer is `peft`'s linear one with adapters that only add to its weight."""
    if not hasattr(layer, "get_delta_weight") or not hasattr(layer, "lora_B"):
        return False
    names = layer.active_adapters
    return all(
        name in layer.lora_B
        and layer.lora_B[name].bias is None
        and name not in getattr(layer, "lora_variant", {})
        for name in names
    )


def _takes_onednn(weight: Tensor) -> bool:
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and weight.numel() >= _LEAST_ONEDNN
        and torch.backends.mkldnn.is_available()
        # private: torch.compile's own, so they may change
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


class JointLinear:
    """Several linear layers of one input as a single product; copies their weights.

    Args:
        layers: all with a bias, or none.
        relu: of what comes out.
    """

    def __init__(self, *layers: nn.Linear, relu: bool = False):
        self._relu = relu
        self._weight = torch.cat([weight_of(layer).detach() for layer in layers])
        self._bias = None
        if layers[0].bias is not None:
            self._bias = torch.cat([layer.bias.detach() for layer in layers])
        self._onednn = _takes_onednn(self._weight)
        if self._onednn:
            operations = torch.ops.mkldnn
            self._weight = operations._reorder_linear_weight(self._weight, _ONEDNN_ROWS)
            self._linear = operations._linear_pointwise.default  # found once: looking up costs
            self._activation = "relu" if relu else "none"

    def __call__(self, x: Tensor) -> Tensor:
        """(N, d) -> (N, sum of outputs)."""
        if self._onednn:
            return self._linear(x, self._weight, self._bias, self._activation, [], "")
        output = F.linear(x, self._weight, self._bias)
        return output.relu_() if self._relu else output


class LiveLinear:
    """What `JointLinear` gives, by the layers as they are.

    Args:
        layers: of one input.
        relu: of what comes out of one layer, which has a bias.
    """

    def __init__(self, *layers: nn.Linear, relu: bool = False):
        self._layers, self._relu = layers, relu

    def __call__(self, x: Tensor) -> Tensor:
        """(N, d) -> (N, sum of outputs)."""
        if self._relu:  # in the product's epilogue
            (layer,) = self._layers
            return torch._addmm_activation(layer.bias, x, weight_of(layer).t())
        outputs = [layer(x) for layer in self._layers]
        return torch.cat(outputs, dim=-1) if len(outputs) > 1 else outputs[0]


class StepNorm:
    """A LayerNorm without what a module's call costs beside it, 3 us.

    Args:
        norm: with weight, bias and eps.
        groups: of the last axis that are normalised each by itself.
    """

    def __init__(self, norm: nn.Module, groups: int = 1):
        weight, bias = norm.weight.detach(), norm.bias.detach()
        self._groups = groups
        self._arguments = ((weight.numel(),) if groups == 1 else groups, weight, bias, norm.eps)

    def __call__(self, x: Tensor) -> Tensor:
        """(N, d) -> (N, d)."""
        if self._groups == 1:
            return torch.layer_norm(x, *self._arguments)
        return torch.group_norm(x, *self._arguments)
