"""What the models of speech share: samples in, and how their encoder takes them."""

import humanfriendly
import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mtla_espnet.data.features.format import DEFAULT_FRAME_SHIFT_S
from mtla_espnet.files import UserError
from mtla_espnet.inference.trained_model import Inputs, TooShort, TrainedModel

_EXAMPLE_S = 4.0


class SpeechModel(TrainedModel):
    """A model that hears.

    The input is (T,) samples at `rate_hz`, or a tensor of them; (T, D) features where the
    model was trained on features in files.
    """

    @property
    def rate_hz(self) -> int:
        """Sampling rate that the model's front end expects; 16 kHz is ESPnet's default."""
        fs = (self.train_args.frontend_conf or {}).get("fs", 16000)
        return fs if isinstance(fs, int) else humanfriendly.parse_size(fs)

    @property
    def feature_size(self) -> int | None:
        """Features of a frame, for a model that takes features; None: it takes samples."""
        if self.model.frontend is None:
            return self.train_args.input_size
        return getattr(self.model.frontend, "feature_size", None)

    def prepare(self, number: int, value: np.ndarray | Tensor) -> Inputs:
        """See `TrainedModel.prepare`."""
        speech = np.asarray(value, dtype=np.float32)
        size = self.feature_size
        if size is None:
            speech = speech.reshape(-1)
        elif speech.ndim != 2 or speech.shape[1] != size:
            has = f"{speech.shape[1]} in a frame" if speech.ndim == 2 else "samples"
            raise UserError(f"utterance {number} has {has}, the model takes {size} features")
        if not len(speech):
            raise UserError(f"utterance {number} has no samples")
        inputs = {"speech": speech}
        return inputs if self._preprocess is None else self._preprocess(str(number), inputs)

    def example(self) -> Inputs:
        """Return some seconds of noise."""
        return self.prepare(0, self.noise())

    def noise(self) -> np.ndarray:
        """Return some seconds of noise: samples, or features."""
        generator = np.random.default_rng(0)
        if self.feature_size:
            frames = round(_EXAMPLE_S / DEFAULT_FRAME_SHIFT_S)
            return generator.normal(size=(frames, self.feature_size))
        return generator.normal(0, 0.1, round(_EXAMPLE_S * self.rate_hz))

    def _encode(self, utterances: list[Inputs]) -> tuple[Tensor, Tensor]:
        from mtla_espnet.tasks.limits import is_too_short  # here: it loads ESPnet

        waves = [torch.as_tensor(each["speech"], dtype=torch.float32) for each in utterances]
        lengths = torch.tensor([len(wave) for wave in waves], device=self.device)
        speech = pad_sequence(waves, batch_first=True).to(self.device)
        try:
            encoded, lengths = self.model.encode(
                speech=speech, speech_lengths=lengths, **self._more_inputs(utterances)
            )
        except Exception as error:
            if not is_too_short(error):
                raise
            shortest = min(map(len, waves))
            unit = "frames" if self.feature_size else "samples"
            raise TooShort(f"speech of {shortest} {unit} is too short for the encoder") from None
        if isinstance(encoded, tuple):  # with what intermediate CTC layers saw
            encoded = encoded[0]
        return encoded, lengths

    def _more_inputs(self, utterances: list[Inputs]) -> dict[str, Tensor]:
        """Return what the model's encoder takes beside speech."""
        return {}
