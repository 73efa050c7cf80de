"""The contract of every self-attention."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtla_espnet.attention.ops import sdpa
from mtla_espnet.attention.step import Step
from mtla_espnet.attention.step_weights import weight_of
from mtla_espnet.cache.graph import GraphCache
from mtla_espnet.cache.growing import DecodingCache
from mtla_espnet.cache.slot import SlotForm
from mtla_espnet.position import AngleTable, Positions, rotate


@dataclass(frozen=True)
class StepLayers:
    """The layers of a kind, as a decoding step uses them.

    Attributes:
        query: reads the input; makes the queries, or what `query_up` makes them of.
        entry: read the input; together they make the numbers of a slot, before `norm` and the
            rotary turn.
        output: of all heads' values side by side.
        query_norm: LayerNorm before `query_up`.
        query_up: makes the queries of a low-rank query.
        norm: of each group's key part, with a weight and a bias of G * key_width numbers.
        up: latents (key_width) -> H heads of [key without position ; value]; its weight is
            absorbed into query and output, its bias is not used. None: key and value parts
            are what a slot holds.
    """

    query: nn.Linear
    entry: tuple[nn.Linear, ...]
    output: nn.Linear
    query_norm: nn.LayerNorm | None = None
    query_up: nn.Linear | None = None
    norm: nn.Module | None = None
    up: nn.Linear | None = None


class SelfAttention(nn.Module, ABC):
    """Causal self-attention over true positions, with a cache for decoding.

    A kind says what a slot of the cache is (`slot`) and by which layers one is made and read
    (`layers`). That is enough to train, to decode and to be measured. A kind that merges
    positions says how (`gates` or `merge_window`, `entries`, `forward`); one that has faster
    operators for all positions at once overrides `entries` and `forward`. A step, one position
    of every hypothesis, equals `forward`, by test.

    Args:
        embed_dim: d, model size.
        num_heads: H, query heads.
        dropout: of the attention weights, in training.

    Attributes:
        slot: what a slot of the cache holds and how it is read; set by each kind.
        softmax_scale: of the scores; set by each kind.
    """

    slot: SlotForm
    softmax_scale: float

    def __init__(self, embed_dim: int, num_heads: int, dropout: float = 0.0):
        super().__init__()
        if num_heads < 1:
            raise ValueError(f"num_heads (attention_heads) must be at least 1, got {num_heads}")
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.dropout = dropout

    # -- what a kind says --------------------------------------------------------
    @property
    @abstractmethod
    def layers(self) -> StepLayers:
        """The layers that a step uses."""

    def entries(self, key: Tensor, key_position: Positions) -> Tensor:
        """Return what each position's slot holds when it is the newest position.

        Args:
            key: (B, T, d), unpadded positions first.
            key_position: of (B, T): row t holds t, or -1 where padded.

        Returns:
            (B, T, slot.width); where the slot has a window, what each position alone has.
        """
        joint = torch.cat([layer(key) for layer in self.layers.entry], dim=-1)
        return torch.cat(self.made(joint, key_position), dim=-1)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        query_position: Positions,
        key_position: Positions,
    ) -> Tensor:
        """Attend from each query to the keys at its own and earlier positions.

        Args:
            query: (B, L, d).
            key: (B, T, d), each row's unpadded positions first.
            query_position: of (B, L), 0-based in the utterance's own
                `[prefix ; text]`, each also a key position; -1 is padding, whose
                output means nothing. The very object `key_position` says that the
                queries are all the keys, which opens the causal path without a mask.
            key_position: of (B, T): row t holds t, or -1 where padded.

        Returns:
            (B, L, d).
        """
        q = self.turned(self.heads(query), query_position)
        k, v = self.key_value(self.entries(key, key_position))
        return self.attended(q, k, v, query_position, key_position)

    # (chunk numbers (J,)) -> (J, G * key_width) and (J,) in float32: the weight of key part c
    # in chunk j is sigmoid(vectors[j] . c + numbers[j]). None: key parts are not weighted.
    gates: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None
    # windows (..., s, width) -> their finished slots (..., width), where the slot has a window
    merge_window: Callable[[Tensor], Tensor] | None = None

    # -- what follows from it ----------------------------------------------------
    def made(self, joint: Tensor, position: Positions) -> tuple[Tensor, Tensor]:
        """Return slots of single positions from their numbers (B, T, width) as projected.

        They come as two parts, side by side: the key parts of all groups, and the rest.
        """
        slot, norm = self.slot, self.layers.norm
        own, rest = joint.split((slot.key_parts, slot.width - slot.key_parts), dim=-1)
        if norm is not None:
            own = norm(own).to(joint.dtype)
        if slot.shared_width:
            rest = rotate(rest, position, slot.frequencies)
        else:
            own = own.unflatten(-1, (slot.groups, -1))
            own = rotate(own, position, slot.frequencies).flatten(2)
        return own, rest

    def attended(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        query_position: Positions,
        key_position: Positions,
    ) -> Tensor:
        """Return the output (B, L, d) of causal attention over keys at single positions.

        Args:
            query: (B, L, H, D), turned.
            key: (B, T, G, D), G divides H.
            value: (B, T, G, Dv).
            query_position: of (B, L), as `forward` takes it.
            key_position: of (B, T).
        """
        output = sdpa.attend(
            query.transpose(1, 2),
            key.transpose(1, 2),
            value.transpose(1, 2),
            query_position,
            key_position,
            scale=self.softmax_scale,
            dropout=self.dropout if self.training else 0.0,
        )
        return self.layers.output(output.transpose(1, 2).flatten(2))

    @property
    def value_width(self) -> int:
        """Numbers of a head's value."""
        return self.layers.output.in_features // self.num_heads

    @property
    def key_value_shapes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """(G, D) and (G, Dv): what `key_value` makes of a slot."""
        slot, up = self.slot, self.layers.up
        if up is None:
            key = slot.key_width + slot.shared_width
            return (slot.groups, key), (slot.groups, slot.value_width or slot.key_width)
        nope = up.out_features // self.num_heads - self.value_width
        return (self.num_heads, nope + slot.shared_width), (self.num_heads, self.value_width)

    def key_value(self, entries: Tensor) -> tuple[Tensor, Tensor]:
        """Return the keys and values of all heads that are read from slots.

        Args:
            entries: (B, P, slot.width).

        Returns:
            (B, P, G, D) and (B, P, G, Dv), with the G of `key_value_shapes`.
        """
        slot, up = self.slot, self.layers.up
        if up is None:
            return slot.parts(entries)
        latent, shared = entries.split((slot.key_parts, slot.shared_width), dim=-1)
        if slot.groups == 1:
            both = F.linear(latent, weight_of(up))
        else:
            weight = weight_of(up).unflatten(0, (slot.groups, -1))
            latent = latent.unflatten(-1, (slot.groups, -1))
            both = torch.einsum("bpgr,gmr->bpgm", latent, weight.to(latent.dtype)).flatten(2)
        both = both.unflatten(-1, (self.num_heads, -1))
        value_width = self.value_width
        nope, value = both.split((both.size(-1) - value_width, value_width), dim=-1)
        shared = shared[:, :, None].expand(-1, -1, self.num_heads, -1)
        return torch.cat((nope, shared), dim=-1), value

    def heads(self, query: Tensor) -> Tensor:
        """Return the queries (B, L, H, D) of inputs (B, L, d), not yet turned."""
        layers = self.layers
        q = layers.query(query)
        if layers.query_up is not None:
            q = layers.query_up(layers.query_norm(q))
        return q.unflatten(-1, (self.num_heads, -1))

    def turned(self, query: Tensor, position: Positions | Tensor) -> Tensor:
        """Turn the rotary part of queries (B, L, H, D) by their positions."""
        width, frequencies = self.slot.rotary_width, self.slot.frequencies
        if width == query.size(-1):
            return rotate(query, position, frequencies)
        plain, rotary = query.split((query.size(-1) - width, width), dim=-1)
        return torch.cat((plain, rotate(rotary, position, frequencies)), dim=-1)

    def step(
        self, query: Tensor, cache: DecodingCache, layer: int = 0, rotary: Tensor | None = None
    ) -> Tensor:
        """Attend from the newest position of each hypothesis, and cache it.

        `DecodingCache.advance` comes before the layers of a step.

        Args:
            query: (N, 1, d), which is the newest key too.
            cache: its newest slot is written in place.
            layer: which of its layers this is.
            rotary: (N or 1, 1), the number for the rotary angle where it is not the
                true position.

        Returns:
            (N, 1, d).
        """
        return Step(self, layer)(query[:, 0], cache, rotary)[:, None]

    def new_cache(
        self,
        lengths: Tensor,
        num_layers: int = 1,
        dtype: torch.dtype | None = None,
        materialised: bool = False,
        angles: AngleTable | None = None,
    ) -> DecodingCache:
        """Return an empty cache for prefixes of `lengths` (B,) positions.

        Args:
            lengths: (B,) int64.
            num_layers: layers like this one.
            dtype: of what is kept; None: that of the parameters.
            materialised: keep prefixes as keys and values, as kinds without latents always do.
            angles: of rotary positions; None: the cache makes its own.
        """
        weight = self.layers.output.weight
        shapes = self.key_value_shapes if materialised or self.layers.up is None else None
        place = dtype or weight.dtype, weight.device
        return DecodingCache(self.slot, num_layers, lengths, *place, shapes, angles)

    def write_prefix(
        self, cache: DecodingCache | GraphCache, layer: int, key: Tensor, key_position: Positions
    ) -> None:
        """Write what a layer of a cache keeps of a prefix, given `entries`' arguments."""
        entries = self.entries(key, key_position)
        cache.write_prefix(layer, entries, self.key_value, self.merge_window)


def require_integer(name: str, value: object, least: int = 1) -> int:
    """Return `value` if it is an integer of at least `least`.

    Raises:
        ValueError: names the option.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
    return value


def head_size(embed_dim: int, num_heads: int) -> int:
    """Return d / H.

    Raises:
        ValueError: H does not divide d.
    """
    if num_heads < 1 or embed_dim % num_heads:
        raise ValueError(
            f"attention_heads: {num_heads} heads do not divide the model size {embed_dim}"
        )
    return embed_dim // num_heads
