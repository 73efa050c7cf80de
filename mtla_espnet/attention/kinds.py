"""The table from YAML name to kind of attention, and the options of each."""

import importlib
import inspect
from collections.abc import Mapping

import torch

from mtla_espnet.attention.base import SelfAttention

KINDS = {
    "mha": ("mtla_espnet.attention.mha", "MultiHead"),
    "mqa": ("mtla_espnet.attention.mha", "MultiQuery"),
    "gqa": ("mtla_espnet.attention.mha", "GroupedQuery"),
    "mla": ("mtla_espnet.attention.mla", "Latent"),
    "mtla": ("mtla_espnet.attention.mtla", "TemporalLatent"),
    "gla": ("mtla_espnet.attention.gla", "GroupedLatent"),
}
DEFAULT_KIND = "mtla"  # of a decoder whose configuration names none


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


def shown_name(kind: str, conf: Mapping[str, object]) -> str:
    """Return how reports call a kind: with the forms that it is told to take.

    Args:
        kind: YAML name.
        conf: its options.

    Example:
        >>> shown_name("mtla", {"down_rate": 2, "merge": "softmax"})
        'mtla softmax'
    """
    usual = attention_options(kind)
    forms = [x for name, x in conf.items() if isinstance(x, str) and x != usual[name]]
    return " ".join([kind, *forms])


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
