"""Sizes of the rows that attention over chunks reads and writes on CUDA."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RowSizes:
    """Sizes of an attention over chunks.

    Attributes:
        heads: H.
        down_rate: s.
        nope: a head's width without position.
        rope: a head's rotary width.
        value_width: v, a head's value.
        packed: a row of keys and values: v made a multiple of 8, then the key.
        width: of the kernel's queries and keys; they stand at the end of it.
    """

    heads: int
    down_rate: int
    nope: int
    rope: int
    value_width: int
    packed: int
    width: int

    @property
    def value_pad(self) -> int:
        """Where a packed row's key begins."""
        return -(-self.value_width // 8) * 8

    @property
    def left(self) -> int:
        """Zeros before a query's numbers."""
        return self.width - (self.packed - self.value_pad)

    @property
    def first(self) -> int:
        """Chunks that see no finished chunk: 1, or 0 where each position is a chunk."""
        return int(self.down_rate > 1)
