"""The configuration of a Llama with latent attention."""

import torch
from huggingface_hub.dataclasses import strict
from transformers import LlamaConfig

from mtla_espnet.attention.base import SelfAttention
from mtla_espnet.attention.kinds import attention_class, attention_options
from mtla_espnet.position import THETA

KINDS = ("mtla", "mla", "gla")


@strict
class LlamaMTLAConfig(LlamaConfig):
    """Sizes of a `LlamaMTLAForCausalLM`.

    What is not said here is that of `LlamaConfig`, whose fields `num_key_value_heads` and
    `head_dim` say nothing here. `LlamaMTLAConfig(**vars(config))` takes the other sizes of a Llama.

    Attributes:
        attention: `mtla`, `mla` or `gla`.
        kv_lora_rank: r, numbers of a latent; None: four head widths (of `gla`: of all groups).
        q_lora_rank: rank of a low-rank query projection; 0 is a full one.
        qk_nope_head_dim: width of a head's part without position; None: hidden_size / heads.
        qk_rope_head_dim: width of the rotary part; None: half of it.
        v_head_dim: width of a head's value; None: hidden_size / heads.
        rope_frequencies: qk_rope_head_dim / 2 angles, by which the rotary pairs turn a position;
            None: those of `rope_theta` in `rope_parameters`.
        latent_norm: whether a LayerNorm makes the latents; converted models have none.
        down_rate: s of `mtla`, positions that are merged into one slot of the cache.
        num_latent_groups: of `gla`.

    Raises:
        ValueError: a size that the attention cannot have; names it.

    Example:
        >>> LlamaMTLAConfig(hidden_size=64, num_attention_heads=4).down_rate
        2
    """

    model_type = "llama_mtla"
    keys_to_ignore_at_inference = ["cache", "past_key_values"]
    base_model_tp_plan = {}
    base_model_pp_plan = {}

    attention: str = "mtla"
    kv_lora_rank: int | None = None
    q_lora_rank: int = 0
    qk_nope_head_dim: int | None = None
    qk_rope_head_dim: int | None = None
    v_head_dim: int | None = None
    rope_frequencies: list[float] | None = None
    latent_norm: bool = True
    down_rate: int = 2
    num_latent_groups: int = 2

    def new_attention(self) -> SelfAttention:
        """Return one layer's attention."""
        if self.attention not in KINDS:
            raise ValueError(
                f"attention: {self.attention!r} is none of {', '.join(KINDS)}, the kinds that "
                "keep latents; for others take transformers' Llama"
            )
        # a cache of ragged rows holds no single positions beside slots, as `merge: softmax` needs
        names = attention_options(self.attention).keys() - {"bias", "merge"}
        options = {name: getattr(self, name) for name in names}

        def made(**changed) -> SelfAttention:
            return attention_class(self.attention)(
                self.hidden_size,
                self.num_attention_heads,
                self.attention_dropout,
                bias=self.attention_bias,
                **options | changed,
            )

        theta = self._theta()
        if self.rope_frequencies is not None or theta == THETA:
            return made()
        with torch.device("meta"):
            width = made().slot.rotary_width
        return made(rope_frequencies=[theta ** (-k / width) for k in range(0, width, 2)])

    def _theta(self) -> float:
        """Return the base of the rotary angles.

        Raises:
            ValueError: they follow another rule.
        """
        rope = self.rope_parameters or {}
        kind = rope.get("rope_type", "default")
        if kind != "default" and self.rope_frequencies is None:
            raise ValueError(
                f"rope_parameters: rope_type {kind!r} is not known here: say default, or give "
                "rope_frequencies"
            )
        return float(rope.get("rope_theta", THETA))
