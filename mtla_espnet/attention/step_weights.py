"""Weights prepared for decoding: copies of parameters that no longer change."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtla_espnet.attention.mtla import HyperNetwork
from mtla_espnet.position import accurate

# oneDNN's product with a weight in its own layout, and ReLU in it, is up to 1.9 times as fast as
# MKL's (60 rows, 144 x 576, an AMD EPYC; 16 rows: 1.4 times), but each call costs some 6 us more.
_LEAST_PACKED = 40_000
# Rows that the layout is made for; it serves any number.
_PACKED_ROWS = 64


def _takes_onednn(weight: Tensor) -> bool:
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and weight.numel() >= _LEAST_PACKED
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
        self._sizes = [layer.out_features for layer in layers]
        self._relu = relu
        self._weight = torch.cat([layer.weight.detach() for layer in layers])
        self._bias = None
        if layers[0].bias is not None:
            self._bias = torch.cat([layer.bias.detach() for layer in layers])
        self._onednn = _takes_onednn(self._weight)
        if self._onednn:
            operations = torch.ops.mkldnn
            self._weight = operations._reorder_linear_weight(self._weight, _PACKED_ROWS)
            self._linear = operations._linear_pointwise.default  # found once: looking up costs
            self._activation = "relu" if relu else "none"

    def __call__(self, x: Tensor) -> Tensor:
        """(N, d) -> (N, sum of outputs)."""
        if self._onednn:
            return self._linear(x, self._weight, self._bias, self._activation, [], "")
        output = F.linear(x, self._weight, self._bias)
        return output.relu_() if self._relu else output

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """(N, d) -> (N, output) of each layer, views of one tensor."""
        return torch.split_with_sizes(self(x), self._sizes, dim=-1)


class Norm:
    """A LayerNorm without what a module's call costs beside it, 3 us."""

    def __init__(self, norm: nn.LayerNorm):
        self._arguments = (norm.normalized_shape, norm.weight.detach(), norm.bias.detach())
        self._eps = norm.eps

    def __call__(self, x: Tensor) -> Tensor:
        """(N, d) -> (N, d)."""
        return torch.layer_norm(x, *self._arguments, self._eps)


@torch.no_grad()
def merge_table(network: HyperNetwork, chunks: int) -> tuple[Tensor, Tensor]:
    """Return the hyper-network as a dot product a chunk: vectors (J, r), numbers (J,).

    sigmoid(fc_c(PE(j)) . fc_p(c)) = sigmoid((fc_c(PE(j)) W_p) . c + fc_c(PE(j)) . b_p);
    in float32 at least.
    """
    chunk = torch.arange(chunks, device=network.fc_c.weight.device)
    code = accurate(F.linear(network.encode(chunk), network.fc_c.weight, network.fc_c.bias))
    return code @ accurate(network.fc_p.weight), code @ accurate(network.fc_p.bias)
