"""A model of text to text (summarisation) that a recipe trained, in transformers.

The class carries ESPnet's model whole: the text encoder and the decoder, whose self-attention reads
`[encoder output ; summary]`. `generate` is the search of `mtla-espnet summarise` under the names of
transformers; its beams, its greedy search and its draws are those of `mtla_espnet.search`.
"""

import argparse
import dataclasses
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import GenerationConfig, GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.generation import GenerateBeamEncoderDecoderOutput
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput

_IGNORED = -100  # labels of transformers that are no tokens
_PADDING = -1  # ESPnet's model leaves it out of a source
# What the search does itself, of what transformers makes of a generation's configuration.
_PROCESSORS = frozenset(
    (
        "MinLengthLogitsProcessor",
        "MinNewTokensLengthLogitsProcessor",
        "NoRepeatNGramLogitsProcessor",
    )
)
_WARPERS = frozenset(("TemperatureLogitsWarper", "TopKLogitsWarper", "TopPLogitsWarper"))
_CRITERIA = frozenset(("MaxLengthCriteria", "EosTokenCriteria"))


@strict
class Text2TextMTLAConfig(PreTrainedConfig):
    """What a `Text2TextMTLAForConditionalGeneration` is built of.

    Attributes:
        training: the keys of ESPnet's training that say what the model is: `encoder`,
            `encoder_conf`, `decoder`, `decoder_conf`, the token lists and the like.
        vocab_size: tokens of the target.
        is_encoder_decoder: yes.
        tie_word_embeddings: whether parameters of the model are one; follows from `training`.
    """

    model_type = "mtla_text2text"
    keys_to_ignore_at_inference = ["encoder_last_hidden_state"]

    training: dict | None = None
    vocab_size: int = 0
    is_encoder_decoder: bool = True
    tie_word_embeddings: bool = False


@dataclasses.dataclass
class Text2TextEncoding(BaseModelOutput):
    """What the encoder made of documents.

    Attributes:
        lengths: (B,) int64 of `last_hidden_state` (B, T, d).
    """

    lengths: Tensor | None = None


