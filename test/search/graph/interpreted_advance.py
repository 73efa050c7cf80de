"""Run by test_search.py in a process of its own, where Triton interprets its kernels."""

import sys

import torch

from mtla_espnet.search.ends import EndDetection
from mtla_espnet.search.graph import advance_kernels
from mtla_espnet.search.graph.advance import advance
from mtla_espnet.search.options import SearchOptions

BATCH, BEAMS, STEPS, EOS = 3, 5, 9, 4


def state(options):
    ends = EndDetection(BATCH, STEPS, EOS, options, torch.device("cpu"))
    whole = (STEPS, BATCH, BEAMS)
    kinds = (torch.int64, torch.int64, torch.float64)
    history = tuple(torch.zeros(whole, dtype=kind) for kind in kinds)
    written = (
        torch.zeros(1, dtype=torch.int64),  # index
        torch.zeros(BATCH, BEAMS, dtype=torch.float64),
        torch.zeros(BATCH, BEAMS, dtype=torch.int64),
        torch.zeros(BATCH * BEAMS, dtype=torch.int64),
    )
    return ends, written, history


def equal(options, seed):
    generator = torch.Generator().manual_seed(seed)
    limits = torch.stack((torch.arange(BATCH), STEPS - torch.arange(BATCH)), dim=1)
    states = [state(options) for _ in range(2)]
    for step in range(STEPS):
        chosen = -3.0 * (step + 1) + torch.randn(BATCH, BEAMS, generator=generator).double()
        chosen[torch.rand(BATCH, BEAMS, generator=generator) < 0.3] = float("-inf")
        parent = torch.randint(BEAMS, (BATCH, BEAMS), generator=generator)
        token = torch.randint(EOS + 1, (BATCH, BEAMS), generator=generator)
        for function, (ends, written, history) in zip(
            (advance, advance_kernels.advance), states, strict=True
        ):
            function(ends, chosen, parent, token, limits, *written, history)
        for one, other in zip(*((*w, *h, e.best) for e, w, h in states), strict=True):
            if not torch.equal(one, other):
                return False
        found = [e.found.sort(dim=1).values for e, _, _ in states]
        if options.normalize_length is False and not torch.equal(*found):
            return False
    return True


def main():
    for conf in (
        {},
        {"nbest": 3},
        {"penalty": 0.5, "maxlenratio": 1.0},
        {"normalize_length": True},
        {"normalize_length": True, "maxlenratio": -7.0},
    ):
        options = SearchOptions(beam_size=BEAMS, **conf)
        for seed in range(3):
            print(conf, seed)
            if not equal(options, seed):
                sys.exit(1)
