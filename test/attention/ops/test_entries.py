import torch

from interpreted import run_interpreted
from mtla_espnet.attention.mtla import HyperNetwork
from mtla_espnet.attention.ops.entries import gates


def test_gates_are_the_hyper_network_on_the_chunks_side():
    torch.manual_seed(0)
    network = HyperNetwork(8)
    latent = torch.randn(2, 7, 8)
    encoding = network.encode(torch.arange(4))
    parameters = network.fc_c.weight, network.fc_c.bias, network.fc_p.weight, network.fc_p.bias
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        _, gate, offset = gates(encoding, *parameters)  # in float32 all the same
    chunk = torch.arange(7) // 2
    weight = ((gate[chunk] * latent).sum(-1) + offset[chunk]).sigmoid()
    assert (weight - network(latent, encoding, repeats=2)).abs().max() < 1e-6


def test_interpreted_kernels_equal_the_plain_entries_with_gradients():
    run_interpreted("import interpreted_entries; interpreted_entries.main()", lines=4)
