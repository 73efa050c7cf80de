"""From a trained Llama of transformers to the same model with latent attention."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from mtla_espnet.attention.to_latent import (
    Heads,
    Moments,
    fill_latent,
    latent_sizes,
    merge_by_mean,
    rotary_counts,
    with_bias,
)
from mtla_espnet.hf.config import LlamaMTLAConfig
from mtla_espnet.hf.model import LlamaMTLAForCausalLM
from mtla_espnet.user_error import UserError

# Of `rope_type`: turns that are one angle a position and pair, whatever the length.
_FIXED_TURNS = ("default", "linear", "llama3")
_KEPT_FIELDS = ("_name_or_path", "architectures", "quantization_config", "model_type", "head_dim")


def to_mla(
    llama: LlamaForCausalLM,
    calibration: Iterable[Tensor],
    kv_lora_rank: int | None = None,
    qk_rope_head_dim: int | None = None,
) -> tuple[LlamaMTLAForCausalLM, list[float]]:
    """Return a Llama with MLA, near to the given one; exact where the rank allows.

    The maths stands in `mtla_espnet.attention.to_latent`.

    Args:
        llama: MHA, GQA or MQA; not changed.
        calibration: tokens (B, L) without padding, on the model's device.
        kv_lora_rank: r, even; None: 4 D of heads of D numbers, or all 2 G D where that is less.
        qk_rope_head_dim: R, even; None: D / 2.

    Returns:
        The model, in the dtype and on the device of the given one, and of each layer the part
        of the weighed energy of keys and values that the rank loses.

    Raises:
        UserError: a model of another family, or a size that its heads do not have.
    """
    config = llama.config
    frequencies = _frequencies(llama)
    width = config.head_dim
    groups = config.num_key_value_heads
    rank, rope = latent_sizes(width, groups, kv_lora_rank, qk_rope_head_dim)
    moments, length = _moments(llama, calibration)
    attentions = [layer.self_attn for layer in llama.model.layers]
    heads = [_heads(*each) for each in zip(attentions, moments, strict=True)]
    counts = rotary_counts(heads, frequencies, rope, length)
    kept = [float(f) for f, n in zip(frequencies, counts, strict=True) for _ in range(n)]
    fields = {k: v for k, v in config.to_dict().items() if k not in _KEPT_FIELDS}
    latent_config = LlamaMTLAConfig(
        **fields | dict(attention="mla", kv_lora_rank=rank, qk_rope_head_dim=rope),
        qk_nope_head_dim=width,
        v_head_dim=width,
        rope_frequencies=kept,
        latent_norm=False,
    )
    model = _like(llama, latent_config)
    lost = []
    for layer, each in zip(model.model.layers, heads, strict=True):
        lost.append(fill_latent(layer.self_attn, each, counts, width**-0.5))
    return model.eval(), lost


def to_mtla(mla: LlamaMTLAForCausalLM, down_rate: int = 2) -> LlamaMTLAForCausalLM:
    """Return a model with MTLA, whose finished chunks are plain means of the latents of an MLA.

    Args:
        mla: with `attention: mla`; not changed.
        down_rate: s.

    Raises:
        UserError: a model of another attention.
    """
    if mla.config.attention != "mla":
        raise UserError(f"the model has attention {mla.config.attention}: only mla becomes mtla")
    fields = {k: v for k, v in mla.config.to_dict().items() if k not in _KEPT_FIELDS}
    model = _like(mla, LlamaMTLAConfig(**fields | dict(attention="mtla", down_rate=down_rate)))
    for layer, source in zip(model.model.layers, mla.model.layers, strict=True):
        merge_by_mean(layer.self_attn, source.self_attn)
    return model.eval()


@torch.no_grad()
def perplexity(model: torch.nn.Module, texts: Iterable[Tensor]) -> float:
    """Return exp of the mean loss of the tokens (B, L) after each row's first."""
    total, count = 0.0, 0
    for tokens in texts:
        loss = model(tokens, labels=tokens, use_cache=False).loss
        number = tokens.size(0) * (tokens.size(1) - 1)
        total, count = total + float(loss) * number, count + number
    return float(torch.tensor(total / max(count, 1)).exp())


def _frequencies(llama: LlamaForCausalLM) -> Tensor:
    """Return the angles a position of the rotary pairs (D / 2,).

    Raises:
        UserError: another family, or turns that depend on the length.
    """
    kind = llama.config.model_type
    if kind != "llama":
        raise UserError(f"a model of the family {kind!r}: only Llama's (`llama`) are converted")
    turn = (llama.config.rope_parameters or {}).get("rope_type", "default")
    if turn not in _FIXED_TURNS:
        raise UserError(
            f"rope_type {turn!r}: only {', '.join(_FIXED_TURNS)} turn by one angle a position"
        )
    return llama.model.rotary_emb.inv_freq.detach().double().cpu()


@torch.no_grad()
def _moments(llama, calibration: Iterable[Tensor]) -> tuple[list[Moments], int]:
    """Return the moments of what each attention reads, and the longest row."""
    layers = llama.model.layers
    moments = [Moments(llama.config.hidden_size) for _ in layers]

    def reads(moment: Moments) -> Callable:
        def hook(module, arguments, named):
            x = named["hidden_states"] if "hidden_states" in named else arguments[0]
            moment.add(x.flatten(0, 1))

        return hook

    hooks = [
        layer.self_attn.register_forward_pre_hook(reads(moment), with_kwargs=True)
        for layer, moment in zip(layers, moments, strict=True)
    ]
    longest = 0
    try:
        for tokens in calibration:
            llama.model(tokens, use_cache=False)
            longest = max(longest, tokens.size(1))
    finally:
        for hook in hooks:
            hook.remove()
    if not longest:
        raise UserError("there is no text to calibrate with")
    return moments, longest


def _heads(attention, moments: Moments) -> Heads:
    """Return the projections of a layer of Llama."""
    groups = attention.config.num_key_value_heads
    query, key, value = (
        with_bias(layer.weight, layer.bias, heads)
        for layer, heads in (
            (attention.q_proj, attention.config.num_attention_heads),
            (attention.k_proj, groups),
            (attention.v_proj, groups),
        )
    )
    output = attention.o_proj
    bias = None if output.bias is None else output.bias.detach().double().cpu()
    weight = output.weight.detach().double().cpu()
    return Heads(_pairs(query), _pairs(key), value, weight, bias, moments, moments)


def _pairs(x: Tensor) -> Tensor:
    """(H, D, d): Llama's rotary pairs k and k + D / 2 become neighbours."""
    return x.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)


def _like(source: torch.nn.Module, config: LlamaMTLAConfig) -> LlamaMTLAForCausalLM:
    """Return a model with the weights of another one that both have."""
    weight = source.model.embed_tokens.weight
    model = LlamaMTLAForCausalLM(config).to(weight.device, weight.dtype)
    own = model.state_dict()
    found = {k: v for k, v in source.state_dict().items() if k in own and ".self_attn." not in k}
    missing = model.load_state_dict(found, strict=False).missing_keys
    rest: Sequence[str] = [name for name in missing if ".self_attn." not in name]
    assert not rest or model.config.tie_word_embeddings, rest
    model.generation_config = source.generation_config
    return model
