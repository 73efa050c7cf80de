"""A decoding cache of fixed shape, in which nothing moves: what a CUDA graph can hold.

It keeps what `DecodingCache` keeps, laid out for speed on a GPU:

- The prefix is materialised: keys and values of all heads, once an utterance. The
  hypotheses of an utterance share it, so its size hardly matters and its matrix
  products are the cheapest.
- A finished suffix slot is written once, in its own plane and row, and stays there. A
  hypothesis finds its slots by an *ancestor index*: the row in which each of them was
  written. Selecting hypotheses permutes that index alone.
- An unfinished slot is written to one of two further planes by turns, so that a row can
  read its parent's while others write theirs.

How many tokens there are is a number on the device too: every step runs the same
operations on the same memory.
"""

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from mtla_espnet.cache.slot import SlotForm, finished_slots, open_positions, seeds
from mtla_espnet.position import rotation

# Gives the memory of a large buffer: its name, shape, dtype and device -> a tensor.
Memory = Callable[[str, tuple[int, ...], torch.dtype, torch.device], Tensor]


def new_memory(
    name: str, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Return zeros of their own."""
    return torch.zeros(shape, dtype=dtype, device=device)


class GraphCache:
    """Prefix and suffix cache of all layers for B utterances of `beams` hypotheses.

    Row n belongs to utterance n // beams.

    Args:
        form: what a slot of the suffix holds; the same for all layers.
        num_layers: layers.
        batch: B.
        beams: hypotheses an utterance.
        prefix_slots: finished slots of the longest prefix that it can take.
        max_length: tokens that it can take.
        key_value: shapes (G, D), (G, Dv) of a materialised slot's keys and values.
        dtype: of the stored entries.
        device: where the cache lives.
        memory: gives the buffers of prefix and suffix.

    Attributes:
        known: prefix lengths and how many tokens each hypothesis holds, where the host
            knows; None: sizes ask the device.
        lengths: (B,) int32, prefix positions.
        step: (1,) int32, tokens that every hypothesis held before the newest one.
        parents: (N,) int64, row of the previous step that each row goes on from.
        store: of each layer (capacity + 2 W, N, width); the last planes are unfinished slots,
            by turns as the step is even or odd, in W slots each: one, or the window's.
        ancestor: (2, N, capacity) int32, by turns as the step is even or odd.
        prefix_key: (layers, B, prefix_slots, G, D).
        prefix_value: (layers, B, prefix_slots, G, Dv).
        angles: (positions, rotary_width / 2, 2) float32, cosine and sine.
    """

    def __init__(
        self,
        form: SlotForm,
        num_layers: int,
        batch: int,
        beams: int,
        prefix_slots: int,
        max_length: int,
        key_value: tuple[tuple[int, int], tuple[int, int]],
        dtype: torch.dtype,
        device: torch.device,
        memory: Memory = new_memory,
    ):
        self.form, self.num_layers = form, num_layers
        self.batch, self.beams, self.rows = batch, beams, batch * beams
        self.known: tuple[list[int], int] | None = None
        self.max_length = max_length
        rate = form.down_rate
        self.capacity = max(1, (rate - 1 + max_length) // rate)
        whole = {"dtype": torch.int32, "device": device}
        self.lengths = torch.zeros(batch, **whole)
        self.step = torch.zeros(1, **whole)
        self.parents = torch.arange(self.rows, device=device)
        self.dtype, self.device = dtype, device
        self.store = [self._planes(layer, memory) for layer in range(num_layers)]
        self.ancestor = torch.zeros(2, self.rows, self.capacity, **whole)
        self.prefix_key, self.prefix_value = (
            memory(name, (num_layers, batch, prefix_slots, *shape), dtype, device)
            for name, shape in zip(("key", "value"), key_value, strict=True)
        )
        self._turn()

    def _planes(self, layer: int, memory: Memory) -> Tensor:
        planes = self.capacity + 2 * self.form.open_slots
        shape = (planes, self.rows, self.form.width)
        return memory(f"suffix of layer {layer}", shape, self.dtype, self.device)

    def _turn(self) -> None:
        positions = (self.prefix_slots + 1) * self.form.down_rate + self.max_length
        index = torch.arange(positions, device=self.device)[None]
        form = self.form
        tables = rotation(index, form.rotary_width, frequencies=form.frequencies)
        self.angles = torch.stack(tables, dim=-1)[0]

    # -- sizes ---------------------------------------------------------------
    @property
    def prefix_slots(self) -> int:
        """Finished slots of a prefix that there is room for."""
        return self.prefix_key.size(2)

    @property
    def prefix_nbytes(self) -> int:
        """Bytes of the materialised prefixes, without padding."""
        lengths, _ = self._held()
        slots = sum(length // self.form.down_rate for length in lengths)
        sides = (self.prefix_key, self.prefix_value)
        return slots * sum(self.num_layers * x[0, 0, 0].numel() * x.element_size() for x in sides)

    @property
    def suffix_nbytes(self) -> int:
        """Bytes of the slots that the hypotheses hold, their seeds included."""
        lengths, step = self._held()
        rate = self.form.down_rate
        slots = sum(self.form.slots(length + step) - length // rate for length in lengths)
        size = self.num_layers * self.form.width * self.dtype.itemsize
        return slots * self.beams * size

    def _held(self) -> tuple[list[int], int]:
        if self.known is not None:
            return self.known
        return self.lengths.tolist(), int(self.step)

    @property
    def nbytes(self) -> int:
        """Bytes of the positions held; the prefix counts as what it is, keys and values."""
        return self.prefix_nbytes + self.suffix_nbytes

    @property
    def nbytes_allocated(self) -> int:
        """Bytes of the buffers."""
        buffers = (*self.store, self.ancestor, self.prefix_key, self.prefix_value)
        return sum(x.numel() * x.element_size() for x in buffers)

    # -- writing -------------------------------------------------------------
    @cached_property
    def _open(self) -> tuple[Tensor, Tensor]:
        """What `seeds` needs of the prefixes, once for all layers."""
        return open_positions(self.lengths.long(), self.form)

    def start(self, lengths: Tensor) -> None:
        """Begin with new prefixes of `lengths` (B,); no hypothesis holds a token."""
        self.lengths.copy_(lengths)
        self.__dict__.pop("_open", None)
        self.step.zero_()
        torch.arange(self.rows, out=self.parents)

    def write_prefix(self, layer: int, entries: Tensor, materialise, merge=None) -> None:
        """Store the prefix of every utterance in one layer.

        Args:
            layer: which layer.
            entries: (B, T, width), as `DecodingCache.write_prefix` takes them.
            materialise: entries (B, P, width) -> keys (B, P, G, D), values (B, P, G, Dv).
            merge: windows (B, P, s, width) -> their finished slots; None: there are none.
        """
        form = self.form
        finished = finished_slots(entries, form.down_rate, merge)
        key, value = materialise(finished)
        self.prefix_key[layer, :, : finished.size(1)] = key
        self.prefix_value[layer, :, : finished.size(1)] = value
        if form.down_rate > 1:  # the seed: what step 0 finds where an odd step would have left it
            seed = seeds(entries, self._open).repeat_interleave(self.beams, dim=0)
            self.store[layer][self.capacity + form.open_slots :] = seed.transpose(0, 1)

    def clear(self) -> None:
        """Forget what others left in the memory: no number of it is to be left, not even NaN."""
        for buffer in (*self.store, self.prefix_key, self.prefix_value):
            buffer.zero_()

    def grow(self, max_length: int, memory: Memory = new_memory) -> None:
        """Make room for more tokens, layer by layer: two of one layer is the most there is.

        Args:
            max_length: tokens that it can take then.
            memory: gives the buffers; those that it gave before may lie in the same place.
        """
        before = self.capacity
        self.max_length = max_length
        self.capacity = (self.form.down_rate - 1 + max_length) // self.form.down_rate
        for layer in range(self.num_layers):
            old = self.store[layer]
            unfinished = old[before:].clone()
            new = self._planes(layer, memory)
            if new.data_ptr() != old.data_ptr():
                new[:before] = old[:before]
            new[self.capacity :] = unfinished
            self.store[layer] = new
            del old, new
        room = self.capacity - before
        self.ancestor = torch.nn.functional.pad(self.ancestor, (0, room))
        self._turn()
