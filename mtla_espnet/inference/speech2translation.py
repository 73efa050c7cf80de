"""Speech translation: a trained model as a function from audio to text of another language."""

import os

import torch

from mtla_espnet.inference.speech_model import SpeechModel
from mtla_espnet.task import st


class Speech2Translation(SpeechModel):
    """An ST model with its beam search; the call of ESPnet's `st_inference.Speech2Text`.

    Args:
        st_train_config: the `config.yaml` that training wrote.
        st_model_file: parameters, saved by `torch.save`.
        options: the other arguments of `TrainedModel`. `ctc_weight` above 0 needs a model that
            was trained with `st_mtlalpha`, that is with CTC over the translation.

    Raises:
        UserError: a file is missing, corrupt or of another model or task, an option has a
            value that it cannot have, or there is no such device.
    """

    task = st.TASK
    default_ctc_weight = 0.0

    def __init__(
        self, st_train_config: str | os.PathLike, st_model_file: str | os.PathLike, **options
    ):
        super().__init__(st_train_config, st_model_file, **options)

    def _ctc(self) -> torch.nn.Module | None:
        # `ctc` of ESPnet's model is over the tokens of the source.
        return getattr(self.model, "st_ctc", None)
