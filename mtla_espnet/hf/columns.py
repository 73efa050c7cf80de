"""Which columns of a batch are positions: padding, left or right, is none."""

import functools

import torch
from torch import Tensor

from mtla_espnet.hf.cache import LatentLayer
from mtla_espnet.position import Positions, positions


class Columns:
    """The columns (B, L) of a call.

    Args:
        shape: B, L.
        device: of the model's input.
        attention_mask: (B, C) with the columns before, 0 at padding; None: there is none.
        position_ids: (B or 1, L) true positions, as `generate` makes them; None: the count of
            positions that are no padding, which is all that they may be.
        cached: what was cached before; None: nothing.

    Attributes:
        real: (B, L) bool; None: all are positions.

    Raises:
        ValueError: a mask of another shape or that contradicts the cache, or position numbers
            that are not the count.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        device: torch.device,
        attention_mask: Tensor | None,
        position_ids: Tensor | None,
        cached: LatentLayer | None,
    ):
        self.shape = batch, size = shape
        self.device = device
        before = cached.columns if cached is not None else 0
        self.real = None
        self._is_front = True
        self._elsewhere: dict[torch.device, Columns] = {device: self}
        if attention_mask is not None:
            if attention_mask.shape != (batch, before + size):
                raise ValueError(
                    f"attention_mask has shape {tuple(attention_mask.shape)}, not "
                    f"{(batch, before + size)}: one number a column, those in the cache too"
                )
            self.real = attention_mask[:, before:].to(device).bool()
        if attention_mask is None and position_ids is None:
            return
        facts = {"all": torch.ones((), dtype=torch.bool, device=device)}
        if self.real is not None:
            facts["all"] = self.real.all()
            facts["front"] = (self.real[:, 1:] <= self.real[:, :-1]).all()
            if before:
                told_before = attention_mask[:, :before].to(device).bool()
                facts["cached"] = (told_before == cached.real().to(device)).all()
        if position_ids is not None:
            facts["counted"] = self._are_counted(position_ids.to(device), cached)
        told = dict(zip(facts, torch.stack(list(facts.values())).tolist(), strict=True))
        if not told.get("cached", True):
            raise ValueError("attention_mask has other padding than the columns in the cache")
        if not told.get("counted", True):
            raise ValueError(
                "position_ids are not the count of positions that are no padding, which chunks "
                "follow: leave them out, and pad sequences rather than pack them"
            )
        if told["all"]:
            self.real = None
        self._is_front = told.get("front", True)

    def _are_counted(self, position_ids: Tensor, cached: LatentLayer | None) -> Tensor:
        real = self.real
        if real is None:
            real = torch.ones(self.shape, dtype=torch.bool, device=self.device)
        count = real.cumsum(dim=1) - 1
        if cached is not None and cached.rows is not None:
            count = count + cached.rows.held.to(self.device)[:, None]
        return ((position_ids == count) | ~real).all()

    @functools.cached_property
    def counts(self) -> Tensor:
        """(B,) int64: positions of each row."""
        batch, size = self.shape
        if self.real is None:
            return torch.full((batch,), size, device=self.device)
        return self.real.sum(dim=1)

    @functools.cached_property
    def position(self) -> Positions:
        """Of (B, L): the count, each row's positions first."""
        return Positions(positions(self.counts, self.shape[1]))

    def to_front(self, x: Tensor) -> Tensor:
        """Move each row's positions of (B, L, d) to its front; what padding holds is 0."""
        if self.real is None:
            return x
        if not self._is_front:
            x = x.gather(1, self._order[..., None].expand_as(x))
        return x.masked_fill((self.position.index < 0)[..., None], 0.0)

    def back(self, x: Tensor) -> Tensor:
        """Put each row's positions back in their columns; others are 0."""
        if self.real is None:
            return x
        if not self._is_front:
            count = (self.real.cumsum(dim=1) - 1).clamp_min(0)
            x = x.gather(1, count[..., None].expand_as(x))
        return x.masked_fill(~self.real[..., None], 0.0)

    @functools.cached_property
    def _order(self) -> Tensor:
        """(B, L): the column of each position, then those of padding."""
        return (~self.real).to(torch.int8).argsort(dim=1, stable=True)

    def on(self, device: torch.device) -> "Columns":
        """Return them on a device."""
        if device not in self._elsewhere:
            other = self._elsewhere[device] = object.__new__(Columns)
            other.shape, other.device, other._is_front = self.shape, device, self._is_front
            other.real = None if self.real is None else self.real.to(device)
            other._elsewhere = self._elsewhere
        return self._elsewhere[device]
