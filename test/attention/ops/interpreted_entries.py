"""Run by test_entries.py in a process of its own, where Triton interprets its kernels."""

import sys

import torch

from mtla_espnet.attention.mla import Latent
from mtla_espnet.attention.mtla import TemporalLatent
from mtla_espnet.attention.ops import choose
from mtla_espnet.position import Positions, positions


def main():
    for kind, options in ((Latent, {}), *((TemporalLatent, {"down_rate": s}) for s in (1, 2, 3))):
        torch.manual_seed(0)
        module = kind(16, 2, qk_rope_head_dim=6, kv_lora_rank=12, **options)
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
        position = positions(torch.tensor([11, 7, 1]), 11)
        x = torch.randn(3, 11, 16, requires_grad=True)
        # the last layer's gradient in padding means nothing
        grad = torch.randn(3, 11, 18).masked_fill((position < 0)[..., None], 0.0)
        wanted = [x, *module.kv_norm.parameters(), *module.wkv_a.parameters()]
        if kind is TemporalLatent:
            wanted += module.hypernet_down.parameters()
        results = []
        for triton in (False, True):
            choose.runs_triton = lambda _, triton=triton: triton
            entry = module.entries(x, Positions(position, position + torch.tensor([[0], [4], [9]])))
            entry = entry.masked_fill((position < 0)[..., None], 0.0)
            results.append((entry, *torch.autograd.grad(entry, wanted, grad)))
        worst = max((a - b).abs().max().item() for a, b in zip(*results, strict=True))
        print(kind.__name__, options, worst)
        if not worst < 2e-5:
            sys.exit(1)
