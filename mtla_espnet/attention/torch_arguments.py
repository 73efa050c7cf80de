"""What `torch.nn.MultiheadAttention` takes beside the arguments of this package's modules."""

import warnings
from collections.abc import Mapping

from torch import Tensor

# Arguments of `torch.nn.MultiheadAttention` -> values that change nothing here, and what to do
# about others. A size that is None is `embed_dim`.
MAKING = {
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
        "the weights are not kept, only the output is returned",
    ),
    "average_attn_weights": ((), "the weights are not kept: leave it out"),
    "attn_mask": (
        (None,),
        "this attention is causal always: leave it out, and tell padding by key_padding_mask",
    ),
}


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
