"""Decoder-only speech and text models with a choice of self-attention, for ESPnet2.

The public names load on first use, so that `import mtla_espnet` loads neither
PyTorch nor ESPnet.
"""

import importlib
import importlib.util

__version__ = "0.2.0"

_STANDALONE = "mtla_espnet.attention.standalone"
_HF = "mtla_espnet.hf"
_PUBLIC = {
    "MultiheadAttention": _STANDALONE,
    "MultiQueryAttention": _STANDALONE,
    "GroupedQueryAttention": _STANDALONE,
    "MultiheadLatentAttention": _STANDALONE,
    "MultiheadTemporalLatentAttention": _STANDALONE,
    "GroupedLatentAttention": "mtla_espnet.attention.gla",
    "MultiheadTemporalLatentCrossAttention": "mtla_espnet.attention.cross",
    "LlamaMTLAConfig": _HF,
    "LlamaMTLAModel": _HF,
    "LlamaMTLAForCausalLM": _HF,
    "Speech2Text": "mtla_espnet.inference.speech2text",
    "Speech2Translation": "mtla_espnet.inference.speech2translation",
    "Speech2Understand": "mtla_espnet.inference.speech2understand",
    "Text2Text": "mtla_espnet.inference.text2text",
}

__all__ = list(_PUBLIC)


def __getattr__(name: str):
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    except ModuleNotFoundError as error:
        advice = missing_recipes(error)
        if advice is None:
            raise
        raise ImportError(f"{name}: {advice}", name=error.name) from None


# Packages of the extras that one command needs -> the extra.
_EXTRAS = {"gradio": "demo", "fastapi": "demo", "uvicorn": "demo", "silero_vad": "vad"}


def missing_recipes(error: ModuleNotFoundError) -> str | None:
    """Return what to do about a module that is missing since its extra is not installed.

    `pip install mtla-espnet` installs the attention modules and PyTorch. None: the packages of
    the extras are there, and the module is missing for another reason.
    """
    extra = _EXTRAS.get((error.name or "").partition(".")[0])
    if extra is not None:
        return f"needs {error.name}: pip install 'mtla-espnet[{extra}]'"
    if importlib.util.find_spec("espnet2") is not None:
        return None
    return f"needs {error.name}: pip install 'mtla-espnet[recipes]'"


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
