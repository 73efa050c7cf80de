"""What other attentions take beside the arguments of this package's modules.

They are `torch.nn.MultiheadAttention` and the modules of the PyPI package `mtla`.
"""

import warnings
from collections.abc import Mapping

import torch
from torch import Tensor

# An added mask is minus infinity, or a number as small, at what must not be seen.
_HIDDEN = -1e4

# Arguments of such modules -> values that change nothing here, and what to do about others. A
# size that is None is `embed_dim`.
MAKING = {
    "recompute_prompt_attn": (
        (True, False),
        "the queries of a call say whether a prompt attends: leave it out",
    ),
    "batch_first": ((True,), "inputs are (batch, positions, size): transpose yours"),
    "add_bias_kv": ((False,), "keys have no bias of their own: leave it out"),
    "add_zero_attn": ((False,), "there is no such key: leave it out"),
    "kdim": ((None,), "keys have the size of the model: leave it out"),
    "vdim": ((None,), "values have the size of the model: leave it out"),
}
CALL = {
    "is_causal": ((True,), "this attention is causal always: leave it out"),
    "need_weights": (
        (False,),
        "the weights are not kept, only the output is returned: leave it out",
    ),
    "average_attn_weights": ((), "the weights are not kept: leave it out"),
    "use_flashattn_infer": ((True, False), "the fastest kernel is chosen by itself: leave it out"),
    **dict.fromkeys(
        ("attn_mask", "self_attn_mask"),
        (
            (None,),
            "only the causal mask has a meaning: this attention is causal always. Leave it out, "
            "and tell padding by key_padding_mask",
        ),
    ),
}


def given(arguments: Mapping[str, object]) -> dict[str, object]:
    """Return what a constructor was given, for the one above it.

    Args:
        arguments: its `locals()`; those of `others` are taken out of it.

    Example:
        >>> given({"self": None, "bias": True, "others": {"dtype": None}})
        {'bias': True, 'dtype': None}
    """
    own = {name: x for name, x in arguments.items() if name not in ("self", "__class__", "others")}
    return own | arguments["others"]


def refuse_others(others: Mapping[str, object], known: Mapping[str, tuple[tuple, str]]) -> None:
    """Refuse arguments that would change something.

    Args:
        others: name -> value.
        known: name -> values that change nothing, what to do about others.

    Raises:
        ValueError: a value would change something; says what to do.
        TypeError: a name is not known.

    Example:
        >>> refuse_others({"is_causal": True}, CALL)
        >>> refuse_others({"is_causal": False}, CALL)
        Traceback (most recent call last):
        ValueError: is_causal=False: this attention is causal always: leave it out
    """
    for name, value in others.items():
        if name not in known:
            raise TypeError(f"unexpected argument {name!r}")
        harmless, advice = known[name]
        if not any(value is each for each in harmless):
            shown = "a tensor" if isinstance(value, Tensor) else repr(value)
            raise ValueError(f"{name}={shown}: {advice}")


def is_causal_mask(mask: Tensor, size: int) -> bool:
    """Tell whether a mask of the last queries hides what comes after each, and nothing else.

    Args:
        mask: (L, T) bool, true where hidden, or float that is added to scores.
        size: T, all keys.

    Example:
        >>> is_causal_mask(torch.ones(3, 3).triu(1).bool(), 3)
        True
        >>> is_causal_mask(torch.zeros(3, 3), 3)
        False
    """
    if mask.dim() != 2 or mask.size(1) != size or mask.size(0) > size:
        return False
    later = torch.ones(mask.shape, dtype=torch.bool, device=mask.device)
    later = later.triu(size - mask.size(0) + 1)
    if mask.dtype != torch.bool and not (mask.masked_fill(later, 0) == 0).all():
        return False
    return torch.equal(mask if mask.dtype == torch.bool else mask <= _HIDDEN, later)


def warn_of_sizes(embed_dim: int, latent: int, rotary: int) -> None:
    """Warn of latents that are no smaller than what they stand for.

    Args:
        embed_dim: d, model size.
        latent: r, numbers of a latent.
        rotary: numbers of the rotary key beside it.
    """
    if latent + rotary >= 2 * embed_dim:
        warnings.warn(
            f"a position's latent has {latent} + {rotary} numbers, and keys and values of "
            f"embed_dim={embed_dim} have {2 * embed_dim}: the defaults are the paper's, for "
            f"embed_dim=512; choose kv_lora_rank={max(1, embed_dim // 2)}, "
            f"qk_rope_head_dim={max(2, embed_dim // 32 * 2)} or smaller ones",
            stacklevel=3,
        )


def check_padding(key_padding_mask: Tensor, key: Tensor) -> None:
    """Check that a mask, (B, T) bool, fits a key, (B, T, d).

    Raises:
        ValueError: it does not.
    """
    if key_padding_mask.shape != key.shape[:2] or key_padding_mask.dtype != torch.bool:
        raise ValueError(
            f"key_padding_mask must be bool of shape {tuple(key.shape[:2])}, got "
            f"{key_padding_mask.dtype} of {tuple(key_padding_mask.shape)}"
        )
