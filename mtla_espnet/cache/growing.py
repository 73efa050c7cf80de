"""The decoding cache: one prefix an utterance, one suffix a hypothesis.

A slot holds what an attention layer keeps of `down_rate` consecutive positions
(one position, unless positions are merged). Slot j covers positions
j * down_rate ... (j + 1) * down_rate - 1 of an utterance's own `[prefix ; text]`.

- The prefix cache holds the finished slots of the prefix. It is written once an
  utterance, is read by all its hypotheses, and is never copied or reordered.
- The suffix cache holds generated positions, preallocated and written in place.
  Its first slot is the one that the end of the prefix left unfinished, if any:
  every hypothesis starts from the prefix's partial as its seed.

The cache does not know the kinds of attention: a layer says with a `CacheSpec`
what a slot holds, and hands in entries of that shape. A prefix may instead be kept
*materialised*, as the keys and values of all heads that are read from its slots: larger
for latent kinds, but read with fewer operations.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from mtla_espnet.cache.spec import CacheSpec


class DecodingCache:
    """Prefix and suffix cache of all layers of a decoder.

    Rows of the suffix are hypotheses; row n belongs to utterance n * B // N, so
    the hypotheses of an utterance lie together. Every row has generated the same
    number of tokens.

    Args:
        spec: what a layer keeps; the same for all layers.
        num_layers: layers.
        lengths: (B,) int64, prefix positions of each utterance (0 is allowed).
        dtype: of the stored entries.
        device: where the cache lives.
        key_value: shapes (G, D), (G, Dv) of a slot's keys and values where the prefix is
            materialised; None: it holds entries.

    Attributes:
        lengths: (B,) int64, prefix positions.
        step: tokens that each hypothesis holds.
        materialised: whether the prefix is.
    """

    def __init__(
        self,
        spec: CacheSpec,
        num_layers: int,
        lengths: Tensor,
        dtype: torch.dtype,
        device: torch.device,
        key_value: tuple[tuple[int, int], tuple[int, int]] | None = None,
    ):
        self.spec = spec
        self.num_layers = num_layers
        self.lengths = lengths.to(device)
        self.step = 0
        self._first_slot = self.lengths // spec.down_rate  # (B,) of the suffix
        self._remainder = self.lengths % spec.down_rate  # (B,) positions of the seed
        prefix_slots = int(self._first_slot.max()) if len(lengths) else 0
        kind = {"dtype": dtype, "device": device}
        batch = len(self.lengths)
        self.materialised = key_value is not None
        # entries, or keys and values, each (layers, B, G, P, width)
        self._prefix = [
            torch.zeros(num_layers, batch, groups, prefix_slots, width, **kind)
            for groups, width in key_value or ((1, spec.width),)
        ]
        self._prefix_mask = (
            torch.arange(prefix_slots, device=device) < self._first_slot[:, None]
        )  # (B, P)
        self._full_prefix = bool(self._prefix_mask.all())
        self._seed = torch.zeros(num_layers, batch, spec.width, **kind)
        self._suffix = torch.zeros(num_layers, 0, 0, spec.width, **kind)
        # read on the host at every step, so kept there
        self._host_lengths = self.lengths.tolist()

    # -- sizes ---------------------------------------------------------------
    @property
    def batch(self) -> int:
        """Utterances."""
        return len(self._host_lengths)

    @property
    def longest(self) -> int:
        """Positions of the longest prefix."""
        return max(self._host_lengths, default=0)

    @property
    def rows(self) -> int:
        """Hypotheses over all utterances; 0 before `expand`."""
        return self._suffix.size(1)

    @property
    def prefix_nbytes(self) -> int:
        """Bytes of the finished prefix slots, once an utterance, as they are kept."""
        slots = sum(length // self.spec.down_rate for length in self._host_lengths)
        numbers = sum(x.size(2) * x.size(4) for x in self._prefix)
        return slots * self.num_layers * numbers * self._suffix.element_size()

    @property
    def suffix_nbytes(self) -> int:
        """Bytes of the slots that the hypotheses hold, their seeds included."""
        if not self.rows:  # the seeds lie once an utterance until `expand`
            return self._slot_nbytes * sum(
                length % self.spec.down_rate > 0 for length in self._host_lengths
            )
        per_utterance = self.rows // self.batch
        held = sum(
            self.spec.slots(length + self.step) - length // self.spec.down_rate
            for length in self._host_lengths
        )
        return held * per_utterance * self._slot_nbytes

    @property
    def nbytes(self) -> int:
        """Bytes of the positions held: chunks counted as ceil(T / s), padding not."""
        return self.prefix_nbytes + self.suffix_nbytes

    @property
    def nbytes_allocated(self) -> int:
        """Bytes of the buffers."""
        buffers = (*self._prefix, self._seed, self._suffix)
        return sum(x.numel() * x.element_size() for x in buffers)

    @property
    def _slot_nbytes(self) -> int:
        return self.num_layers * self.spec.width * self._suffix.element_size()

    # -- prefix --------------------------------------------------------------
    def write_prefix(
        self,
        layer: int,
        entries: Tensor,
        materialise: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None,
    ) -> None:
        """Store the prefix of every utterance in one layer.

        Args:
            layer: which layer.
            entries: (B, T, width), right-padded. Row t is the entry that t's slot
                has when t is its newest position; a finished slot is therefore the
                row of its last position.
            materialise: entries (B, P, width) -> keys (B, P, G, D), values (B, P, G, Dv);
                for a prefix that is kept so.
        """
        rate, slots = self.spec.down_rate, self._prefix_mask.size(1)
        if slots:
            finished = entries[:, rate - 1 :: rate][:, :slots]
            finished = finished * self._prefix_mask[..., None]
            kept = materialise(finished) if self.materialised else (finished[:, :, None],)
            for buffer, x in zip(self._prefix, kept, strict=True):
                buffer[layer] = x.transpose(1, 2)
        if rate > 1 and entries.size(1):
            last = (self.lengths - 1).clamp_min(0)
            seed = entries[torch.arange(self.batch, device=last.device), last]
            self._seed[layer] = seed * (self._remainder > 0)[:, None]

    # -- suffix --------------------------------------------------------------
    def expand(self, rows: int, max_length: int = 16) -> None:
        """Give every utterance rows // B hypotheses, each from the prefix's seed.

        Args:
            rows: N, a multiple of B.
            max_length: tokens to allocate for; more are made room for when needed.

        Raises:
            ValueError: `rows` is not a multiple of the utterances.
        """
        if rows % self.batch:
            raise ValueError(f"{rows} hypotheses are no multiple of {self.batch} utterances")
        self._suffix = self._suffix.new_zeros(
            self.num_layers, rows, self._suffix_slots(max_length), self.spec.width
        )
        per_utterance = rows // self.batch
        if self._suffix.size(2):
            self._suffix[:, :, 0] = self._seed.repeat_interleave(per_utterance, dim=1)
        self._spread()

    def advance(self) -> None:
        """Make room for one more token of every hypothesis; call before the layers."""
        self.step += 1
        needed = self._suffix_slots(self.step)
        if needed > self._suffix.size(2):
            grown = self._suffix.new_zeros(
                self.num_layers, self.rows, max(needed, 2 * self._suffix.size(2)), self.spec.width
            )
            grown[:, :, : self._suffix.size(2)] = self._suffix
            self._suffix = grown
        self._locate()

    def reorder(self, parents: Tensor) -> None:
        """Let row n go on from row parents[n]; the prefix is not touched.

        Args:
            parents: (N',) int64, N' a multiple of B, each parent of the same
                utterance as the row. N' may differ from N.
        """
        used = self._suffix_slots(self.step)
        kept = self._suffix[:, :, :used].index_select(1, parents.to(self._suffix.device))
        if kept.size(1) == self.rows:
            self._suffix[:, :, :used] = kept
        else:
            self._suffix = torch.nn.functional.pad(kept, (0, 0, 0, self._suffix.size(2) - used))
            self._spread()

    def select(self, utterances: Tensor) -> None:
        """Keep some utterances with all their hypotheses; the others are over.

        Args:
            utterances: (B',) int64, in the order that they are to have; one that comes
                twice becomes two.
        """
        index = utterances.to(self.lengths.device)
        suffix = self._suffix.unflatten(1, (self.batch, -1)).index_select(1, index)
        self._suffix = suffix.flatten(1, 2)
        self.lengths = self.lengths[index]
        self._host_lengths = self.lengths.tolist()
        self._first_slot, self._remainder = self._first_slot[index], self._remainder[index]
        slots = max(length // self.spec.down_rate for length in self._host_lengths)
        self._prefix = [x.index_select(1, index)[:, :, :, :slots] for x in self._prefix]
        self._prefix_mask = self._prefix_mask[index, :slots]
        self._full_prefix = bool(self._prefix_mask.all())
        self._seed = self._seed.index_select(1, index)
        self._spread()

    def layer(self, index: int) -> "LayerCache":
        """Return the view of one layer, valid until the next `advance` or `reorder`."""
        return LayerCache(self, index)

    @property
    def position(self) -> Tensor:
        """(N,) int64: the true position of each hypothesis' newest token."""
        return self._position

    @property
    def newest_index(self) -> Tensor:
        """(N,) int64: the newest slot of each row among those of all rows."""
        if self._newest_index is None:
            self._newest_index = self._row * self._suffix.size(2) + self._slot
        return self._newest_index

    @property
    def suffix_mask(self) -> Tensor:
        """(N, S) bool: the slots of each row up to its newest one."""
        return torch.arange(self._used, device=self._slot.device) <= self._slot[:, None]

    @property
    def suffix_bias(self) -> Tensor:
        """(N, 1, S): 0 where a row holds a slot, else minus infinity; one tensor a step.

        (1, 1, 1) where every row holds all.
        """
        if self._suffix_bias is None:
            mask = self._everything if self._aligned else self.suffix_mask
            self._suffix_bias = _bias(mask, self._suffix)
        return self._suffix_bias

    @property
    def prefix_bias(self) -> Tensor:
        """(B, 1, P): likewise of the prefixes."""
        if self._prefix_bias is None:
            mask = self._everything if self._full_prefix else self._prefix_mask
            self._prefix_bias = _bias(mask, self._suffix)
        return self._prefix_bias

    def _suffix_slots(self, step: int) -> int:
        rate = self.spec.down_rate
        return max((n % rate + step + rate - 1) // rate for n in self._host_lengths)

    @property
    def _everything(self) -> Tensor:
        return torch.ones(1, 1, dtype=torch.bool, device=self._suffix.device)

    def _spread(self) -> None:
        """Derive what follows from utterances and the number of rows."""
        per_utterance = self.rows // self.batch
        self._row = torch.arange(self.rows, device=self.lengths.device)
        self._row_length = self.lengths.repeat_interleave(per_utterance)
        self._row_remainder = self._remainder.repeat_interleave(per_utterance)
        self._aligned = len({n % self.spec.down_rate for n in self._host_lengths}) == 1
        self._prefix_bias: Tensor | None = None
        self._locate()

    def _locate(self) -> None:
        """Derive from `step` where every row stands."""
        self._position = self._row_length + (self.step - 1)
        offset = self._row_remainder + (self.step - 1)  # of the newest token, from the first slot
        rate = self.spec.down_rate
        self._slot = offset // rate if rate > 1 else offset
        self._used = self._suffix_slots(self.step)
        self._suffix_bias: Tensor | None = None
        self._newest_index: Tensor | None = None


class LayerCache:
    """One layer's prefix and suffix, as its attention reads and writes them."""

    def __init__(self, cache: DecodingCache, index: int):
        self._cache = cache
        self._index = index

    @property
    def materialised(self) -> bool:
        """Whether the prefix is kept as keys and values."""
        return self._cache.materialised

    @property
    def position(self) -> Tensor:
        """(N,) int64: the true position of each row's newest token."""
        return self._cache._position

    @property
    def residue(self) -> Tensor:
        """(N,) int64: position % down_rate, 0 at the first member of a slot."""
        return self._cache._position % self._cache.spec.down_rate

    def partial(self) -> Tensor:
        """(N, width): the newest slot as it is; only meaningful where residue > 0."""
        cache = self._cache
        return cache._suffix[self._index, cache._row, cache._slot]

    def write(self, entry: Tensor) -> None:
        """Store the newest slot of every row, in place.

        Args:
            entry: (N, width).
        """
        cache = self._cache
        entry = entry.to(cache._suffix.dtype)
        if cache._aligned:
            slot = cache._suffix_slots(cache.step) - 1
            cache._suffix[self._index, :, slot] = entry
        else:
            cache._suffix[self._index, cache._row, cache._slot] = entry

    def newest(self) -> tuple[Tensor, Tensor]:
        """Return all slots (N * C, width) and the row in them of each one's newest, (N,)."""
        cache = self._cache
        return cache._suffix[self._index].flatten(0, 1), cache.newest_index

    @property
    def prefix(self) -> Tensor:
        """(B, P, width): one row an utterance, of a prefix that is not materialised."""
        (entries,) = self._cache._prefix
        return entries[self._index, :, 0]

    @property
    def prefix_key_value(self) -> tuple[Tensor, Tensor]:
        """(B, G, P, D) and (B, G, P, Dv) of a materialised prefix."""
        key, value = self._cache._prefix
        return key[self._index], value[self._index]

    @property
    def prefix_mask(self) -> Tensor | None:
        """(B, P) bool, true where held; None when every row is full."""
        return None if self._cache._full_prefix else self._cache._prefix_mask

    @property
    def prefix_bias(self) -> Tensor:
        """(B, 1, P): 0 where held, else minus infinity; (1, 1, 1) where all is held."""
        return self._cache.prefix_bias

    @property
    def suffix(self) -> Tensor:
        """(N, S, width): the slots up to the newest one."""
        return self._cache._suffix[self._index, :, : self._cache._used]

    @property
    def suffix_mask(self) -> Tensor | None:
        """(N, S) bool, true where held; None when every row is full."""
        return None if self._cache._aligned else self._cache.suffix_mask

    @property
    def suffix_bias(self) -> Tensor:
        """(N, 1, S): 0 where held, else minus infinity; (1, 1, 1) where all is held."""
        return self._cache.suffix_bias


def _bias(held: Tensor, like: Tensor) -> Tensor:
    """Return (X, 1, Y) of the dtype of `like`: 0 where `held` (X, Y), else minus infinity."""
    return like.new_zeros(held.shape).masked_fill_(~held, float("-inf"))[:, None]
