"""The latents of a model's layers inside a `Cache` of transformers."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache

from mtla_espnet.attention.base import SelfAttention
from mtla_espnet.attention.step import Step
from mtla_espnet.cache.ragged import RaggedCache


class LatentLayer(CacheLayerMixin):
    """What the decoder layers of one device have cached; a `Cache` has one for each device.

    Columns are what transformers calls positions: padding is one too, and takes no memory here.

    Args:
        attentions: of these layers, in their order.

    Attributes:
        rows: the cache; None before the first column.
        columns: how many there are.
        num_layers: decoder layers of the device.
    """

    is_sliding = False
    supports_early_init = False

    def __init__(self, attentions: Sequence[SelfAttention]):
        super().__init__()
        self._attentions = list(attentions)
        self.num_layers = len(self._attentions)
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.rows: RaggedCache | None = None
        self.columns = 0
        self._real: Tensor | None = None  # (N, C) bool of the first C columns; others are real
        self._steps: list[Step] = []

    # -- what the model does ---------------------------------------------------------
    def add(self, batch: int, count: int, real: Tensor | None) -> None:
        """Make room for `count` columns of each of `batch` rows, real where `real` (N, L) says.

        Raises:
            ValueError: it holds other rows.
        """
        if self.rows is None:
            weight = self._attentions[0].layers.output.weight
            form, number = self._attentions[0].slot, len(self._attentions)
            self.rows = RaggedCache(form, number, batch, weight.dtype, weight.device)
            self.is_initialized = True
        if batch != self.rows.rows:
            raise ValueError(f"{batch} rows, but the cache holds {self.rows.rows}: begin a new one")
        if real is None:
            self.rows.advance(count)
        else:
            device = self.rows.behind.device
            self._real = torch.cat((self.real(), real.to(device)), dim=1)
            self.rows.add(self._real[:, -count:].sum(dim=1))
        self.columns += count

    def step(self, layer: int, x: Tensor) -> Tensor:
        """Attend from one new position of every row, (N, 1, d) -> (N, 1, d)."""
        if not self._steps:
            # what is cached was weighed by these gates: they hold as long as it does
            self._steps = [
                Step(each, number, fixed_gates=True) for number, each in enumerate(self._attentions)
            ]
        return self._steps[layer](x[:, 0], self.rows)[:, None]

    def real(self) -> Tensor:
        """(N, columns) bool: what is no padding."""
        rest = self.columns - (0 if self._real is None else self._real.size(1))
        real = torch.ones(self.rows.rows, rest, dtype=torch.bool, device=self.rows.behind.device)
        return real if self._real is None else torch.cat((self._real, real), dim=1)

    # -- what transformers asks ------------------------------------------------------
    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Not used: the model writes latents."""

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs):
        """Refuse keys and values."""
        raise NotImplementedError("this cache holds latents, not keys and values")

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return the columns after `query_length` more, and where they begin."""
        return self.columns + query_length, 0

    def get_seq_length(self) -> int:
        """Return the columns, padding among them."""
        return self.columns

    def get_max_length(self) -> int:
        """Return that there is none."""
        return -1

    @property
    def batch_size(self) -> int:
        """Rows; -1 before the first column."""
        return -1 if self.rows is None else self.rows.rows

    @property
    def nbytes(self) -> int:
        """Bytes of the slots that the rows hold."""
        return 0 if self.rows is None else self.rows.nbytes

    @property
    def is_croppable(self) -> bool:
        """Whether any number of columns can be taken back: not where positions are merged."""
        return self._attentions[0].slot.down_rate == 1

    def crop(self, tokens_to_remove: int) -> None:
        """Take back the newest columns.

        Args:
            tokens_to_remove: minus their number.

        Raises:
            ValueError: a positive number, or a row would end inside a chunk.
        """
        if tokens_to_remove > 0:
            raise ValueError(f"crop({tokens_to_remove}): say minus the number of columns to remove")
        count = min(-tokens_to_remove, self.columns)
        if not count:
            return
        real = self.real()
        self.rows.crop(real[:, -count:].sum(dim=1))
        self._real = None if self._real is None else real[:, :-count]
        self.columns -= count

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Let row n go on from row beam_idx[n]."""
        if self.rows is not None:
            index = beam_idx.to(self.rows.behind.device)
            self._real = None if self._real is None else self._real.index_select(0, index)
            self.rows.reorder(index)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each row."""
        if self.rows is not None:
            rows = torch.arange(self.rows.rows, device=self.rows.behind.device)
            self.reorder_cache(rows.repeat_interleave(repeats))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep some rows."""
        if self.rows is not None:
            rows = torch.arange(self.rows.rows, device=self.rows.behind.device)
            self.reorder_cache(rows[indices.to(rows.device)])

    def offload(self) -> None:
        """Refuse: latents stay where their layers are."""
        raise ValueError("latents are not offloaded: leave cache_implementation out")


def latent_cache(given: Cache | None, attentions: Sequence[SelfAttention]) -> Cache:
    """Return the cache of a model: the one that it was given, or a new one.

    Args:
        given: None, a new `DynamicCache` as `generate` makes it, or a `Cache` of `LatentLayer`.
        attentions: of all layers.

    Raises:
        ValueError: another cache.
    """
    if isinstance(given, Cache) and given.layers and isinstance(given.layers[0], LatentLayer):
        return given
    if given is not None:
        is_plain = type(given) is DynamicCache and not given.offloading
        if not is_plain or given.get_seq_length():
            raise ValueError(
                f"{type(given).__name__}: the model keeps latents in a cache of its own; leave the "
                "cache and cache_implementation out"
            )
    devices: dict[torch.device, list[SelfAttention]] = {}
    for attention in attentions:
        devices.setdefault(attention.layers.output.weight.device, []).append(attention)
    return Cache(layers=[LatentLayer(each) for each in devices.values()])
