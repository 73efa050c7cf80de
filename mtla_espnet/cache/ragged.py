"""A decoding cache without prefixes whose rows hold different numbers of positions."""

import torch
from torch import Tensor

from mtla_espnet.cache.growing import DecodingCache
from mtla_espnet.cache.slot import SlotForm


class RaggedCache(DecodingCache):
    """What rows of a batch have cached, each as many positions as it has.

    A step of a layer reads and writes it as any `DecodingCache`; `step` counts the positions of
    the longest row.

    Args:
        form: what a layer keeps; without a window.
        num_layers: layers.
        rows: N.
        dtype: of the stored entries.
        device: where the cache lives.

    Attributes:
        behind: (N,) int64, positions that a row has less than the longest one.
    """

    def __init__(
        self,
        form: SlotForm,
        num_layers: int,
        rows: int,
        dtype: torch.dtype,
        device: torch.device,
    ):
        self.behind = torch.zeros(rows, dtype=torch.int64, device=device)
        self._is_even = True
        none = torch.zeros(1, dtype=torch.int64)  # all rows are hypotheses of one empty prefix
        super().__init__(form, num_layers, none, dtype, device)
        self.expand(rows)

    @property
    def held(self) -> Tensor:
        """(N,) int64: positions of each row."""
        return self.step - self.behind

    @property
    def suffix_nbytes(self) -> int:
        """Bytes of the slots that the rows hold."""
        slots = sum(map(self.form.slots, self.held.tolist()))
        return slots * self.num_layers * self.form.width * self._suffix.element_size()

    def add(self, counts: Tensor) -> None:
        """Make room for counts (N,) more positions of each row; call before the layers."""
        held = self.held + counts
        step = int(held.max())
        self.behind = step - held
        self._is_even = not bool(self.behind.any())
        self.advance(step - self.step)
        self._spread()

    def write(self, layer: int, entries: Tensor, counts: Tensor) -> None:
        """Store what the newest positions leave in their slots; `add` or `advance` comes before.

        Args:
            layer: which layer.
            entries: (N, L, width). Row t is the entry that the slot of a row's t-th new position
                has when that is its newest one.
            counts: (N,) int64, at most L: new positions of each row.
        """
        rate, held = self.form.down_rate, self.held[:, None]
        before = held - counts[:, None]
        touched = torch.arange((entries.size(1) + rate - 2) // rate + 1, device=held.device)
        slot = before // rate + touched
        newest = torch.minimum((slot + 1) * rate, held) - 1 - before  # (N, slots), of L
        columns = self._row[:, None] * self._suffix.size(2) + slot
        index = newest.clamp(0, entries.size(1) - 1)[..., None].expand(-1, -1, self.form.width)
        found = entries.gather(1, index).to(self._suffix.dtype)
        has = (newest >= 0) & (slot * rate < held)
        self.slots(layer).index_copy_(0, columns[has], found[has])

    def reorder(self, parents: Tensor) -> None:
        """Let row n go on from row parents[n]; there may be more or fewer rows than before.

        Args:
            parents: (N',) int64.
        """
        self.behind = self.behind.index_select(0, parents.to(self.behind.device))
        super().reorder(parents)
        self._spread()

    def crop(self, counts: Tensor) -> None:
        """Take back the newest counts (N,) positions of each row.

        Raises:
            ValueError: a row would end inside a chunk, whose sum cannot be taken back.
        """
        rate, kept = self.form.down_rate, self.held - counts
        if bool(((kept % rate > 0) & (counts > 0)).any()):
            raise ValueError(
                f"the cache merges {rate} positions a slot, and cannot be cut inside one: leave a "
                f"multiple of {rate} positions, or begin with a new cache"
            )
        step = int(kept.max())
        self.behind, self.step = step - kept, step
        self._is_even = not bool(self.behind.any())
        # a slot is zero before its first member
        over = torch.arange(self._suffix.size(2), device=kept.device) >= (-(-kept // rate))[:, None]
        self._suffix.masked_fill_(over[None, :, :, None], 0.0)
        self._spread()

    def _spread(self) -> None:
        super()._spread()
        self._row_length = self._row_remainder = -self.behind
        self._aligned = self._is_even
        self._locate()
