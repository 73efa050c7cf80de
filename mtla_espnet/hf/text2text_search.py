"""`generate` of transformers by the search of `mtla-espnet summarise`.

The beams, the greedy search and the draws are those of `mtla_espnet.search`. An option of
transformers that the search does not have is refused by name.
"""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, GenerationMixin
from transformers.generation import GenerateBeamEncoderDecoderOutput
from transformers.modeling_outputs import BaseModelOutput

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


@dataclasses.dataclass
class Text2TextEncoding(BaseModelOutput):
    """What the encoder made of documents.

    Attributes:
        lengths: (B,) int64 of `last_hidden_state` (B, T, d).
    """

    lengths: Tensor | None = None


class SearchedGeneration(GenerationMixin):
    """`generate` for a model of transformers with `encode`, and ESPnet's model as `model`."""

    _search: tuple[object, object] | None = None  # weights and options, and what was prepared

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
        encoded, lengths = encoding_of(encoder_outputs)
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

    def __init__(self, owner: SearchedGeneration):
        super().__init__()
        self._owner = (owner,)  # in a tuple it is no submodule

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **kwargs):
        return self._owner[0].encode(input_ids, attention_mask)


def encoding_of(outputs: BaseModelOutput | Sequence[Tensor]) -> tuple[Tensor, Tensor]:
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
