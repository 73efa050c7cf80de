"""Log-Mel filterbank features as Kaldi and Fairseq S2T have them (YAML `frontend: fbank`).

Frames of 25 ms every 10 ms that lie wholly in the audio, without offset, pre-emphasised,
in Povey's window; the power spectrum in triangular Mel bands; its logarithm. The audio is
scaled to the range of 16-bit integers, which Kaldi reads. Source: Kaldi's
`compute-fbank-feats`, by way of `torchaudio.compliance.kaldi.fbank`, which is for one
utterance at a time.
"""

import functools

import humanfriendly
import numpy as np
import torch
from espnet2.asr.frontend.abs_frontend import AbsFrontend
from torch import Tensor
from torchaudio.compliance.kaldi import get_mel_banks

from mtla_espnet.data.features.format import Extractor

_FRAME_LENGTH_S = 0.025
_FRAME_SHIFT_S = 0.010
_PREEMPHASIS = 0.97
_INT16_SCALE = 32768.0
_POVEY_EXPONENT = 0.85
# Kaldi's floor of a band's energy.
_FLOOR = torch.finfo(torch.float32).eps
# Frames that are worked on at once; the result does not depend on it. On a CPU they stay in its
# cache, which is up to three times as fast; on a GPU few large kernels are faster.
_CPU_BLOCK_FRAMES = 256
_GPU_BLOCK_FRAMES = 1 << 15


def num_frames(num_samples: Tensor, rate_hz: int) -> Tensor:
    """Return how many frames audio has: those that lie wholly in it.

    Args:
        num_samples: int tensor.
        rate_hz: its sampling rate.

    Example:
        >>> num_frames(torch.tensor([399, 400, 559, 560]), 16000).tolist()
        [0, 1, 1, 2]
    """
    length, shift = _frame_samples(rate_hz)
    frames = torch.div(num_samples - length, shift, rounding_mode="floor") + 1
    return frames.clamp(min=0)


