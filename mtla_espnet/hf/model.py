"""Llama with latent attention: transformers' blocks around this package's attention.

A layer is Llama's, but for `self_attn`, which is an attention of `mtla_espnet.attention` with its
parameter names (`wq`, `wkv_a`, `wkv_b`, `wo`). One new position of every row over a cache is that
package's absorbed step; several are one pass.
"""

import torch
from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

from mtla_espnet.attention.extend import extend
from mtla_espnet.hf.cache import latent_cache
from mtla_espnet.hf.columns import Columns
from mtla_espnet.hf.config import LlamaMTLAConfig
from mtla_espnet.hf.versions import cache_name

_CACHE = cache_name()


class LlamaMTLADecoderLayer(GradientCheckpointingLayer):
    """A block.

    Args:
        config: of the model.
    """

    def __init__(self, config: LlamaMTLAConfig):
        super().__init__()
        self.self_attn = config.new_attention()
        self.mlp = LlamaMLP(config)
        self.input_layernorm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.post_attention_layernorm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def forward(self, x: Tensor, columns: Columns, place=None) -> Tensor:
        """Return (B, L, d).

        Args:
            x: (B, L, d).
            columns: which of (B, L) are positions.
            place: the `LatentLayer` of its device, to which the columns are added, and the
                number of this layer in it; None: there is no cache.
        """
        x = x + self._attend(self.input_layernorm(x), columns.on(x.device), place)
        return x + self.mlp(self.post_attention_layernorm(x))

    def _attend(self, x: Tensor, columns: Columns, place) -> Tensor:
        if place is None:
            packed = columns.to_front(x)
            return columns.back(self.self_attn(packed, packed, columns.position, columns.position))
        cached, number = place
        if cached.columns > 1 and columns.shape[1] == 1 and columns.real is None:
            return cached.step(number, x)
        packed = columns.to_front(x)
        return columns.back(extend(self.self_attn, packed, cached.rows, number, columns.counts))


class LlamaMTLAPreTrainedModel(PreTrainedModel):
    """What transformers asks of the classes of a family."""

    config_class = LlamaMTLAConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["LlamaMTLADecoderLayer"]
    _supports_sdpa = True
    _can_compile_fullgraph = False


