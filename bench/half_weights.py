#!/usr/bin/env python
"""Store a model's parameters in float16, tied ones once, to bring them back from a GPU machine.

usage: half_weights.py SOURCE TARGET [PREFIX]   (parameters that begin with PREFIX are left out)
"""

import sys

import torch


def main(source: str, target: str, prefix: str | None = None) -> None:
    shared = {}  # type, shape and bytes -> tensor

    def half(value: torch.Tensor) -> torch.Tensor:
        stored = value.half() if value.is_floating_point() else value
        return shared.setdefault((value.dtype, value.shape, value.numpy().tobytes()), stored)

    weights = torch.load(source, map_location="cpu", weights_only=True)
    kept = {k: v for k, v in weights.items() if prefix is None or not k.startswith(prefix)}
    torch.save({name: half(value) for name, value in kept.items()}, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
