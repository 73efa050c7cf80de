"""The form of a cache slot: what a layer keeps of some positions, and how it is read."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SlotForm:
    """What one layer keeps of `down_rate` consecutive positions.

    A slot is [key parts of G groups ; value parts of G groups ; shared key]. The key of a
    group is [its key part ; shared key]. A latent is key part and value at once: its slot
    has no value parts.

    Attributes:
        key_width: numbers of a group's key part.
        groups: G, each read by H / G query heads.
        value_width: numbers of a group's value part; 0: the key part is the value.
        shared_width: numbers of the key that all groups share.
        rotary_width: numbers at the end of a key that turn with the position: the shared
            key, or where there is none the whole key.
        frequencies: angles by which its pairs turn a position; None: 10000^(-2k/rotary_width).
        down_rate: s, positions a slot.
        window: whether the positions of an unfinished slot are kept and seen one by one; else
            one slot holds what has come of it so far.
    """

    key_width: int
    groups: int = 1
    value_width: int = 0
    shared_width: int = 0
    rotary_width: int = 0
    down_rate: int = 1
    window: bool = False
    frequencies: tuple[float, ...] | None = None

    @property
    def key_parts(self) -> int:
        """Numbers of the key parts of all groups, which come first."""
        return self.groups * self.key_width

    @property
    def width(self) -> int:
        """Numbers a slot."""
        return self.key_parts + self.groups * self.value_width + self.shared_width

    @property
    def open_slots(self) -> int:
        """Slots that the positions of an unfinished slot take at most."""
        return self.down_rate if self.window else 1

    def slots(self, positions: int) -> int:
        """Return how many slots are held of `positions` positions: ceil(T / s).

        With a window T // s and one for each position of the unfinished slot.
        """
        rest = positions % self.down_rate
        return positions // self.down_rate + (rest if self.window else rest > 0)

    def bytes(self, positions: int, dtype: torch.dtype) -> int:
        """Return the bytes of `positions` positions of one row in one layer."""
        return self.slots(positions) * self.width * dtype.itemsize

    def parts(self, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values of slots (X, S, width).

        Returns:
            (X, S, G, key_width + shared_width) and (X, S, G, value_width or key_width).
        """
        key = value = slots[..., : self.key_parts].unflatten(-1, (self.groups, -1))
        if self.value_width:
            value = slots[..., self.key_parts : self.width - self.shared_width]
            value = value.unflatten(-1, (self.groups, -1))
        if self.shared_width:
            shared = slots[:, :, None, -self.shared_width :].expand(-1, -1, self.groups, -1)
            key = torch.cat((key, shared), dim=-1)
        return key, value

    def read(self, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Return what `parts` does by groups, (X * G, S, ...); latents of one group are views."""
        if self.groups == 1 and not self.value_width:
            return slots, slots[..., : self.key_width]
        key, value = (x.transpose(1, 2).flatten(0, 1) for x in self.parts(slots))
        return key, value


def finished_slots(
    entries: Tensor, rate: int, merge: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """Return the slots that entries (B, T, width) finish, (B, T // rate, width).

    Args:
        entries: those of all positions, from the first one on.
        rate: positions a slot.
        merge: windows (B, P, rate, width) -> slots; None: a slot is its last position's entry.
    """
    if merge is None:
        return entries[:, rate - 1 :: rate]
    count = entries.size(1) // rate
    return merge(entries[:, : count * rate].unflatten(1, (count, rate)))


def open_positions(lengths: Tensor, form: SlotForm) -> tuple[Tensor, Tensor]:
    """Return which positions stand for what prefixes leave unfinished.

    Args:
        lengths: (B,) int64, positions of each prefix.
        form: of the slots; without a window the newest position stands for all before it.

    Returns:
        (B, open_slots) int64, and true where there is none.
    """
    rest = (lengths % form.down_rate)[:, None]
    index = torch.arange(form.open_slots, device=lengths.device)
    position = lengths[:, None] - rest + index if form.window else lengths[:, None] - 1
    return position.masked_fill(index >= rest, 0), index >= rest


def seeds(entries: Tensor, opened: tuple[Tensor, Tensor]) -> Tensor:
    """Return what the prefixes leave unfinished, (B, open_slots, width).

    Args:
        entries: (B, T, width), T at least 1.
        opened: of `open_positions`; the same for all layers.
    """
    position, is_none = opened
    found = entries.gather(1, position[..., None].expand(-1, -1, entries.size(2)))
    return found.masked_fill(is_none[..., None], 0.0)


def mask_bias(held: Tensor | None, like: Tensor) -> Tensor:
    """Return (X, 1, Y) of the dtype of `like`: 0 where `held` (X, Y), else minus infinity."""
    if held is None:
        return like.new_zeros(1, 1, 1)
    return like.new_zeros(held.shape).masked_fill_(~held, float("-inf"))[:, None]