class Text2TextMTLAForConditionalGeneration(PreTrainedModel, GenerationMixin):
    """ESPnet's model of text to text with its decoder, for `generate` and `Trainer`.

    Args:
        config: with the keys of the training.

    Attributes:
        model: ESPnet's.

    Raises:
        ImportError: ESPnet is not installed; says what to install.
        UserError: there is no such model.
    """

    config_class = Text2TextMTLAConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    accepts_loss_kwargs = False
    _supports_sdpa = True

    def __init__(self, config: Text2TextMTLAConfig):
        super().__init__(config)
        self.model = _built(config)
        first: dict[int, str] = {}
        self._tied_weights_keys = {}
        for name, parameter in self.named_parameters(remove_duplicate=False):
            if first.setdefault(id(parameter), name) != name:
                self._tied_weights_keys[name] = first[id(parameter)]
        config.tie_word_embeddings = bool(self._tied_weights_keys)
        self._search: tuple[object, object] | None = None
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Leave parameters as ESPnet drew them."""

    # -- scores --------------------------------------------------------------------
    def encode(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Text2TextEncoding:
        """Encode documents.

        Args:
            input_ids: (B, L) tokens of the source.
            attention_mask: (B, L), 0 at padding, which is on the right; None: there is none.

        Raises:
            ValueError: a document is empty, or padded on the left.
        """
        real = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        real = real.bool()
        if not bool((real[:, 1:] <= real[:, :-1]).all()):
            raise ValueError("documents are padded on the right: tokenizer.padding_side = 'right'")
        lengths = real.sum(dim=1)
        if not bool(lengths.all()):
            raise ValueError("a document is empty: leave it out")
        order = lengths.argsort(descending=True, stable=True)  # as some encoders want it
        encoded, sizes = self.model.encode(
            src_text=input_ids.masked_fill(~real, _PADDING)[order], src_text_lengths=lengths[order]
        )
        back = order.argsort()
        return Text2TextEncoding(encoded[back], lengths=sizes.to(back.device)[back])

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        encoder_outputs: Text2TextEncoding | None = None,
        labels: Tensor | None = None,
        return_dict: bool | None = None,
        **kwargs,
    ) -> Seq2SeqLMOutput | tuple:
        """Score every next token of a summary.

        Args:
            input_ids: (B, L) tokens of the source.
            attention_mask: (B, L), 0 at padding, which is on the right.
            decoder_input_ids: (B, T) tokens of the target, which begin with <sos/eos>; None: they
                follow from the labels.
            encoder_outputs: of `encode`, in the place of `input_ids`.
            labels: (B, T) tokens of the target, which end with <sos/eos>; -100 in the padding.
            return_dict: false: a tuple.
            kwargs: what transformers passes to every model.

        Returns:
            The loss where there are labels, and logits (B, T, V).

        Raises:
            ValueError: arguments that the model cannot follow; says what to do.
        """
        mask = kwargs.get("decoder_attention_mask")
        if mask is not None and not bool(mask.all()):
            raise ValueError("decoder_attention_mask: leave it out, and pad targets on the right")
        if encoder_outputs is None:
            if input_ids is None:
                raise ValueError("say either input_ids or encoder_outputs")
            encoder_outputs = self.encode(input_ids, attention_mask)
        if decoder_input_ids is None:
            if labels is None:
                raise ValueError("say either decoder_input_ids or labels")
            start = labels.new_full((len(labels), 1), self.model.sos)
            decoder_input_ids = torch.cat((start, labels[:, :-1]), dim=1)
            decoder_input_ids = decoder_input_ids.masked_fill(
                decoder_input_ids == _IGNORED, self.model.eos
            )
        encoded, lengths = _encoding(encoder_outputs)
        size = decoder_input_ids.new_full((len(decoder_input_ids),), decoder_input_ids.size(1))
        # what is padded on the right is seen by nothing before it
        logits, _ = self.model.decoder(encoded, lengths, decoder_input_ids, size)
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=_IGNORED)
        output = Seq2SeqLMOutput(loss=loss, logits=logits, encoder_last_hidden_state=encoded)
        is_dict = self.config.return_dict if return_dict is None else return_dict
        return output if is_dict else output.to_tuple()

    # -- generate --------------------------------------------------------------------
    def get_encoder(self, modality: str | None = None) -> nn.Module:
        """Return the encoder."""
        return _Encoder(self)

    def _expand_inputs_for_generation(self, input_ids: Tensor | None = None, **named):
        """Leave a document one row: all its hypotheses share what is cached of it."""
        named = {k: v for k, v in named.items() if k not in ("expand_size", "is_encoder_decoder")}
        return input_ids, named

    def _prepare_cache_for_generation(self, generation_config, *args, **kwargs) -> None:
        """Refuse caches that are not the search's own."""
        kind = generation_config.cache_implementation
        if kind not in (None, "dynamic"):
            raise ValueError(
                f"cache_implementation={kind!r}: the search has a cache of its own; leave it out"
            )

    def _prepare_generated_length(self, generation_config, has_default_max_length, **named):
        """Take over `max_length` where the caller said it; else the search's own limit holds."""
        config = generation_config
        if not has_default_max_length and config.max_new_tokens is None:
            config.max_new_tokens = max(1, config.max_length - named["input_ids_length"])
        return config

    def _validate_generated_length(self, *args, **kwargs) -> None:
        """Leave it to the search."""

    def _assisted_decoding(self, *args, **kwargs):
        raise ValueError(
            "drafts (assistant_model, prompt_lookup) are not known here: leave them out"
        )

    def _sample(self, input_ids: Tensor, **named):
        return self._searched(input_ids, **named)

    def _beam_search(self, input_ids: Tensor, **named):
        return self._searched(input_ids, **named)

    @torch.inference_mode()
    def _searched(
        self,
        input_ids: Tensor,
        logits_processor,
        stopping_criteria,
        generation_config: GenerationConfig,
        encoder_outputs: Text2TextEncoding,
        streamer=None,
        **kwargs,
    ):
        """Search as `mtla-espnet summarise` does.

        Args:
            input_ids: (B, L) beginnings of the hypotheses, <sos/eos> first.
            logits_processor: what transformers made of the configuration.
            stopping_criteria: what transformers made of the configuration.
            generation_config: of the search.
            encoder_outputs: of the documents.
            streamer: refused.
            kwargs: what transformers passes besides.

        Returns:
            (B * num_return_sequences, T) tokens, <sos/eos> first and last, then padding; or
            transformers' output with them and the scores that hypotheses are ranked by.

        Raises:
            ValueError: something that the search does not do; names it.
            UserError: an option has a value that it cannot have.
        """
        config = generation_config
        drawn = bool(config.do_sample)
        known = _PROCESSORS | (_WARPERS if drawn else frozenset())
        _refuse_others(logits_processor, known)
        _refuse_others(stopping_criteria, _CRITERIA)
        for name in ("output_scores", "output_logits", "output_attentions", "output_hidden_states"):
            if getattr(config, name, None):
                raise ValueError(f"{name}: single steps are not kept; leave it out")
        if streamer is not None:
            raise ValueError("streamer: hypotheses are known at the end alone; leave it out")
        if (input_ids != input_ids[:1]).any():
            raise ValueError("decoder_input_ids: all documents of a call have the same beginning")
        options = self._search_options(config, input_ids.size(1))
        beginning = tuple(input_ids[0, 1:].tolist())
        if beginning:
            options = dataclasses.replace(options, prefix=beginning)
        options.check()
        encoded, lengths = _encoding(encoder_outputs)
        found = self._hypotheses(encoded, lengths, options)
        if any(each is None for each in found):
            raise ValueError(f"the scores are no finite numbers, with weights in {self.dtype}")
        nothing = [self.model.sos, self.model.eos]
        rows, scores = [], []
        for hypotheses in found:
            each = [
                (h.yseq, h.score / max(1, len(h.yseq) - 1) ** options.length_exponent)
                for h in hypotheses
            ]
            each += [(nothing, float("-inf"))] * (options.nbest - len(each))
            rows += [torch.tensor(yseq) for yseq, _ in each]
            scores += [score for _, score in each]
        padding = config.pad_token_id if config.pad_token_id is not None else self.model.eos
        tokens = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=padding)
        tokens = tokens.to(input_ids.device)
        if not config.return_dict_in_generate:
            return tokens
        return GenerateBeamEncoderDecoderOutput(
            sequences=tokens, sequences_scores=torch.tensor(scores, device=tokens.device)
        )

    def _search_options(self, config: GenerationConfig, begun: int):
        """Return the options of the search, by the names of transformers or else by the search's.

        Args:
            config: of the generation; its dict `search` has what transformers has no name for.
            begun: tokens that the hypotheses begin with, <sos/eos> among them.
        """
        from mtla_espnet.search.options import SearchOptions

        search = getattr(config, "search", None)
        search = dict(search or getattr(self.generation_config, "search", None) or {})
        beams, count = config.num_beams or 1, config.num_return_sequences or 1
        options = {"beam_size": beams, "nbest": count}
        if config.do_sample:
            if beams > 1:
                raise ValueError("do_sample draws without beams: say num_beams=1")
            top_p = config.top_p if config.top_p is not None else 1.0
            options |= {
                "sampling": True,
                "beam_size": count,
                "temperature": 1.0 if config.temperature is None else config.temperature,
                "sampling_topk": config.top_k or 0,
                "sampling_topp": top_p if top_p < 1 else 0,
                "seed": int(torch.randint(2**31, ())),
            }
        elif beams > 1:
            penalty = config.length_penalty
            options["lenpen"] = 1.0 if penalty is None else penalty
        if config.no_repeat_ngram_size:
            options["no_repeat_ngram_size"] = config.no_repeat_ngram_size
        if config.max_new_tokens is not None:
            options["maxlenratio"] = -config.max_new_tokens
        if config.min_new_tokens:
            options["minlenratio"] = -config.min_new_tokens
        elif config.min_length and config.min_length > begun:
            options["minlenratio"] = begun - config.min_length
        search["prefix"] = tuple(search.get("prefix", ()))
        return SearchOptions(**search | options)

    def _hypotheses(self, encoded: Tensor, lengths: Tensor, options) -> list:
        """Return the n best of each document; the prepared search is kept while weights are."""
        from mtla_espnet.inference.meter import Meter
        from mtla_espnet.inference.model_search import ModelSearch

        decoder = self.model.decoder
        # those of inference mode have no version, and do not change
        weights = tuple(
            (each.data_ptr(), None if each.is_inference() else each._version)
            for each in decoder.parameters()
        )
        if self._search is None or self._search[0] != (weights, options):
            blank = getattr(self.model, "blank_id", 0)
            search = ModelSearch(self.model, None, options, blank, "auto")
            self._search = (weights, options), search
        return self._search[1].search(encoded, lengths, Meter(encoded.device))


