"""What the models of speech share: samples in, and how their encoder takes them."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mtla_espnet.data.features.format import (
    DEFAULT_FRAME_SHIFT_S,
    EXTRACTOR_FILE,
    Extractor,
)
from mtla_espnet.files import UserError
from mtla_espnet.inference.model_config import rate_of
from mtla_espnet.inference.online_features import kept_extractor
from mtla_espnet.inference.samples import array_of, is_pair, samples_of
from mtla_espnet.inference.trained_model import TrainedModel
from mtla_espnet.inference.utterance import Utterance, length_of

_EXAMPLE_S = 4.0


class SpeechModel(TrainedModel):
    """A model that hears.

    An input is (T,) samples at `rate_hz`, a pair (samples, rate) or the path of a recording, see
    `mtla_espnet.inference.samples`. A model that was trained on features in files takes (T, D)
    features, and, where `from_pretrained` finds how they were made, audio too.
    """

    _extractor: Extractor | UserError | None = None  # of features; or why there is none
    _extractor_rate_hz = 0

    def load_beside(self, train_config: Path) -> None:
        """For a model on features: load what makes them of audio, if that is beside the model."""
        if not self.feature_size:
            return
        try:
            found = kept_extractor(train_config)
        except UserError as error:  # features are welcome all the same
            self._extractor = error
            return
        if found:
            self._extractor, self._extractor_rate_hz = found

    @property
    def rate_hz(self) -> int:
        """Sampling rate that the model's front end expects; 16 kHz is ESPnet's default."""
        if self._extractor_rate_hz:
            return self._extractor_rate_hz
        return rate_of(self.train_args.frontend_conf or {}, "config.yaml")

    @property
    def feature_size(self) -> int | None:
        """Features of a frame, for a model that takes features; None: it takes samples."""
        if self.model.frontend is None:
            return self.train_args.input_size
        return getattr(self.model.frontend, "feature_size", None)

    def __call__(self, speech):
        """Decode speech, or a list of it, as `TrainedModel` does; the name is ESPnet's."""
        return super().__call__(speech)

    def prepare(self, name: int | str, value) -> Utterance:
        """Return the input that speech, named for messages, is for the model."""
        try:
            speech = self._features(value) if self.feature_size else samples_of(value, self.rate_hz)
        except UserError as error:
            raise UserError(f"utterance {name} {error}") from None
        inputs = {"speech": speech}
        return inputs if self._preprocess is None else self._preprocess(str(name), inputs)

    def _features(self, value) -> np.ndarray:
        """Return (T, D) float32 features.

        Raises:
            UserError: they are none; the message goes on from the name of the utterance.
        """
        size = self.feature_size
        if is_pair(value) or isinstance(value, str | os.PathLike) or array_of(value).ndim < 2:
            features = self._extract(samples_of(value, self.rate_hz))
        else:
            features = array_of(value).astype(np.float32)
        if features.ndim != 2 or features.shape[1] != size:
            raise UserError(f"has {features.shape[-1]} in a frame, the model takes {size} features")
        if not len(features):
            raise UserError("has no frames")
        if not np.isfinite(features).all():
            raise UserError("has features that are not finite numbers")
        return features

    def _extract(self, samples: np.ndarray) -> np.ndarray:
        if self._extractor is None:
            raise UserError(
                f"has samples, the model takes {self.feature_size} features, and no "
                f"{EXTRACTOR_FILE} beside it says how they were made"
            )
        if isinstance(self._extractor, UserError):
            raise UserError(f"has samples, and their features cannot be made: {self._extractor}")
        return self._extractor.compute(samples, self.rate_hz)

    def _are_several(self, value) -> bool:
        return super()._are_several(value) and not is_pair(value)

    def example(self) -> Utterance:
        """Return some seconds of noise."""
        return self.prepare(0, self.noise())

    def noise(self) -> np.ndarray:
        """Return some seconds of noise: samples, or features."""
        generator = np.random.default_rng(0)
        if self.feature_size:
            frames = round(_EXAMPLE_S / DEFAULT_FRAME_SHIFT_S)
            return generator.normal(size=(frames, self.feature_size))
        return generator.normal(0, 0.1, round(_EXAMPLE_S * self.rate_hz))

    def input_form(self) -> tuple:
        """Return the rate, the features of a frame and the tokens of a transcript."""
        beside = getattr(self.train_args, "transcript_token_list", None)
        return self.rate_hz, self.feature_size, beside

    def _encode(self, utterances: list[Utterance]) -> tuple[Tensor, Tensor]:
        kind = {"dtype": torch.float32, "device": self.device}
        waves = [torch.as_tensor(each["speech"], **kind) for each in utterances]
        lengths = torch.tensor([len(wave) for wave in waves], device=self.device)
        speech = pad_sequence(waves, batch_first=True)
        encoded, lengths = self.model.encode(
            speech=speech, speech_lengths=lengths, **self._more_inputs(utterances)
        )
        if isinstance(encoded, tuple):  # with what intermediate CTC layers saw
            encoded = encoded[0]
        return encoded, lengths

    @torch.inference_mode()
    def ctc_log_probability(self, utterance: Utterance) -> Tensor:
        """Return (T, V) float32 log posteriors of CTC for the frames of one utterance.

        T is 0 where the utterance is too short for the encoder.

        Args:
            utterance: of `prepare`.

        Raises:
            UserError: it is too long for the encoder.
        """
        if length_of(utterance) < self._least_length:
            return torch.zeros(0, len(self.model.token_list))
        encoded, lengths = self.encode([utterance])
        return self.model.ctc.log_softmax(encoded)[0, : int(lengths[0])].float()

    def ctc_evidence(
        self, utterance: Utterance, units: Sequence[Sequence[tuple[int, int, int]]], reach: float
    ) -> np.ndarray:
        """Return how much CTC's scores of labels depend on each frame that the encoder reads.

        Args:
            utterance: of `prepare`.
            units: groups of labels, in order: each label, and its first frame of CTC and the one
                after its last.
            reach: frames of CTC; what is further from a unit than so many does not count.

        Returns:
            (U, T) norms of the gradient of each unit's log posteriors, >= 0.
        """
        read: list[Tensor] = []

        def watch(encoder, arguments):
            read.append(arguments[0].detach().requires_grad_())
            return (read[0], *arguments[1:])

        hook = self.model.encoder.register_forward_pre_hook(watch)
        try:
            with torch.inference_mode(False), torch.enable_grad():
                encoded, _ = self.encode([utterance])
                score = self.model.ctc.log_softmax(encoded)[0]
        finally:
            hook.remove()
        frames = read[0].size(1)
        scale = frames / len(score)
        evidence = np.zeros((len(units), frames), dtype=np.float32)
        # units whose windows do not meet share a pass: the cost grows with the length alone
        passes: list[list[tuple[int, int, int]]] = []
        for number, unit in enumerate(units):
            first = max(0, int((unit[0][1] - reach) * scale))
            last = min(frames, int((unit[-1][2] + reach) * scale) + 1)
            free = (each for each in passes if each[-1][2] <= first)
            own = next(free, None)
            if own is None:
                passes.append(own := [])
            own.append((number, first, last))
        for each in passes:
            sums = [score[a:b, label].sum() for n, *_ in each for label, a, b in units[n]]
            (gradient,) = torch.autograd.grad(torch.stack(sums).sum(), read[0], retain_graph=True)
            size = gradient[0].float().norm(dim=-1).cpu().numpy()
            for number, first, last in each:
                evidence[number, first:last] = size[first:last]
        return evidence

    def _too_short(self, length: int) -> str:
        unit = "frames" if self.feature_size else "samples"
        return f"speech of {length} {unit} is too short for the encoder"

    def _more_inputs(self, utterances: list[Utterance]) -> dict[str, Tensor]:
        """Return what the model's encoder takes beside speech."""
        return {}
