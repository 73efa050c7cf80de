"""The encoders of `transformers`: every layer of a padded batch, and nothing depends on the batch.

- Whisper sees an utterance at its own length, followed by silence in place of the 30 s of
  silence that its own feature extractor appends; padding is masked in its attention and set
  to 0 before its convolutions, as if it were their own border.
- Where the convolutions of the others normalise over time (`feat_extract_norm: group`, the
  base models), each utterance passes them alone; the blocks take all, with a mask.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import gelu, pad
from torch.nn.utils.rnn import pad_sequence

from mtla_espnet.files import UserError
from mtla_espnet.frontend.pretrained import RATE_HZ, Layers

_WHISPER_FFT = 400
_WHISPER_SHIFT = 160
_EPSILON = 1e-7  # transformers' Wav2Vec2FeatureExtractor


class WaveformEncoder(torch.nn.Module):
    """wav2vec 2.0, HuBERT or WavLM: convolutions on samples, then blocks.

    Args:
        network: `Wav2Vec2Model`, `HubertModel` or `WavLMModel`.
        normalize: bring each utterance to mean 0 and variance 1 first.
    """

    def __init__(self, network: torch.nn.Module, normalize: bool):
        super().__init__()
        self.network = network
        self.normalize = normalize
        self.width = network.config.hidden_size
        self.num_layers = network.config.num_hidden_layers + 1
        self.hop_length = math.prod(network.config.conv_stride)

    def forward(self, speech: Tensor, lengths: Tensor) -> Layers:
        """Encode (B, T) samples, 0 in the padding, of (B,) lengths."""
        config = self.network.config
        if self.normalize:
            speech = _normalize(speech, lengths)
        n_frames, shortest = lengths, 1
        for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
            n_frames = torch.div(n_frames - kernel, stride, rounding_mode="floor") + 1
        for kernel, stride in reversed(list(zip(config.conv_kernel, config.conv_stride))):  # noqa: B905
            shortest = (shortest - 1) * stride + kernel
        n_frames = n_frames.clamp(min=0)
        speech = pad(speech, (0, max(0, shortest - speech.size(1))))
        extract = self.network.feature_extractor
        if config.feat_extract_norm == "group":
            rows = [
                extract(row[None, : max(shortest, int(n))])[0].T
                for row, n in zip(speech, lengths, strict=True)
            ]
            features = pad_sequence(rows, batch_first=True)
        else:
            features = extract(speech).transpose(1, 2)
        hidden = self.network.feature_projection(features)
        hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        mask = torch.arange(hidden.size(1), device=hidden.device) < n_frames[:, None]
        # Frameless rows would have nothing to attend to; nobody reads them.
        mask[:, 0] |= n_frames == 0
        states: list[Tensor] = []
        blocks = self.network.encoder.layers
        hooks = [blocks[0].register_forward_pre_hook(_keep_input(states), with_kwargs=True)]
        hooks += [block.register_forward_hook(_keep_output(states)) for block in blocks[:-1]]
        try:
            last = self.network.encoder(hidden, attention_mask=mask)[0]
        finally:
            for hook in hooks:
                hook.remove()
        return Layers([*states, last], n_frames)


class WhisperEncoder(torch.nn.Module):
    """Whisper's encoder at the true length of an utterance.

    Args:
        network: `WhisperEncoder` of transformers.
    """

    def __init__(self, network: torch.nn.Module):
        super().__init__()
        from transformers.audio_utils import mel_filter_bank

        config = network.config
        self.network = network
        self.width = config.d_model
        self.num_layers = config.encoder_layers + 1
        self.hop_length = 2 * _WHISPER_SHIFT
        mels = mel_filter_bank(
            num_frequency_bins=1 + _WHISPER_FFT // 2,
            num_mel_filters=config.num_mel_bins,
            min_frequency=0.0,
            max_frequency=RATE_HZ / 2,
            sampling_rate=RATE_HZ,
            norm="slaney",
            mel_scale="slaney",
        )
        self.register_buffer("mels", torch.as_tensor(mels, dtype=torch.float32), persistent=False)
        window = torch.hann_window(_WHISPER_FFT)
        self.register_buffer("window", window, persistent=False)

    def log_mel(self, speech: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Compute Whisper's features, as of an utterance that silence follows.

        Args:
            speech: (B, T) float32 samples, 0 in the padding.
            lengths: (B,) int64.

        Returns:
            (B, bins, N) float32, 0 in the padding, and (B,) frames: one every 10 ms, also
            for the last part of them.
        """
        n_frames = -torch.div(-lengths, _WHISPER_SHIFT, rounding_mode="floor")
        longest, half = int(n_frames.max()), _WHISPER_FFT // 2
        # The beginning is mirrored, as in Whisper; silence follows the end.
        speech = pad(speech, (0, longest * _WHISPER_SHIFT + half - speech.size(1)))
        speech = torch.cat([speech[:, 1 : half + 1].flip(1), speech], dim=1)
        spectrum = torch.stft(
            speech,
            _WHISPER_FFT,
            _WHISPER_SHIFT,
            window=self.window,
            center=False,
            return_complex=True,
        )[..., :longest]
        mel = self.mels.T @ spectrum.abs().square()
        log = mel.clamp(min=1e-10).log10()
        in_padding = (torch.arange(longest, device=speech.device) >= n_frames[:, None])[:, None]
        loudest = log.masked_fill(in_padding, -math.inf).amax(dim=(1, 2), keepdim=True)
        log = (torch.maximum(log, loudest - 8.0) + 4.0) / 4.0
        return log.masked_fill(in_padding, 0.0), n_frames

    def forward(self, speech: Tensor, lengths: Tensor) -> Layers:
        """Encode (B, T) samples, 0 in the padding, of (B,) lengths.

        Raises:
            UserError: an utterance is longer than the encoder's positions.
        """
        network = self.network
        most = network.config.max_source_positions
        with torch.autocast(speech.device.type, enabled=False):
            features, n_frames = self.log_mel(speech, lengths)
        lengths = torch.div(n_frames + 1, 2, rounding_mode="floor")
        longest = int(lengths.max())
        if longest > most:
            raise UserError(
                f"{longest * 0.02:.2f} s of audio are longer than the {most} positions of "
                f"the encoder ({most * 0.02:g} s): cut the utterance, or "
                f"leave it out by --max_wav_duration {most * 0.02:g}"
            )
        hidden = gelu(network.conv1(features))
        frames = torch.arange(hidden.size(2), device=hidden.device)
        hidden = hidden.masked_fill((frames >= n_frames[:, None])[:, None], 0.0)
        hidden = gelu(network.conv2(hidden)).transpose(1, 2)
        hidden = hidden + network.embed_positions.weight[: hidden.size(1)]
        hidden = torch.dropout(hidden, network.dropout, network.training)
        visible = torch.arange(hidden.size(1), device=hidden.device) < lengths.clamp(min=1)[:, None]
        mask = torch.zeros(visible.shape, dtype=hidden.dtype, device=hidden.device)
        mask = mask.masked_fill(~visible, torch.finfo(hidden.dtype).min)[:, None, None]
        states = [hidden]
        for block in network.layers:
            hidden = block(hidden, mask)
            hidden = hidden[0] if isinstance(hidden, tuple) else hidden
            states.append(hidden)
        states[-1] = network.layer_norm(states[-1])
        return Layers(states, lengths)


def _normalize(speech: Tensor, lengths: Tensor) -> Tensor:
    inside = torch.arange(speech.size(1), device=speech.device) < lengths[:, None]
    count = lengths.clamp(min=1)[:, None]
    mean = speech.sum(dim=1, keepdim=True) / count
    centred = (speech - mean) * inside
    variance = centred.square().sum(dim=1, keepdim=True) / count
    return centred / (variance + _EPSILON).sqrt()


def _keep_input(states: list[Tensor]):
    def hook(module, arguments, keywords):
        states.append(arguments[0] if arguments else keywords["hidden_states"])

    return hook


def _keep_output(states: list[Tensor]):
    def hook(module, arguments, output):
        states.append(output[0] if isinstance(output, tuple) else output)

    return hook
