"""Spoken language understanding: a trained model as a function from audio to intent and words."""

import os

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mtla_espnet.files import UserError
from mtla_espnet.inference.speech_model import SpeechModel
from mtla_espnet.inference.utterance import Utterance
from mtla_espnet.task import slu

_PADDING = -1  # ESPnet's model leaves it out of a transcript


class Speech2Understand(SpeechModel):
    """An SLU model with its beam search; ESPnet's call.

    The text begins with the intent, one token. A model of two passes (with a postdecoder) is
    given pairs (samples, words of the transcript).

    Args:
        slu_train_config: the `config.yaml` that training wrote.
        slu_model_file: parameters, saved by `torch.save`.
        options: the other arguments of `TrainedModel`.

    Raises:
        UserError: a file is missing, corrupt or of another model or task, an option has a
            value that it cannot have, or there is no such device.
    """

    task = slu.TASK

    def __init__(
        self, slu_train_config: str | os.PathLike, slu_model_file: str | os.PathLike, **options
    ):
        super().__init__(slu_train_config, slu_model_file, **options)

    @property
    def reads_transcripts(self) -> bool:
        """Whether the model is one of two passes."""
        return self.model.postdecoder is not None

    def __call__(self, speech, transcript: str | None = None):
        """Understand one utterance, or a list of them.

        Args:
            speech: (T,) samples, or a list of such, or of pairs with a transcript.
            transcript: words of the one utterance, for a model of two passes.

        Returns:
            The n best hypotheses as (text, token, token_int, hypothesis), best first; for a
            list a list of them.
        """
        if transcript is None:
            return super().__call__(speech)
        return self.batch_decode([(speech, transcript)])[0]

    def prepare(self, name: int | str, value) -> Utterance:
        """Return the inputs of speech, or of a pair of speech and the words of its transcript."""
        speech, transcript = value if _has_transcript(value) else (value, None)
        inputs = dict(super().prepare(name, speech))
        if self.reads_transcripts:
            if not (transcript or "").split():
                raise UserError(f"utterance {name} has no transcript, which the model reads")
            words = {"transcript": transcript}
            inputs |= self._preprocess(str(name), words)
        return inputs

    def _are_several(self, value) -> bool:
        return super()._are_several(value) and not _has_transcript(value)

    def example(self) -> Utterance:
        """Return some seconds of noise, with a word that is not known."""
        return self.prepare(0, (self.noise(), "<unk>"))

    def _more_inputs(self, utterances: list[Utterance]) -> dict[str, Tensor]:
        if not self.reads_transcripts:
            return {}
        words = [torch.as_tensor(each["transcript"]) for each in utterances]
        padded = pad_sequence(words, batch_first=True, padding_value=_PADDING)
        lengths = torch.tensor([len(each) for each in words])
        return {
            "transcript_pad": padded.to(self.device),
            "transcript_pad_lens": lengths.to(self.device),
        }


def _has_transcript(value) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == 2
        and (value[1] is None or isinstance(value[1], str))
    )
