"""A trained model of any task, as a function from inputs to hypotheses."""

import dataclasses
import functools
import inspect
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from mtla_espnet.decoder.step import PREFIX_CACHES
from mtla_espnet.files import UserError
from mtla_espnet.inference.decodable import (
    check_choice,
    check_decodable,
    least_encoded,
    usable_device,
)
from mtla_espnet.inference.decoding_config import kept_config, read_decoding_config
from mtla_espnet.inference.ensemble import load_members
from mtla_espnet.inference.language_models import PART, load_lm, load_ngram
from mtla_espnet.inference.meter import Meter
from mtla_espnet.inference.model_files import load_model, model_files
from mtla_espnet.inference.model_search import ModelSearch
from mtla_espnet.inference.precision import EncoderPrecision, chosen_dtype
from mtla_espnet.inference.tokenizer import load_tokenizer, token_ids
from mtla_espnet.inference.utterance import Outcome, Result, Utterance, length_of
from mtla_espnet.search.history import Hypothesis
from mtla_espnet.search.options import NAMES, SearchOptions, check_options
from mtla_espnet.task.record import Task
from mtla_espnet.trust import files_trusted


class TrainedModel:
    """A model with its beam search, in batches; ESPnet's call.

    The model is built by ESPnet's task from its configuration; the search is
    `mtla_espnet.search.beam`. ESPnet's own decoders serve where they score batches. What a
    task has of its own is in the subclasses: `task`, `default_ctc_weight` and the methods
    `prepare`, `example` and `encode`.

    Args:
        train_config: the `config.yaml` that training wrote.
        model_file: parameters, saved by `torch.save`.
        lm_train_config: `config.yaml` of a language model over the same tokens.
        lm_file: its parameters.
        ngram_file: KenLM's n-gram of the tokens, ARPA or binary; needs the package `kenlm`.
        ngram_scorer: `full`: it scores every token; `part`: those alone that the others like
            best.
        token_type: bpe, char or word; None: as trained.
        bpemodel: sentencepiece model; None: as trained.
        device: of torch.
        dtype: of the decoder and the language model, and if it is `bfloat16` or `float16` of the
            encoder on a GPU. `auto`: bfloat16 on a GPU from Ampere on, else float32.
        ctc_weight: of CTC's scores, in 0 to 1; the decoder has the rest. None: that of
            ESPnet's class, 0.5, and 0 in translation, in models of text, in sampling and where a
            model has no CTC.
        lm_weight: of the language model's.
        ngram_weight: of the n-gram's.
        forced_prefix: text that every hypothesis begins with.
        ensemble: other models of the same tokens: directories of experiments, packs, or files of
            parameters with `config.yaml` beside them. The decoder's probabilities, and CTC's,
            are averages over all models.
        prefix_cache: what the decoder keeps of an utterance for its hypotheses to share:
            `latent` (smallest), `materialised` keys and values, or what is faster: `auto`.
            A GPU's graphs take the second; with `latent` it decodes without them. MHA,
            GQA and MQA ignore this option.
        **search: the other options of `SearchOptions`, such as `beam_size` and `nbest`.

    Raises:
        UserError: a file is missing, corrupt or of another model or task, an option has a
            value that it cannot have, or there is no such device.
    """

    task: Task
    default_ctc_weight = 0.5

    def __init__(
        self,
        train_config: str | os.PathLike,
        model_file: str | os.PathLike,
        *,
        lm_train_config: str | os.PathLike | None = None,
        lm_file: str | os.PathLike | None = None,
        ngram_file: str | os.PathLike | None = None,
        ngram_scorer: str = "full",
        token_type: str | None = None,
        bpemodel: str | os.PathLike | None = None,
        device: str = "cpu",
        dtype: str = "float32",
        ctc_weight: float | None = None,
        lm_weight: float = 1.0,
        ngram_weight: float = 0.9,
        forced_prefix: str = "",
        ensemble: Sequence[str | os.PathLike] = (),
        prefix_cache: str = "auto",
        **search,
    ):
        self.device = usable_device(device)
        check_choice("prefix_cache", prefix_cache, PREFIX_CACHES)
        self.prefix_cache = prefix_cache
        self.dtype = chosen_dtype(dtype, self.device)
        if is_default := ctc_weight is None:
            ctc_weight = 0.0 if search.get("sampling") is True else self.default_ctc_weight
        self.options = SearchOptions(ctc_weight=ctc_weight, **search)
        self.options.check()
        beside = {"lm_weight": lm_weight, "ngram_weight": ngram_weight}
        check_options({"forced_prefix": forced_prefix, **beside})
        if self.options.sampling and ngram_file is not None and ngram_scorer == PART:
            raise UserError("sampling needs the scores of all tokens: say ngram_scorer full")
        # Here: ESPnet's tasks take ten seconds to import, and a wrong path need not wait.
        from mtla_espnet.tasks.register import register, task_class

        register()
        espnet_task = task_class(self.task)
        self.model, self.train_args = load_model(espnet_task, train_config, model_file, self.task)
        if is_default and self._ctc() is None:
            self.options = dataclasses.replace(self.options, ctc_weight=0.0)
        check_decodable(self.model, self._ctc(), self.options, train_config)
        self._blank = getattr(self.model, "blank_id", 0)
        self._tokenizer, self._preprocess = load_tokenizer(
            espnet_task, self.train_args, Path(train_config), token_type, bpemodel
        )
        tokens = self.model.token_list
        if forced_prefix:
            prefix = token_ids(self.tokenizer, tokens, forced_prefix, "forced_prefix: ")
            self.options = dataclasses.replace(self.options, prefix=tuple(prefix))
        self.model.to(self.device)
        self.model.decoder.to(getattr(torch, self.dtype))
        self._encoder_precision = EncoderPrecision(self.model, self.device, self.dtype)
        self._search = ModelSearch(self.model, self._ctc(), self.options, self._blank, prefix_cache)
        if lm_train_config is not None and lm_weight != 0:
            self._search.add_lm(load_lm(lm_train_config, lm_file, tokens, self.device), lm_weight)
        if ngram_file is not None and ngram_weight != 0:
            ngram = load_ngram(Path(ngram_file), ngram_scorer, tokens)
            self._search.add_ngram(ngram, ngram_weight, partial=ngram_scorer == PART)
        given = {"device": device, "dtype": dtype, "prefix_cache": prefix_cache}
        self._members = load_members(self, ensemble, **given)

    @classmethod
    def from_pretrained(
        cls,
        model: str | os.PathLike,
        inference_config: str | os.PathLike | None = None,
        trust_files: bool = False,
        **options,
    ):
        """Load a trained model. What comes with it runs no code.

        It decodes as its recipe did, by the configuration that is kept beside it.

        Args:
            model: an experiment's directory, a pack of stage 14 or `espnet2.bin.pack` (zip), or
                the directory of an unpacked one; or `smarthome`, the small English model of
                spoken home commands that comes with the package.
            inference_config: a file of decoding options, in place of those that are kept.
            trust_files: let its files run code, and lie anywhere; for models whose maker you
                trust as yourself.
            options: arguments of the class, such as `beam_size`: they win.

        Raises:
            UserError: it is not whole; or as the class.
        """
        with files_trusted(trust_files), model_files(Path(model), cls.task) as files:
            if inference_config is None:
                kept = kept_config(files[f"{cls.task.model}_train_config"], DECODING_OPTIONS)
            else:
                kept = read_decoding_config(Path(inference_config), DECODING_OPTIONS)
            loaded = cls(**files | kept | options)
            loaded.load_beside(files[f"{cls.task.model}_train_config"])
            return loaded

    @property
    def tokenizer(self):
        """ESPnet's tokenizer; None where the model has no type of tokens."""
        return self._tokenizer  # private: espnet3 logs what is public, and fails on sentencepiece

    def set_beam_size(self, beam_size: int) -> None:
        """Keep so many hypotheses of an utterance from now on, 1 to 10,000."""
        self.options = dataclasses.replace(self.options, beam_size=beam_size)
        self._search.change_options(self.options)

    def load_beside(self, train_config: Path) -> None:
        """Load what lies beside the model and is needed in some uses of it alone.

        Args:
            train_config: the `config.yaml` of the model.
        """

    def prepare(self, name: int | str, value) -> Utterance:
        """Return the inputs that an utterance is for the model.

        Args:
            name: id of the utterance, or its number, for messages.
            value: what the user gives.

        Raises:
            UserError: it is not one that the model takes, such as an empty one.
        """
        raise NotImplementedError

    def example(self) -> Utterance:
        """Return an input of some length that holds nothing, to warm up with."""
        raise NotImplementedError

    def encode(self, utterances: list[Utterance]) -> tuple[Tensor, Tensor]:
        """Return what `_encode` does, on a GPU in the decoder's precision; in float32."""
        with self._encoder_precision():
            encoded, lengths = self._encode(utterances)
        return encoded.float(), lengths

    def _encode(self, utterances: list[Utterance]) -> tuple[Tensor, Tensor]:
        """Return (B, T, d) encoder output and (B,) lengths; the longest input comes first.

        Raises:
            UserError: one is too long.
            Exception: of the encoder's layers, where one is too short.
        """
        raise NotImplementedError

    def input_form(self) -> tuple:
        """Return what tells whether two models take the same inputs."""
        raise NotImplementedError

    def _ctc(self) -> torch.nn.Module | None:
        """Return the CTC layer over the tokens that are written."""
        return getattr(self.model, "ctc", None)

    def __call__(self, value) -> list[Result] | list[list[Result]]:
        """Recognise one input, or a list of them.

        Args:
            value: an input, as `prepare` takes it, or a list of inputs.

        Returns:
            The n best hypotheses as (text, token, token_int, hypothesis), best first; for a
            list of inputs a list of them. It is empty where the input is too short for
            the encoder, or the search found nothing.

        Raises:
            UserError: an input is not one that the model takes, or its scores are no numbers.
        """
        if self._are_several(value):
            return self.batch_decode(value)
        return self.batch_decode([value])[0]

    def _are_several(self, value) -> bool:
        """Tell whether a value is a list of inputs, not one."""
        return isinstance(value, list | tuple)

    def batch_decode(self, values: Sequence, meter: Meter | None = None) -> list[list[Result]]:
        """Recognise several inputs in one search.

        Args:
            values: inputs of the class's call.
            meter: adds up what it costs.

        Returns:
            Of each input, in their order, the n best hypotheses as (text, token, token_int,
            hypothesis), best first.

        Raises:
            UserError: an input is not one that the model takes, or its scores are no numbers.
        """
        prepared = [self.prepare(number, value) for number, value in enumerate(values)]
        found = []
        for number, outcome in enumerate(self.decode_prepared(prepared, meter)):
            if isinstance(outcome, UserError):
                raise UserError(f"utterance {number}: {outcome}")
            found.append(outcome)
        return found

    @torch.inference_mode()
    def decode_prepared(
        self, utterances: Sequence[Utterance], meter: Meter | None = None
    ) -> list[Outcome]:
        """Recognise what `prepare` returned, in one search.

        Nothing depends on the batch: what an utterance cannot do alone it cannot do among
        others, and the others are recognised.

        Args:
            utterances: of `prepare`.
            meter: adds up what it costs.

        Returns:
            What was found of each utterance, or why it cannot be recognised. A list is empty
            where the input is too short for the encoder, or the search found nothing.
        """
        meter = meter or Meter(self.device)
        outcomes: list[Outcome] = [[] for _ in utterances]
        taken = []
        for number, utterance in enumerate(utterances):
            if length_of(utterance) < self._least_length:
                logging.warning(self._too_short(length_of(utterance)))
            else:
                taken.append(number)
        taken.sort(key=lambda number: -length_of(utterances[number]))  # as some encoders want it
        if not taken:
            return outcomes
        try:
            with meter.part("encoder_s"):
                inputs = [utterances[number] for number in taken]
                encoded, lengths = self.encode(inputs)
                others = [(member._search, *member.encode(inputs)) for member in self._members]
        except UserError as error:  # of one too long for its positions, for example
            if len(taken) == 1:
                outcomes[taken[0]] = error
                return outcomes
            for number in taken:
                (outcomes[number],) = self.decode_prepared([utterances[number]], meter)
            return outcomes
        with meter.part("search_s"):
            found = self._search.search(encoded, lengths, meter, others)
        for number, hypotheses in zip(taken, found, strict=True):
            if hypotheses is None:
                outcomes[number] = UserError(
                    f"its scores are not finite numbers, with weights in {self.dtype}"
                )
            else:
                outcomes[number] = [self._result(hypothesis) for hypothesis in hypotheses]
        return outcomes

    @functools.cached_property
    def _least_length(self) -> int:
        """The shortest input that the encoder takes alone, in the unit of the main input.

        An encoder looks at a batch's padded length: what is shorter would depend on the batch.
        """
        return max(least_encoded(each.encode, each.example()) for each in (self, *self._members))

    def _too_short(self, length: int) -> str:
        return f"an input of length {length} is too short for the encoder"

    def _result(self, hypothesis: Hypothesis) -> Result:
        token_int = [token for token in hypothesis.yseq[1:-1] if token != self._blank]
        token = [self.model.token_list[index] for index in token_int]
        text = None if self.tokenizer is None else self.tokenizer.tokens2text(token)
        return text, token, token_int, hypothesis


# What a decoding configuration may hold: the rest is not a matter of decoding.
DECODING_OPTIONS = NAMES | {
    name
    for name, parameter in inspect.signature(TrainedModel).parameters.items()
    if parameter.kind is parameter.KEYWORD_ONLY
} - {"token_type", "bpemodel", "device", "ensemble"}
