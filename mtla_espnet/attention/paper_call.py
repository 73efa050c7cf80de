"""The call of the paper's code, in front of an attention that takes positions.

True positions are built from `key_padding_mask`. What else `torch.nn.MultiheadAttention` takes is
accepted where it means what is done here, and refused where it does not.
"""

import torch
from torch import Tensor

from mtla_espnet.attention.incremental_state import KeepsIncrementalState
from mtla_espnet.attention.torch_arguments import (
    CALL,
    MAKING,
    check_padding,
    is_causal_mask,
    refuse_others,
)
from mtla_espnet.cache.growing import DecodingCache
from mtla_espnet.position import Positions, unpadded_first


class StandAlone(KeepsIncrementalState):
    """Adds the call of the paper's code in front of a `SelfAttention`.

    Args:
        embed_dim: d, model size.
        num_heads: H.
        dropout: of the attention weights, in training.
        device: of the parameters; None: PyTorch's default.
        dtype: of the parameters; None: PyTorch's default.
        **options: of the kind, and what `torch.nn.MultiheadAttention` takes.
    """

    def __init__(self, embed_dim, num_heads, dropout, device=None, dtype=None, **options):
        others = {name: options.pop(name) for name in MAKING.keys() & options.keys()}
        sizes = {name: None for name in ("kdim", "vdim") if others.get(name) == embed_dim}
        refuse_others(others | sizes, MAKING)
        super().__init__(embed_dim, num_heads, dropout, **options)
        self.to(device=device, dtype=dtype)

    def init_cache(self, batch: int, max_length: int) -> DecodingCache:
        """Return an empty cache, for one layer.

        `cache.reorder(parents)` lets row n go on from row parents[n]; there may be more or
        fewer rows afterwards.

        Args:
            batch: B, rows.
            max_length: positions to allocate for; it grows when they are used up.
        """
        # to the cache they are hypotheses of one utterance, which has no prefix
        cache = self.new_cache(torch.zeros(1, dtype=torch.int64, device=self.wo.weight.device))
        cache.expand(batch, max_length)
        return cache

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        *,
        position: Tensor | None = None,
        cache: DecodingCache | None = None,
        incremental_state: dict | None = None,
        **others,
    ) -> Tensor:
        """Causal self-attention.

        Args:
            query: (B, L, d), the last L of the key's positions.
            key: (B, T, d).
            value: equal to `key`: both are made of one input.
            key_padding_mask: (B, T) bool, true at padding, left or right.
            position: (1 or B, T), numbers for the rotary angles; unset: the count of
                unpadded keys. Chunks always follow that count.
            cache: of `init_cache`; then query and key are the new positions, one or more,
                and the output is that of one call on all positions so far. The first
                positions of an empty cache are one pass, of which the query may be the last
                ones; later ones are stepped through. No gradients.
            incremental_state: the call of the paper's code: a dict, empty at first, which
                keeps a cache for each layer that is called with it. Better use `cache`, which
                allocates once and tells its bytes.
            **others: what means the same here, of `torch.nn.MultiheadAttention`
                (`is_causal=True`, `need_weights=False`, an `attn_mask` that is causal) and of
                the paper's code (`self_attn_mask`, `use_flashattn_infer`, which chooses
                nothing: the kernel follows from the device).

        Returns:
            (B, L, d); rows at padding are 0.

        Raises:
            ValueError: `value` is not equal to `key`, shapes that do not fit, or an argument
                of `others` that asks for something else.
            TypeError: an argument of `others` that neither has.
        """
        for name, x in (("query", query), ("key", key)):
            if x.dim() != 3 or x.size(2) != self.wo.out_features:
                raise ValueError(
                    f"{name} must be (batch, positions, {self.wo.out_features}), got "
                    f"{tuple(x.shape)}"
                )
        if incremental_state is not None:
            if cache is not None:
                raise ValueError("cache and incremental_state: give one of them")
            if self._state_name not in incremental_state:
                incremental_state[self._state_name] = self.init_cache(len(key), key.size(1))
            cache = incremental_state[self._state_name]
        if others:
            size = key.size(1) + (0 if cache is None else cache.furthest)
            refuse_others(_without_causal_masks(others, size), CALL)
        if not (value is key or _same_memory(value, key) or torch.equal(value, key)):
            raise ValueError(
                "value must be equal to key: this is self-attention, whose keys and values are "
                "made of one input"
            )
        if cache is not None:
            return self._extend(query, key, key_padding_mask, position, cache)
        batch, size, _ = key.shape
        length = query.size(1)
        if length > size:
            raise ValueError(f"{length} queries, but only {size} keys: queries are the last keys")
        rotary = None if position is None else position.to(key.device).expand(batch, size)
        if key_padding_mask is None:
            index = torch.arange(size, device=key.device).expand(batch, size)
            query_position = key_position = Positions(index, rotary)
            if length < size:
                last = None if rotary is None else rotary[:, -length:]
                query_position = Positions(index[:, -length:], last)
            return super().forward(query, key, query_position, key_position)
        return self._forward_padded(query, key, key_padding_mask, rotary)

    def _forward_padded(
        self, query: Tensor, key: Tensor, padding: Tensor, rotary: Tensor | None
    ) -> Tensor:
        """Move unpadded keys to the front, attend, and put the queries back in place."""
        check_padding(padding, key)
        length, size = query.size(1), key.size(1)
        count = (~padding).cumsum(dim=1) - 1
        column_position = count.masked_fill(padding, -1)  # (B, T): true position of a column
        column, index = unpadded_first(padding)
        held = (index >= 0)[..., None]
        front_key = torch.where(held, _rows(key, column), 0)
        front_rotary = None if rotary is None else rotary.gather(1, column)
        key_position = Positions(index, front_rotary)
        if length == size:
            front_query = front_key if query is key else torch.where(held, _rows(query, column), 0)
            output = super().forward(front_query, front_key, key_position, key_position)
            output = _rows(output, column_position.clamp_min(0))
        else:
            last = None if rotary is None else rotary[:, -length:]
            query_position = Positions(column_position[:, -length:], last)
            output = super().forward(query, front_key, query_position, key_position)
        return output.masked_fill(padding[:, -length:, None], 0.0)

    @torch.no_grad()
    def _extend(
        self,
        query: Tensor,
        key: Tensor,
        padding: Tensor | None,
        position: Tensor | None,
        cache: DecodingCache,
    ) -> Tensor:
        """Attend from new positions, and cache them."""
        if padding is not None:
            raise ValueError("key_padding_mask has no meaning with a cache; drop it")
        count, length = key.size(1), query.size(1)
        fits = 0 < length <= count if cache.furthest == 0 else length == count > 0
        if len(query) != len(key) or len(key) != cache.rows or not fits:
            raise ValueError(
                f"with a cache, query and key are the new positions of {cache.rows} rows, got "
                f"{tuple(query.shape[:2])} and {tuple(key.shape[:2])}"
            )
        rotary = None if position is None else position.to(query.device).expand(len(query), count)
        if count > 1 and cache.furthest == 0:
            index = torch.arange(count, device=key.device).expand(len(key), count)
            first = asking = Positions(index, rotary)
            if length < count:
                last = None if rotary is None else rotary[:, -length:]
                asking = Positions(index[:, -length:], last)
            cache.advance(count)
            cache.write_first(0, self.entries(key, first), self.merge_window)
            return super().forward(query, key, asking, first)
        outputs = []
        for t in range(count):
            cache.advance()
            angle = None if rotary is None else rotary[:, t : t + 1]
            outputs.append(self.step(query[:, t : t + 1], cache, rotary=angle))
        return torch.cat(outputs, dim=1)


def _without_causal_masks(others: dict, size: int) -> dict:
    """Leave out the masks that say what is done anyway, of (L, T = size)."""
    return {
        name: value
        for name, value in others.items()
        if not (name.endswith("attn_mask") and isinstance(value, Tensor))
        or not is_causal_mask(value, size)
    }


def _same_memory(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.stride() == b.stride() and a.data_ptr() == b.data_ptr()


def _rows(x: Tensor, index: Tensor) -> Tensor:
    """(B, T, d) gathered by (B, L) row numbers."""
    return x.gather(1, index[..., None].expand(-1, -1, x.size(-1)))
