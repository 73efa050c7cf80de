"""Decoder-only speech and text models with a choice of self-attention, for ESPnet2.

The public names load on first use, so that `import mtla_espnet` loads neither
PyTorch nor ESPnet.
"""

import importlib

__version__ = "0.1.0"

_STANDALONE = "mtla_espnet.attention.standalone"
_PUBLIC = {
    "MultiheadAttention": _STANDALONE,
    "MultiQueryAttention": _STANDALONE,
    "GroupedQueryAttention": _STANDALONE,
    "MultiheadLatentAttention": _STANDALONE,
    "MultiheadTemporalLatentAttention": _STANDALONE,
    "Speech2Text": "mtla_espnet.inference.speech2text",
    "Speech2Translation": "mtla_espnet.inference.speech2translation",
    "Speech2Understand": "mtla_espnet.inference.speech2understand",
    "Text2Text": "mtla_espnet.inference.text2text",
}

__all__ = list(_PUBLIC)


def __getattr__(name: str):
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
