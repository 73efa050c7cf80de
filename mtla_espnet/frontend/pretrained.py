"""What front ends on pretrained speech encoders share: freezing, precision, layers to features.

A pretrained encoder gives the output of each of its layers. The features are one layer, or
the weighted sum of all: softmax weights that the training learns. The encoder is frozen
unless asked otherwise: it stays in evaluation mode, has no gradients, and keeps no
activations for them.
"""

import abc
import contextlib
from collections.abc import Sequence
from typing import NamedTuple

import humanfriendly
import torch
from espnet2.asr.frontend.abs_frontend import AbsFrontend
from torch import Tensor

from mtla_espnet.files import UserError

RATE_HZ = 16000
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Layers(NamedTuple):
    """Layers of a padded batch.

    Args:
        states: of each layer (B, N, D), the lowest first; anything in the padding.
        lengths: (B,) int64, frames of each utterance.
    """

    states: Sequence[Tensor]
    lengths: Tensor


class LayerSum(torch.nn.Module):
    """One layer, or the weighted sum of all by learned softmax weights, equal at first.

    Args:
        num_layers: how many there are.
        layer: take this one alone; -1: the last, and so on. None: the weighted sum.

    Raises:
        UserError: there is no such layer.
    """

    def __init__(self, num_layers: int, layer: int | None = None):
        super().__init__()
        if layer is not None and not -num_layers <= layer < num_layers:
            raise UserError(
                f"frontend_conf.layer: {layer} is not there: the encoder has layers 0 to "
                f"{num_layers - 1} (0: what enters its first block)"
            )
        self.layer = layer
        self.num_layers = num_layers
        if layer is None and num_layers > 1:
            self.weights = torch.nn.Parameter(torch.zeros(num_layers))

    def forward(self, states: Sequence[Tensor]) -> Tensor:
        """Combine layers of (..., D) into (..., D), in float32.

        Example:
            >>> LayerSum(2)([torch.zeros(1, 2), torch.ones(1, 2)]).tolist()
            [[0.5, 0.5]]
        """
        if self.layer is not None or self.num_layers == 1:
            return states[-1 if self.layer is None else self.layer].float()
        weights = self.weights.float().softmax(dim=0)
        total = weights[0] * states[0].float()
        for weight, state in zip(weights[1:], states[1:], strict=True):
            total = total + weight * state.float()
        return total


class PretrainedFrontend(AbsFrontend):
    """A pretrained encoder as front end of ESPnet; a subclass knows how to call the encoder.

    Args:
        fs: sampling rate, which must be 16 kHz.
        freeze: the encoder does not learn.
        dtype: precision in which the encoder computes, `float32` or `bfloat16` (autocast:
            its weights stay as they are, its output is float32).

    Attributes:
        hop_length: samples from frame to frame.

    Raises:
        UserError: another rate, or an unknown dtype.
    """

    hop_length: int

    def __init__(self, fs: int | str = RATE_HZ, freeze: bool = True, dtype: str = "float32"):
        super().__init__()
        rate_hz = humanfriendly.parse_size(fs) if isinstance(fs, str) else int(fs)
        if rate_hz != RATE_HZ:
            raise UserError(f"a pretrained front end reads 16 kHz, not {rate_hz} Hz: --fs 16k")
        if dtype not in DTYPES:
            legal = " or ".join(DTYPES)
            raise UserError(f"frontend_conf.dtype must be {legal}, not {dtype!r}")
        self.freeze = freeze
        self.dtype = DTYPES[dtype]

    def _finish(self, encoder: torch.nn.Module) -> None:
        """Apply the rule of freezing; to be called at the end of a subclass's `__init__`."""
        if self.freeze:
            encoder.requires_grad_(False)
        self.train(self.training)

    @property
    @abc.abstractmethod
    def encoder_module(self) -> torch.nn.Module:
        """What is frozen."""

    @property
    @abc.abstractmethod
    def layer_sum(self) -> LayerSum:
        """What makes features of the layers."""

    @abc.abstractmethod
    def run_encoder(self, speech: Tensor, lengths: Tensor) -> Layers:
        """Encode (B, T) padded samples of (B,) lengths; return every layer's output, and frames."""

    @abc.abstractmethod
    def reload_pretrained_parameters(self) -> None:
        """Read the encoder's weights again: ESPnet calls it after its own initialisation."""

    def train(self, mode: bool = True) -> "PretrainedFrontend":
        """Set the mode; a frozen encoder stays in that of evaluation."""
        super().train(mode)
        if self.freeze:
            self.encoder_module.eval()
        return self

    def layers(self, speech: Tensor, lengths: Tensor) -> Layers:
        """Return the output of every layer of the encoder.

        Args:
            speech: (B, T) float samples in [-1, 1); what stands in the padding does not matter.
            lengths: (B,) int, samples of each.

        Raises:
            UserError: the encoder cannot take an utterance so long.
        """
        lengths = lengths.to(device=speech.device, dtype=torch.int64)
        speech = speech[:, : int(lengths.max())]
        in_padding = torch.arange(speech.size(1), device=speech.device) >= lengths[:, None]
        speech = speech.float().masked_fill(in_padding, 0.0)
        low = self.dtype is not torch.float32
        gradients = contextlib.nullcontext() if not self.freeze else torch.no_grad()
        with gradients, torch.autocast(speech.device.type, torch.bfloat16, enabled=low):
            return self.run_encoder(speech, lengths)

    def forward(self, input: Tensor, input_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Turn audio into features.

        Args:
            input: (B, T) float samples in [-1, 1).
            input_lengths: (B,) int.

        Returns:
            (B, N, D) float32, 0 in the padding, and (B,) int64 frames of each.

        Raises:
            UserError: the encoder cannot take an utterance so long.
        """
        states, lengths = self.layers(input, input_lengths)
        features = self.layer_sum(states)
        in_padding = torch.arange(features.size(1), device=features.device) >= lengths[:, None]
        return features.masked_fill(in_padding[..., None], 0.0), lengths


class StoredLayersFrontend(AbsFrontend):
    """Layers that `mtla-espnet feats` stored side by side (YAML `frontend: stored_layers`).

    Training on stored layers learns the weighted sum as training on audio does.

    Args:
        num_layers: stored layers.
        layer_size: features of one.
        fs: unused; the recipes give it to every front end.

    Raises:
        UserError: a number below 1.
    """

    def __init__(self, num_layers: int, layer_size: int, fs: int | str = RATE_HZ):
        super().__init__()
        if min(num_layers, layer_size) < 1:
            raise UserError("frontend_conf: num_layers and layer_size must be at least 1")
        self.layer_size = layer_size
        self.layer_sum = LayerSum(num_layers)

    @property
    def feature_size(self) -> int:
        """Features of a frame that it takes."""
        return self.layer_sum.num_layers * self.layer_size

    def output_size(self) -> int:
        """Return the features of a layer."""
        return self.layer_size

    def forward(self, input: Tensor, input_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Sum (B, N, num_layers * layer_size) up to (B, N, layer_size); lengths stay.

        Raises:
            UserError: the stored features are of another width.
        """
        num_layers = self.layer_sum.num_layers
        if input.dim() != 3 or input.size(2) != num_layers * self.layer_size:
            raise UserError(
                f"frontend stored_layers: the features have {input.size(-1)} dimensions, not "
                f"num_layers {num_layers} x layer_size {self.layer_size}"
            )
        return self.layer_sum(input.split(self.layer_size, dim=2)), input_lengths