class _Encoder(nn.Module):
    """The encoder of a model, as `generate` calls it; holds no parameters of its own."""

    def __init__(self, owner: Text2TextMTLAForConditionalGeneration):
        super().__init__()
        self._owner = (owner,)  # in a tuple it is no submodule

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **kwargs):
        return self._owner[0].encode(input_ids, attention_mask)


def _encoding(outputs: BaseModelOutput | Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return (B, T, d) encoder output and its lengths (B,); without lengths all rows are full."""
    encoded = outputs[0]
    lengths = getattr(outputs, "lengths", None)
    if lengths is None:
        lengths = torch.full((len(encoded),), encoded.size(1), device=encoded.device)
    return encoded, lengths


def _refuse_others(given: Sequence | None, known: frozenset[str]) -> None:
    """Refuse what transformers made of options that the search does not have."""
    others = [type(each).__name__ for each in given or () if type(each).__name__ not in known]
    if others:
        raise ValueError(
            f"{others[0]}: the search of mtla-espnet does not do what asks for it; leave the "
            "option out"
        )


def _built(config: Text2TextMTLAConfig) -> nn.Module:
    """Return ESPnet's model of a configuration, on the CPU."""
    from mtla_espnet import missing_recipes

    if not config.training:
        raise ValueError(
            "the configuration has no `training`: make one by `mtla-espnet export hf EXP DIR`"
        )
    try:
        from mtla_espnet.inference.model_files import build_model
        from mtla_espnet.task.sum import TASK
        from mtla_espnet.tasks.register import register, task_class

        register()
        espnet_task = task_class(TASK)
    except ModuleNotFoundError as error:
        raise ImportError(f"{config.model_type} {missing_recipes(error) or error}") from error
    # transformers builds models without memory; ESPnet's tables of positions are no parameters
    with torch.device("cpu"):
        return build_model(espnet_task, argparse.Namespace(**config.training), "config.json")