class LlamaMTLAModel(LlamaMTLAPreTrainedModel):
    """Embedding, blocks and the last norm.

    Args:
        config: sizes.
    """

    def __init__(self, config: LlamaMTLAConfig):
        super().__init__(config)
        self.padding_idx, self.vocab_size = config.pad_token_id, config.vocab_size
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, self.padding_idx)
        layers = (LlamaMTLADecoderLayer(config) for _ in range(config.num_hidden_layers))
        self.layers = nn.ModuleList(layers)
        self.norm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.gradient_checkpointing = False
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        cache: Cache | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
        **kwargs,
    ) -> BaseModelOutputWithPast | tuple:
        """Return the last hidden states, (B, L, d); rows at padding mean nothing.

        Args:
            input_ids: (B, L).
            attention_mask: (B, C) of all columns so far, 0 at padding, left or right.
            position_ids: as `generate` makes them; others are refused.
            past_key_values: the cache, before transformers 5.24.
            inputs_embeds: (B, L, d), in the place of `input_ids`.
            use_cache: make one, and return it.
            cache: of the columns before.
            output_hidden_states: return those of every layer too.
            output_attentions: refused.
            return_dict: false: a tuple.
            kwargs: what transformers passes to every model.

        Raises:
            ValueError: arguments that the model cannot follow; says what to do.
        """
        config = self.config
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("say either input_ids or inputs_embeds")
        if output_attentions or config.output_attentions:
            raise ValueError("output_attentions: the weights are not kept; leave it out")
        x = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        if not x.is_meta and any(each.self_attn.wkv_b.weight.is_meta for each in self.layers):
            raise ValueError(
                "device_map offloads weights, and those of the attention are used absorbed, by no "
                "call that would load them: give every layer a device"
            )
        cache = self._cache(cache if cache is not None else past_key_values, use_cache)
        parts = [] if cache is None else cache.layers
        cached = parts[0] if parts else None
        columns = Columns(x.shape[:2], x.device, attention_mask, position_ids, cached)
        places = [None] * len(self.layers)
        if parts:
            if self.training and torch.is_grad_enabled() and cached.columns:
                raise ValueError("a filled cache has no gradients: train on whole sequences")
            for part in parts:
                part.add(*columns.shape, columns.real)
            places = [(part, n) for part in parts for n in range(part.num_layers)]
        if output_hidden_states is None:
            output_hidden_states = config.output_hidden_states
        states = []
        for layer, place in zip(self.layers, places, strict=True):
            states += [x] if output_hidden_states else []
            x = layer(x, columns, place)
        x = self.norm(x)
        output = BaseModelOutputWithPast(
            last_hidden_state=x,
            hidden_states=(*states, x) if output_hidden_states else None,
            **{_CACHE: cache},
        )
        is_dict = config.return_dict if return_dict is None else return_dict
        return output if is_dict else output.to_tuple()

    def _cache(self, given: Cache | None, use_cache: bool | None) -> Cache | None:
        """Return the cache to fill; None where there is to be none."""
        if self.gradient_checkpointing and self.training and torch.is_grad_enabled():
            return None
        if use_cache is None:
            use_cache = self.config.use_cache and not (self.training and torch.is_grad_enabled())
        if given is None and not use_cache:
            return None
        return latent_cache(given, [layer.self_attn for layer in self.layers])

    def get_input_embeddings(self) -> nn.Module:
        """Return the embedding of tokens."""
        return self.embed_tokens

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the embedding of tokens."""
        self.embed_tokens = value


class LlamaMTLAForCausalLM(LlamaMTLAPreTrainedModel, GenerationMixin):
    """The model with its output layer, for `generate` and `Trainer`.

    Args:
        config: sizes.
    """

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, config: LlamaMTLAConfig):
        super().__init__(config)
        self.model = LlamaMTLAModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        cache: Cache | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs,
    ) -> CausalLMOutputWithPast | tuple:
        """Score next tokens.

        Args:
            input_ids: (B, L).
            attention_mask: (B, C) of all columns so far, 0 at padding, left or right.
            position_ids: as `generate` makes them, (B, L); others are refused.
            past_key_values: the cache, before transformers 5.24.
            inputs_embeds: (B, L, d), in the place of `input_ids`.
            labels: (B, L) tokens to score, -100 where there is none; shifted here.
            use_cache: return a cache.
            cache: of the columns before.
            output_hidden_states: return those of every layer too.
            output_attentions: refused.
            return_dict: false: a tuple.
            logits_to_keep: the last so many columns alone, or these; 0: all.
            kwargs: of the loss.

        Returns:
            The loss where there are labels, and logits (B, L or fewer, V).
        """
        found = self.model(
            input_ids,
            attention_mask,
            position_ids,
            past_key_values,
            inputs_embeds,
            use_cache,
            cache,
            output_hidden_states,
            output_attentions,
            return_dict=True,
        )
        x = found.last_hidden_state
        if isinstance(logits_to_keep, Tensor):
            x = x[:, logits_to_keep]
        elif logits_to_keep:
            x = x[:, -logits_to_keep:]
        logits = self.lm_head(x)
        loss = None
        if labels is not None:
            vocab_size = self.config.vocab_size
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=vocab_size, **kwargs)
        output = CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            hidden_states=found.hidden_states,
            **{_CACHE: found[_CACHE] if _CACHE in found else None},
        )
        is_dict = self.config.return_dict if return_dict is None else return_dict
        return output if is_dict else output.to_tuple()

    def _prepare_cache_for_generation(self, generation_config, *args, **kwargs):
        """Refuse caches that cannot hold latents before anything is computed."""
        kind = generation_config.cache_implementation
        if kind not in (None, "dynamic"):
            raise ValueError(
                f"cache_implementation={kind!r}: the model keeps latents in a cache of its own, "
                "which grows; leave it out"
            )
        return super()._prepare_cache_for_generation(generation_config, *args, **kwargs)

    def get_input_embeddings(self) -> nn.Module:
        """Return the embedding of tokens."""
        return self.model.embed_tokens

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the embedding of tokens."""
        self.model.embed_tokens = value

    def get_output_embeddings(self) -> nn.Module:
        """Return the output layer."""
        return self.lm_head

    def set_output_embeddings(self, value: nn.Module) -> None:
        """Replace the output layer."""
        self.lm_head = value