def fbank(
    speech: Tensor,
    lengths: Tensor,
    rate_hz: int = 16000,
    n_mels: int = 80,
    fmin: float = 20.0,
    fmax: float = 0.0,
    dither: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Compute log-Mel filterbank features of a padded batch, in float32.

    An utterance's features do not depend on the others, nor on what stands in the padding.

    Args:
        speech: (B, T) float samples in [-1, 1).
        lengths: (B,) int, samples of each.
        rate_hz: sampling rate.
        n_mels: Mel bands.
        fmin: lower end of the lowest band, in Hz.
        fmax: upper end of the highest band, in Hz; 0 or less: counted from half of the rate.
        dither: standard deviation of noise that is added, in steps of 16 bits (Kaldi's is 1).

    Returns:
        (B, N, n_mels) float32, N = the most frames of an utterance, 0 in the padding; and
        (B,) int64 frames of each.
    """
    frame_length, shift = _frame_samples(rate_hz)
    lengths = lengths.to(device=speech.device, dtype=torch.int64)
    n_frames = num_frames(lengths, rate_hz)
    longest = int(n_frames.max()) if len(n_frames) else 0
    if not longest:
        return speech.new_zeros(len(speech), 0, n_mels, dtype=torch.float32), n_frames
    with torch.autocast(speech.device.type, enabled=False):
        samples = speech.to(torch.float32) * _INT16_SCALE
        frames = samples.unfold(1, frame_length, shift)[:, :longest]  # a view: (B, N, samples)
        window, mels = _window_and_mels(rate_hz, n_mels, fmin, fmax, speech.device)
        at_once = _CPU_BLOCK_FRAMES if speech.device.type == "cpu" else _GPU_BLOCK_FRAMES
        blocks = frames.split(max(1, at_once // len(speech)), dim=1)
        features = torch.cat([_log_mel(block, window, mels, dither) for block in blocks], dim=1)
    in_padding = torch.arange(longest, device=speech.device) >= n_frames[:, None]
    return features.masked_fill(in_padding[..., None], 0.0), n_frames


def fbank_of(samples: np.ndarray, rate_hz: int, n_mels: int = 80) -> np.ndarray:
    """Compute the features of one utterance, for files of features.

    Args:
        samples: (T,) float32 in [-1, 1).
        rate_hz: their rate.
        n_mels: Mel bands.

    Returns:
        (N, n_mels) float32.
    """
    with torch.inference_mode():
        speech = torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32))[None]
        features, _ = fbank(speech, torch.tensor([speech.size(1)]), rate_hz, n_mels)
    return features[0].numpy()


def fbank_extractor(n_mels: int = 80) -> Extractor:
    """Return what computes these features for files of features.

    Args:
        n_mels: Mel bands.
    """
    compute = functools.partial(fbank_of, n_mels=n_mels)
    source = {"frontend": "fbank", "frontend_conf": {"n_mels": n_mels}}
    return Extractor(f"fbank{n_mels}", compute, _FRAME_SHIFT_S, source)


class FbankFrontend(AbsFrontend):
    """`fbank` as a front end of ESPnet (YAML `frontend: fbank`).

    Args:
        fs: sampling rate in Hz, or as in "16k".
        n_mels: Mel bands.
        fmin: lower end of the lowest band, in Hz.
        fmax: upper end of the highest band, in Hz; 0 or less: counted from half of the rate.
        dither: standard deviation of noise that is added, in steps of 16 bits; in training
            only, so that decoding twice gives the same.
    """

    def __init__(
        self,
        fs: int | str = 16000,
        n_mels: int = 80,
        fmin: float = 20.0,
        fmax: float = 0.0,
        dither: float = 0.0,
    ):
        super().__init__()
        self.rate_hz = humanfriendly.parse_size(fs) if isinstance(fs, str) else int(fs)
        self.n_mels, self.fmin, self.fmax, self.dither = n_mels, fmin, fmax, dither

    def output_size(self) -> int:
        """Return the number of Mel bands."""
        return self.n_mels

    def forward(self, input: Tensor, input_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the features of a padded batch.

        Args:
            input: (B, T) float samples in [-1, 1).
            input_lengths: (B,) int.

        Returns:
            (B, N, n_mels) float32, N = the most frames of an utterance, 0 in the padding; and
            (B,) int64 frames of each.
        """
        dither = self.dither if self.training else 0.0
        return fbank(input, input_lengths, self.rate_hz, self.n_mels, self.fmin, self.fmax, dither)


def _frame_samples(rate_hz: int) -> tuple[int, int]:
    """Return length and shift of a frame in samples, rounded down as Kaldi does."""
    return int(rate_hz * _FRAME_LENGTH_S), int(rate_hz * _FRAME_SHIFT_S)


@functools.cache
def _window_and_mels(
    rate_hz: int, n_mels: int, fmin: float, fmax: float, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return the window (samples,) and the Mel bands (bins, n_mels), float32."""
    length, _ = _frame_samples(rate_hz)
    with torch.inference_mode(False):  # also where the first call is one: training shares them
        window = torch.hann_window(length, periodic=False).pow(_POVEY_EXPONENT)
        size = _fft_size(length)
        # Bins up to half of the rate, without the last, for which no band has a weight.
        bands, _ = get_mel_banks(n_mels, size, rate_hz, fmin, fmax, 100.0, -500.0, 1.0)
        mels = torch.nn.functional.pad(bands, (0, 1)).T.contiguous()
        return window.to(device), mels.to(device)


def _fft_size(frame_length: int) -> int:
    return 1 << (frame_length - 1).bit_length()


def _log_mel(frames: Tensor, window: Tensor, mels: Tensor, dither: float) -> Tensor:
    """Turn (B, N, samples) into (B, N, n_mels)."""
    if dither:
        frames = frames + torch.randn_like(frames) * dither
    frames = frames - frames.mean(dim=-1, keepdim=True)
    before = torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)
    frames = (frames - _PREEMPHASIS * before) * window
    spectrum = torch.fft.rfft(frames, n=_fft_size(frames.size(-1)))
    return (spectrum.abs().square() @ mels).clamp(min=_FLOOR).log()
