"""Speech recognition: a trained model as a function from audio to text."""

import os

from mtla_espnet.inference.speech_model import SpeechModel
from mtla_espnet.task import asr


class Speech2Text(SpeechModel):
    """An ASR model with its beam search; ESPnet's call.

    Args:
        asr_train_config: the `config.yaml` that training wrote.
        asr_model_file: parameters, saved by `torch.save`.
        options: the other arguments of `TrainedModel`.

    Raises:
        UserError: a file is missing, corrupt or of another model or task, an option has a
            value that it cannot have, or there is no such device.

    Example:
        >>> import soundfile
        >>> speech2text = Speech2Text.from_pretrained("exp/asr")  # doctest: +SKIP
        >>> speech, rate = soundfile.read("speech.wav")  # doctest: +SKIP
        >>> text, token, token_int, hypothesis = speech2text(speech)[0]  # doctest: +SKIP
    """

    task = asr.TASK

    def __init__(
        self, asr_train_config: str | os.PathLike, asr_model_file: str | os.PathLike, **options
    ):
        super().__init__(asr_train_config, asr_model_file, **options)
