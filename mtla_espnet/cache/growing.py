"""The decoding cache of the plain searches: one prefix an utterance, one suffix a hypothesis.

A slot holds what an attention layer keeps of `down_rate` consecutive positions
(one position, unless positions are merged). Slot j covers positions
j * down_rate ... (j + 1) * down_rate - 1 of an utterance's own `[prefix ; text]`.

- The prefix cache holds the finished slots of the prefix. It is written once an
  utterance, is read by all its hypotheses, and is never copied or reordered.
- The suffix cache holds generated positions, preallocated and written in place.
  Its first slot is the one that the end of the prefix left unfinished, if any:
  every hypothesis starts from what the prefix left there, its seed.

The cache does not know the kinds of attention: a layer says with a `SlotForm`
what a slot holds, and hands in entries of that shape. A prefix may instead be kept
*materialised*, as the keys and values of all heads that are read from its slots: larger
for latent kinds, but read with fewer operations.
"""

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from mtla_espnet.cache.slot import SlotForm, finished_slots, mask_bias, open_positions, seeds
from mtla_espnet.position import AngleTable


class DecodingCache:
    """Prefix and suffix cache of all layers of a decoder.

    Rows of the suffix are hypotheses; row n belongs to utterance n * B // N, so
    the hypotheses of an utterance lie together. Every row has generated the same
    number of tokens.

    Args:
        form: what a layer keeps; the same for all layers.
        num_layers: layers.
        lengths: (B,) int64, prefix positions of each utterance (0 is allowed).
        dtype: of the stored entries.
        device: where the cache lives.
        key_value: shapes (G, D), (G, Dv) of a slot's keys and values where the prefix is
            materialised; None: it holds entries.
        angles: rotary angles of positions, which caches may share; None: its own.

    Attributes:
        lengths: (B,) int64, prefix positions.
        step: tokens that each hypothesis holds.
        materialised: whether the prefix is.
        position: (N,) int64, the true position of each hypothesis' newest token.
    """

    def __init__(
        self,
        form: SlotForm,
        num_layers: int,
        lengths: Tensor,
        dtype: torch.dtype,
        device: torch.device,
        key_value: tuple[tuple[int, int], tuple[int, int]] | None = None,
        angles: AngleTable | None = None,
    ):
        self.form = form
        self.num_layers = num_layers
        self.lengths = lengths.to(device)
        self.step = 0
        self._angles = angles or AngleTable(form.rotary_width, dtype, device, form.frequencies)
        self._first_slot = self.lengths // form.down_rate  # (B,) of the suffix
        prefix_slots = int(self._first_slot.max()) if len(lengths) else 0
        kind = {"dtype": dtype, "device": device}
        batch = len(self.lengths)
        self.materialised = key_value is not None
        # entries, or keys and values, each (layers, B, G, P, width)
        self._prefix = [
            torch.zeros(num_layers, batch, groups, prefix_slots, width, **kind)
            for groups, width in key_value or ((1, form.width),)
        ]
        self.prefix_mask = (
            torch.arange(prefix_slots, device=device) < self._first_slot[:, None]
        )  # (B, P)
        self._seed = torch.zeros(num_layers, batch, form.open_slots, form.width, **kind)
        # The columns of a window come before the slots.
        self._lead = form.open_slots if form.window else 0
        self._suffix = torch.zeros(num_layers, 0, self._lead, form.width, **kind)
        # read on the host at every step, so kept there
        self._host_lengths = self.lengths.tolist()

    # -- sizes ---------------------------------------------------------------
    @property
    def batch(self) -> int:
        """Utterances."""
        return len(self._host_lengths)

    @property
    def furthest(self) -> int:
        """Positions that the longest hypothesis holds."""
        return max(self._host_lengths, default=0) + self.step

    @property
    def rows(self) -> int:
        """Hypotheses over all utterances; 0 before `expand`."""
        return self._suffix.size(1)

    @cached_property
    def _open(self) -> tuple[Tensor, Tensor]:
        """What `seeds` needs of the prefixes, once for all layers."""
        return open_positions(self.lengths, self.form)

    @property
    def prefix_nbytes(self) -> int:
        """Bytes of the finished prefix slots, once an utterance, as they are kept."""
        slots = sum(length // self.form.down_rate for length in self._host_lengths)
        numbers = sum(x.size(2) * x.size(4) for x in self._prefix)
        return slots * self.num_layers * numbers * self._suffix.element_size()

    @property
    def suffix_nbytes(self) -> int:
        """Bytes of the slots that the hypotheses hold, their seeds included."""
        held = sum(
            self.form.slots(length + self.step) - length // self.form.down_rate
            for length in self._host_lengths
        )
        # the seeds lie once an utterance until `expand`
        copies = self.rows // self.batch if self.rows else 1
        width = self.form.width * self._suffix.element_size()
        return held * copies * self.num_layers * width

    @property
    def nbytes(self) -> int:
        """Bytes of the positions held: chunks counted as ceil(T / s), padding not."""
        return self.prefix_nbytes + self.suffix_nbytes

    @property
    def nbytes_allocated(self) -> int:
        """Bytes of the buffers."""
        buffers = (*self._prefix, self._seed, self._suffix)
        return sum(x.numel() * x.element_size() for x in buffers)

    # -- prefix --------------------------------------------------------------
    def write_prefix(
        self,
        layer: int,
        entries: Tensor,
        materialise: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None,
        merge: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        """Store the prefix of every utterance in one layer.

        Args:
            layer: which layer.
            entries: (B, T, width), right-padded. Row t is the entry that t's slot has when t is
                its newest position, so a finished slot is the row of its last position;
                with a window it is what t alone has.
            materialise: entries (B, P, width) -> keys (B, P, G, D), values (B, P, G, Dv);
                for a prefix that is kept so.
            merge: windows (B, P, s, width) -> their finished slots (B, P, width).
        """
        rate, slots = self.form.down_rate, self.prefix_mask.size(1)
        if slots:
            finished = finished_slots(entries, rate, merge)[:, :slots]
            finished = finished * self.prefix_mask[..., None]
            kept = materialise(finished) if self.materialised else (finished[:, :, None],)
            for buffer, x in zip(self._prefix, kept, strict=True):
                buffer[layer] = x.transpose(1, 2)
        if rate > 1 and entries.size(1):
            self._seed[layer] = seeds(entries, self._open)

    def prefix(self, layer: int) -> Tensor:
        """(B, P, width): one row an utterance, of a prefix that is not materialised."""
        (entries,) = self._prefix
        return entries[layer, :, 0]

    def prefix_key_value(self, layer: int) -> tuple[Tensor, Tensor]:
        """(B, G, P, D) and (B, G, P, Dv) of a materialised prefix."""
        key, value = self._prefix
        return key[layer], value[layer]

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
            self.num_layers, rows, self._columns(max_length), self.form.width
        )
        first = min(self.form.open_slots, self._suffix.size(2))
        seed = self._seed[:, :, :first].repeat_interleave(rows // self.batch, dim=1)
        self._suffix[:, :, :first] = seed
        self._spread()

    def advance(self, count: int = 1) -> None:
        """Make room for more tokens of every hypothesis; call before the layers.

        Args:
            count: tokens; more than one where `write_first` stores them.
        """
        self.step += count
        held, needed = self._suffix.size(2), self._columns(self.step)
        if needed > held:
            room = max(needed, 2 * held) - held
            self._suffix = torch.nn.functional.pad(self._suffix, (0, 0, 0, room))
        self._locate()

    def write_first(
        self, layer: int, entries: Tensor, merge: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        """Store the first positions of every row at once, of utterances without a prefix.

        `advance` by their number comes before.

        Args:
            layer: which layer.
            entries: (N, T, width), T at least 1, as `write_prefix` takes them.
            merge: windows (N, P, s, width) -> their finished slots (N, P, width).
        """
        finished = finished_slots(entries, self.form.down_rate, merge)
        columns, count = self._suffix[layer], finished.size(1)
        columns[:, self._lead : self._lead + count] = finished
        first = 0 if self._lead else count
        if self._lead or entries.size(1) % self.form.down_rate:
            lengths = self.lengths.new_full((len(entries),), entries.size(1))
            opened = open_positions(lengths, self.form)
            columns[:, first : first + self.form.open_slots] = seeds(entries, opened)

    def reorder(self, parents: Tensor) -> None:
        """Let row n go on from row parents[n]; the prefix is not touched.

        Args:
            parents: (N',) int64, N' a multiple of B, each parent of the same
                utterance as the row. N' may differ from N.
        """
        used = self._columns(self.step)
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
        self._first_slot = self._first_slot[index]
        slots = max(length // self.form.down_rate for length in self._host_lengths)
        self._prefix = [x.index_select(1, index)[:, :, :, :slots] for x in self._prefix]
        self.prefix_mask = self.prefix_mask[index, :slots]
        self._seed = self._seed.index_select(1, index)
        self._spread()

    # -- what a step of a layer reads and writes --------------------------------
    def suffix(self, layer: int) -> Tensor:
        """(N, S, width): window and slots up to the newest one of the longest row."""
        return self._suffix[layer, :, : self._used]

    def slots(self, layer: int) -> Tensor:
        """All columns, (N * C, width): those of `newest` and `finished` count rows of it."""
        return self._suffix[layer].flatten(0, 1)

    @cached_property
    def newest(self) -> Tensor:
        """(N,) int64: the column that each row's newest position is written to, in `slots`."""
        column = self.position % self.form.down_rate if self._lead else self._slot
        return self._row * self._suffix.size(2) + column

    @property
    def finished(self) -> Tensor:
        """(N,) int64: the column of `slots` that each row's window is to be merged to."""
        return self._row * self._suffix.size(2) + self._lead + self._slot

    @property
    def suffix_mask(self) -> Tensor:
        """(N, S) bool: what each row sees: its slots up to its newest one, and its window."""
        column = torch.arange(self._used, device=self._slot.device)
        if not self._lead:
            return column <= self._slot[:, None]
        window = column <= (self.position % self.form.down_rate)[:, None]
        return torch.where(column < self._lead, window, column - self._lead < self._slot[:, None])

    @cached_property
    def suffix_bias(self) -> Tensor:
        """(N, 1, S): 0 where a row sees a slot, else minus infinity; one tensor a step.

        (1, 1, 1) where every row sees all.
        """
        all_seen = self._aligned and not self._lead
        return mask_bias(None if all_seen else self.suffix_mask, self._suffix)

    @cached_property
    def prefix_bias(self) -> Tensor:
        """(B, 1, P): 0 where an utterance holds a slot, else minus infinity.

        (1, 1, 1) where every utterance holds all.
        """
        return mask_bias(None if self.prefix_mask.all() else self.prefix_mask, self._suffix)

    @cached_property
    def chunk(self) -> Tensor:
        """(N,) int64: the number of the slot of each row's newest position."""
        rate = self.form.down_rate
        return self.position // rate if rate > 1 else self.position

    @cached_property
    def angle(self) -> Tensor:
        """(N, 1, rotary_width / 2) complex: by which the newest position's pairs turn."""
        return self._angles.at(self.position, self.furthest)[:, None]

    def _columns(self, step: int) -> int:
        rate = self.form.down_rate
        return self._lead + max((n % rate + step + rate - 1) // rate for n in self._host_lengths)

    def _spread(self) -> None:
        """Derive what follows from utterances and the number of rows."""
        per_utterance = self.rows // self.batch
        self._row = torch.arange(self.rows, device=self.lengths.device)
        self._row_length = self.lengths.repeat_interleave(per_utterance)
        self._row_remainder = self._row_length % self.form.down_rate
        self._aligned = len({n % self.form.down_rate for n in self._host_lengths}) == 1
        self._forget("prefix_bias", "_open")
        self._locate()

    def _locate(self) -> None:
        """Derive from `step` where every row stands."""
        self.position = self._row_length + (self.step - 1)
        offset = self._row_remainder + (self.step - 1)  # of the newest token, from the first slot
        rate = self.form.down_rate
        self._slot = offset // rate if rate > 1 else offset
        self._used = self._columns(self.step)
        self._forget("suffix_bias", "newest", "angle", "chunk")

    def _forget(self, *names: str) -> None:
        """Let cached properties be computed anew."""
        for name in names:
            self.__dict__.pop(name, None)
