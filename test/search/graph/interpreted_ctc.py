"""Run by test_ctc.py in a process of its own, where Triton interprets its kernels."""

import sys

import test_ctc
import torch
from interpreted_decode import let_loops_end_at_loaded_numbers

from mtla_espnet.attention.ops import choose

# Sizes, sharpness of the posteriors, labels that CTC does not know.
CASES = (
    ([70, 9], 1.0, 0),
    ([70, 9], 6.0, 0),
    ([64, 65], 3.0, 1),
    ([1, 2, 3], 3.0, 0),
    ([130], 12.0, 0),
    ([40, 90], 0.2, 2),
)
# The kernel's float32 against float64. Choices of labels are the same where their scores differ
# by more.
CLOSE = 2e-6


def main():
    let_loops_end_at_loaded_numbers()
    choose.has_kernels = lambda device: True
    for number, (sizes, sharpness, skip) in enumerate(CASES):
        options = {"vocabulary": 21, "beams": 2, "skip": skip}
        worst = 0.0
        for ours, theirs in test_ctc.walk(sizes, 5, sharpness, number, **options):
            finite = theirs.isfinite()
            if not torch.equal(ours.isfinite(), finite):
                sys.exit("other scores are finite")
            if finite.any():
                worst = max(worst, (ours - theirs)[finite].abs().max().item())
            mine, exact = (x.flatten(1).sort(dim=1, descending=True) for x in (ours, theirs))
            apart = -exact.values.diff(dim=1) > CLOSE  # of each two that follow each other
            clear = torch.nn.functional.pad(apart, (1, 0), value=True)
            clear &= torch.nn.functional.pad(apart, (0, 1), value=True)
            if not torch.equal(mine.indices[clear], exact.indices[clear]):
                sys.exit("another choice")
        print(sizes, sharpness, skip, worst)
        if not worst < CLOSE:
            sys.exit(1)
