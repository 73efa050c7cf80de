"""Text to text (summarisation): a trained model as a function from a document to a shorter text."""

import os

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mtla_espnet.files import UserError
from mtla_espnet.inference.trained_model import TrainedModel
from mtla_espnet.inference.utterance import Utterance
from mtla_espnet.task import sum

_EXAMPLE_TOKENS = 64
_PADDING = -1  # ESPnet's model leaves it out of a source


class Text2Text(TrainedModel):
    """A model of ESPnet's MT task with its beam search; ESPnet's call.

    The input is a text, or the ids of its tokens, (T,) integers, as ESPnet's class takes them.

    Args:
        mt_train_config: the `config.yaml` that training wrote.
        mt_model_file: parameters, saved by `torch.save`.
        options: the other arguments of `TrainedModel`.

    Raises:
        UserError: a file is missing, corrupt or of another model or task, an option has a
            value that it cannot have, or there is no such device.
    """

    task = sum.TASK
    default_ctc_weight = 0.0

    def __init__(
        self, mt_train_config: str | os.PathLike, mt_model_file: str | os.PathLike, **options
    ):
        super().__init__(mt_train_config, mt_model_file, **options)

    def __call__(self, src_text):
        """Decode a text, or a list of them, as `TrainedModel` does; the name is ESPnet's."""
        return super().__call__(src_text)

    def prepare(self, name: int | str, value: str | np.ndarray | Tensor) -> Utterance:
        """Return the input that a text, or (T,) ids of tokens, is for the model."""
        if isinstance(value, str):
            if not value.split():
                raise UserError(f"text {name} is empty")
            return self._preprocess(str(name), {"src_text": value})
        tokens = np.asarray(value)
        if not tokens.size:
            raise UserError(f"text {name} is empty")
        if tokens.ndim != 1 or tokens.dtype.kind not in "iu":
            raise UserError(f"text {name} is neither a str nor an array of token ids, (T,)")
        tokens = tokens.astype(np.int64)
        if tokens.min() < 0 or tokens.max() >= self.model.src_vocab_size:
            raise UserError(
                f"text {name} has tokens beyond the {self.model.src_vocab_size} of the source"
            )
        return {"src_text": tokens}

    def example(self) -> Utterance:
        """Return some tokens without meaning."""
        tokens = np.random.default_rng(0).integers(
            1, self.model.src_vocab_size - 1, _EXAMPLE_TOKENS
        )
        return self.prepare(0, tokens)

    def input_form(self) -> tuple:
        """Return the tokens of a text."""
        return tuple(self.train_args.src_token_list)

    def _encode(self, utterances: list[Utterance]) -> tuple[Tensor, Tensor]:
        tokens = [torch.as_tensor(each["src_text"]) for each in utterances]
        lengths = torch.tensor([len(each) for each in tokens], device=self.device)
        padded = pad_sequence(tokens, batch_first=True, padding_value=_PADDING).to(self.device)
        return self.model.encode(src_text=padded, src_text_lengths=lengths)
