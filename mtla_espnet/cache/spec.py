"""What a layer keeps of an utterance's positions."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class CacheSpec:
    """What one layer keeps of a slot.

    Attributes:
        width: numbers a slot (for example 2 * G * head size, or rank + rotary).
        down_rate: positions a slot, s >= 1.
    """

    width: int
    down_rate: int = 1

    def slots(self, positions):
        """Return how many slots `positions` (int or int tensor) take: ceil(T / s)."""
        return (positions + self.down_rate - 1) // self.down_rate

    def bytes(self, positions: int, dtype: torch.dtype) -> int:
        """Return the bytes of `positions` positions of one row in one layer."""
        return self.slots(positions) * self.width * dtype.itemsize
