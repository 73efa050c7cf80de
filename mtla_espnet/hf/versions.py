"""What differs between the versions of transformers that are supported."""

import importlib.metadata

LEAST, BEYOND = (5, 17), (6,)


def check_version() -> None:
    """Refuse a version of transformers that the models here are not made for.

    Raises:
        ImportError: it is missing, too old or too new; says what to install.
    """
    advice = "pip install 'mtla-espnet[hf]'"
    try:
        version = importlib.metadata.version("transformers")
    except importlib.metadata.PackageNotFoundError:
        raise ImportError(f"mtla_espnet.hf needs transformers: {advice}") from None
    found = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if not LEAST <= found < BEYOND:
        raise ImportError(
            f"mtla_espnet.hf is made for transformers 5.17 to 5, and {version} is installed: "
            f"{advice}"
        )


def cache_name() -> str:
    """Return what outputs and arguments call the cache: transformers 5.24 renamed it."""
    from transformers.modeling_outputs import CausalLMOutputWithPast

    fields = CausalLMOutputWithPast.__dataclass_fields__
    return "cache" if "cache" in fields else "past_key_values"
