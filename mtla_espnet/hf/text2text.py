"""A model of text to text (summarisation) that a recipe trained, in transformers.

The class carries ESPnet's model whole: the text encoder and the decoder, whose self-attention reads
`[encoder output ; summary]`.
"""

import argparse

import torch
import torch.nn.functional as F
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import Seq2SeqLMOutput

from mtla_espnet.hf.text2text_search import SearchedGeneration, Text2TextEncoding, encoding_of

_IGNORED = -100  # labels of transformers that are no tokens
_PADDING = -1  # ESPnet's model leaves it out of a source


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


class Text2TextMTLAForConditionalGeneration(SearchedGeneration, PreTrainedModel, GenerationMixin):
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
        encoded, lengths = encoding_of(encoder_outputs)
        size = decoder_input_ids.new_full((len(decoder_input_ids),), decoder_input_ids.size(1))
        # what is padded on the right is seen by nothing before it
        logits, _ = self.model.decoder(encoded, lengths, decoder_input_ids, size)
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=_IGNORED)
        output = Seq2SeqLMOutput(loss=loss, logits=logits, encoder_last_hidden_state=encoded)
        is_dict = self.config.return_dict if return_dict is None else return_dict
        return output if is_dict else output.to_tuple()


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
