"""Conv1d sub-sampling, and ESPnet's Conformer and Transformer behind it.

A few strided convolutions over time shorten the features before the blocks; they are
several times cheaper on CPU than ESPnet's `conv2d*` input layers. With `conv_glu` the shape
is that of Fairseq's `Conv1dSubsampler`. Nothing here depends on the batch: padding is zeroed
before every convolution, so that an utterance sees the same zeros as when it is alone.
"""

import inspect
from collections.abc import Sequence
from typing import ClassVar

import torch
from espnet2.asr.encoder.conformer_encoder import ConformerEncoder
from espnet2.asr.encoder.transformer_encoder import TransformerEncoder
from espnet2.legacy.nets.pytorch_backend.transformer.subsampling import TooShortUttError

from mtla_espnet.position import Lengths, extremes


class Conv1dSubsampling(torch.nn.Module):
    """Strided Conv1d layers, each followed by ReLU or GLU.

    A layer of stride s makes ceil(T / s) positions of T (its kernel is centred: k // 2 zeros
    on each side).

    Args:
        input_size: features of a frame.
        kernel_sizes: an odd kernel width for each layer.
        strides: a stride for each layer.
        channels: the width that each layer gives (with GLU, after it).
        glu: gate each layer's output by GLU (its convolution is twice as wide); else ReLU.

    Raises:
        ValueError: lists of unequal length, an even kernel, a stride or a width below 1.
    """

    def __init__(
        self,
        input_size: int,
        kernel_sizes: Sequence[int],
        strides: Sequence[int],
        channels: Sequence[int],
        glu: bool = False,
    ):
        super().__init__()
        if not 0 < len(kernel_sizes) == len(strides) == len(channels):
            raise ValueError(
                "conv_kernel_sizes, conv_strides and conv_channels need one value a layer, got "
                f"{list(kernel_sizes)}, {list(strides)} and {list(channels)}"
            )
        if any(kernel < 1 or kernel % 2 == 0 for kernel in kernel_sizes):
            raise ValueError(f"conv_kernel_sizes must be odd, got {list(kernel_sizes)}")
        if min(*strides, *channels) < 1:
            raise ValueError("conv_strides and conv_channels must be at least 1")
        self.convolutions = torch.nn.ModuleList(
            torch.nn.Conv1d(width_in, width * (2 if glu else 1), kernel, stride, kernel // 2)
            for width_in, width, kernel, stride in zip(
                [input_size, *channels[:-1]], channels, kernel_sizes, strides, strict=True
            )
        )
        self.activation = torch.nn.GLU(dim=1) if glu else torch.nn.ReLU()

    def forward(
        self, features: torch.Tensor, lengths: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Shorten a padded batch.

        Args:
            features: (B, T, input_size) float; what stands in the padding does not matter.
            lengths: (B,) int, frames of each utterance, at least 1.

        Returns:
            (B, max(new lengths), channels[-1]) in features' dtype, and (B,) new lengths. The
            rows in the padding are not zero.

        Raises:
            TooShortUttError: an utterance has no frame (ESPnet's exception: its decoding
                scripts then give an empty result for that utterance).
        """
        shortest, longest = extremes(lengths)
        if shortest < 1:
            raise TooShortUttError(
                f"has {shortest} frames and is too short for subsampling (it needs 1)", shortest, 1
            )
        hidden = features[:, :longest].transpose(1, 2)
        for convolution in self.convolutions:
            position = torch.arange(hidden.size(2), device=hidden.device)
            padding = position >= lengths.to(hidden.device)[:, None]
            hidden = self.activation(convolution(hidden.masked_fill(padding[:, None], 0.0)))
            lengths = (lengths + convolution.stride[0] - 1) // convolution.stride[0]
        return hidden.transpose(1, 2), lengths


class _Conv1dInput:
    """Puts `Conv1dSubsampling` before the ESPnet encoder that is the next base class."""

    own_defaults: ClassVar[dict] = {}

    def __init_subclass__(cls):
        # ESPnet's --print_config reads the options and their defaults from the signature.
        own = inspect.signature(_Conv1dInput.__init__).parameters
        parameters = {name: own[name] for name in own if name not in ("self", "options")}
        for name, parameter in inspect.signature(cls.__mro__[2]).parameters.items():
            if name != "input_layer":
                default = cls.own_defaults.get(name, parameter.default)
                parameters.setdefault(name, parameter.replace(default=default))
        cls.__signature__ = inspect.Signature(list(parameters.values()))

    def __init__(
        self,
        input_size: int,
        output_size: int = 256,
        conv_kernel_sizes: Sequence[int] = (5, 5),
        conv_strides: Sequence[int] = (2, 2),
        conv_channels: int | Sequence[int] | None = None,
        conv_glu: bool = False,
        **options,
    ):
        if "input_layer" in options:
            raise ValueError("input_layer: this encoder brings its own, leave the key out")
        if conv_channels is None:
            conv_channels = output_size
        if isinstance(conv_channels, int):
            conv_channels = [conv_channels] * len(conv_kernel_sizes)
        subsampling = Conv1dSubsampling(
            input_size, conv_kernel_sizes, conv_strides, conv_channels, conv_glu
        )
        super().__init__(
            conv_channels[-1],
            output_size,
            input_layer="linear",
            **{**self.own_defaults, **options},
        )
        self.subsampling = subsampling

    def forward(
        self,
        xs_pad: torch.Tensor,
        ilens: torch.Tensor,
        prev_states: torch.Tensor | None = None,
        ctc: torch.nn.Module | None = None,
        return_all_hs: bool = False,
    ):
        """Encode a padded batch; the arguments and results are those of ESPnet's encoders.

        Args:
            xs_pad: (B, T, input_size) float features.
            ilens: (B,) int, frames of each utterance.
            prev_states: unused, as in ESPnet.
            ctc: the CTC module, for intermediate CTC with conditioning.
            return_all_hs: also return every block's output.

        Returns:
            (B, T', output_size), or a tuple of it and the intermediate outputs; (B,) int
            lengths T'; None.

        Raises:
            TooShortUttError: an utterance has no frame.
        """
        hidden, lengths = self.subsampling(xs_pad, ilens)
        lengths = Lengths.of(lengths, hidden.size(1))  # whose mask then waits for no GPU
        return super().forward(hidden, lengths, prev_states, ctc=ctc, return_all_hs=return_all_hs)


class Conv1dConformerEncoder(_Conv1dInput, ConformerEncoder):
    """ESPnet's Conformer behind Conv1d sub-sampling (YAML `encoder: conv1d_conformer`).

    Args:
        input_size: features of a frame.
        output_size: model size d.
        conv_kernel_sizes: an odd kernel width for each layer.
        conv_strides: a stride for each layer; their product is the total shortening.
        conv_channels: width of the layers, or a width for each; None: `output_size`.
        conv_glu: GLU after each convolution, as in Fairseq; else ReLU.
        options: those of ESPnet's ConformerEncoder but `input_layer`. `rel_pos_type` is
            `latest` unless given: with ESPnet's `legacy` an utterance depends on its batch.

    Raises:
        ValueError: an illegal `conv_*` value.
        TypeError: an option that ESPnet's encoder does not know.
    """

    own_defaults: ClassVar[dict] = {"rel_pos_type": "latest"}


class Conv1dTransformerEncoder(_Conv1dInput, TransformerEncoder):
    """ESPnet's Transformer behind Conv1d sub-sampling (YAML `encoder: conv1d_transformer`).

    Arguments and errors are those of `Conv1dConformerEncoder`; the options are those of ESPnet's
    TransformerEncoder but `input_layer`.
    """
