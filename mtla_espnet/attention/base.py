"""The contract of every self-attention, and the table from YAML name to class."""

import importlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mtla_espnet.cache.growing import DecodingCache, LayerCache
from mtla_espnet.cache.spec import CacheSpec
from mtla_espnet.position import Positions

KINDS = {
    "mha": ("mtla_espnet.attention.mha", "MultiHead"),
    "mqa": ("mtla_espnet.attention.mha", "MultiQuery"),
    "gqa": ("mtla_espnet.attention.mha", "GroupedQuery"),
    "mla": ("mtla_espnet.attention.mla", "Latent"),
    "mtla": ("mtla_espnet.attention.mtla", "TemporalLatent"),
}
DEFAULT_KIND = "mtla"  # of a decoder whose configuration names none


class SelfAttention(nn.Module, ABC):
    """Causal self-attention over true positions, with a cache for decoding.

    Three views of one function, equal by test: `forward` at all positions;
    `step`, one position of every hypothesis; `entries`, what the cache keeps.

    Args:
        embed_dim: d, model size.
        num_heads: H, query heads.
        dropout: of the attention weights, in training.
    """

    def __init__(self, embed_dim: int, num_heads: int, dropout: float = 0.0):
        super().__init__()
        if num_heads < 1:
            raise ValueError(f"num_heads (attention_heads) must be at least 1, got {num_heads}")
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.dropout = dropout

    @property
    @abstractmethod
    def cache_spec(self) -> CacheSpec:
        """What a slot of the cache holds."""

    @abstractmethod
    def entries(self, key: Tensor, key_position: Positions) -> Tensor:
        """Return what each position's slot holds when it is the newest position.

        Args:
            key: (B, T, d), unpadded positions first.
            key_position: of (B, T): row t holds t, or -1 where padded.

        Returns:
            (B, T, cache_spec.width).
        """

    @property
    @abstractmethod
    def key_value_shapes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """(G, D) and (G, Dv): what `key_value` makes of a slot."""

    @abstractmethod
    def key_value(self, entries: Tensor) -> tuple[Tensor, Tensor]:
        """Return the keys and values of all heads that are read from slots.

        Args:
            entries: (B, P, cache_spec.width).

        Returns:
            (B, P, G, D) and (B, P, G, Dv).
        """

    @abstractmethod
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
                queries are all the keys, which opens the fused causal path.
            key_position: of (B, T): row t holds t, or -1 where padded.

        Returns:
            (B, L, d).
        """

    @abstractmethod
    def step(self, query: Tensor, cache: LayerCache, rotary: Tensor | None = None) -> Tensor:
        """Attend from the newest position of each hypothesis, and cache it.

        `DecodingCache.advance` comes before the layers of a step.

        Args:
            query: (N, 1, d), which is the newest key too.
            cache: this layer's view; its newest slot is written in place.
            rotary: (N or 1, 1), the number for the rotary angle where it is not the
                true position.

        Returns:
            (N, 1, d).
        """

    def new_cache(
        self,
        lengths: Tensor,
        num_layers: int = 1,
        dtype: torch.dtype | None = None,
        materialised: bool = False,
    ) -> DecodingCache:
        """Return an empty cache for prefixes of `lengths` (B,) positions.

        Args:
            lengths: (B,) int64.
            num_layers: layers like this one.
            dtype: of what is kept; None: that of the parameters.
            materialised: keep prefixes as keys and values. `step` takes entries alone;
                the packed steps take both.
        """
        weight = next(self.parameters())
        return DecodingCache(
            self.cache_spec,
            num_layers,
            lengths,
            dtype or weight.dtype,
            weight.device,
            self.key_value_shapes if materialised else None,
        )


def attention_class(kind: str) -> type[SelfAttention]:
    """Return the class of a YAML name.

    Raises:
        ValueError: no such kind.
    """
    if kind not in KINDS:
        raise ValueError(f"attention: {kind!r} is unknown; choose one of {', '.join(KINDS)}")
    module, name = KINDS[kind]
    return getattr(importlib.import_module(module), name)


def attention_options(kind: str) -> dict[str, object]:
    """Return the options of a kind (keys of `attention_conf`) with their defaults.

    None means that the size follows the model.

    Example:
        >>> attention_options("gqa")
        {'bias': True, 'num_kv_heads': 2}
    """
    options = {}
    for cls in attention_class(kind).__mro__:
        parameters = inspect.signature(cls.__init__).parameters.values()
        options |= {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):  # passes nothing on
            break
    return options


def resolve_attention_conf(
    kind: str, conf: Mapping[str, object] | None, embed_dim: int, num_heads: int
) -> dict[str, object]:
    """Keep what `kind` takes of an `attention_conf` shared by several kinds.

    ESPnet merges options of the command line into a YAML and cannot delete, so
    options of other kinds may stand there; they are left out.

    Args:
        kind: YAML name.
        conf: `attention_conf`, or None.
        embed_dim: d, model size.
        num_heads: H.

    Returns:
        The options of `kind`, checked by building it without memory.

    Raises:
        ValueError: one line naming the key and the legal ones.
    """
    cls = attention_class(kind)
    legal = attention_options(kind)
    everyone = {name for other in KINDS for name in attention_options(other)}
    unknown = sorted(set(conf or {}) - everyone)
    if unknown:
        raise ValueError(
            f"attention_conf: unknown option {unknown[0]!r}; "
            f"{kind} takes {', '.join(sorted(legal))}"
        )
    own = {name: value for name, value in (conf or {}).items() if name in legal}
    with torch.device("meta"):
        cls(embed_dim, num_heads, **own)
    return own


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
