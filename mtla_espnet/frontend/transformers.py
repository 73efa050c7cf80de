"""Speech encoders of `transformers` as front ends (YAML `frontend: transformers`).

Whisper, wav2vec 2.0, HuBERT and WavLM, from a local folder or by a hub's id. Nothing depends
on the batch:

- Whisper sees an utterance at its own length, followed by silence in place of the 30 s of
  silence that its own feature extractor appends; padding is masked in its attention and set
  to 0 before its convolutions, as if it were their own border.
- Where the convolutions of the others normalise over time (`feat_extract_norm: group`, the
  base models), each utterance passes them alone; the blocks take all, with a mask.
"""

import contextlib
import functools
import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, pad
from torch.nn.utils.rnn import pad_sequence

from mtla_espnet.files import UserError, read_json
from mtla_espnet.frontend.pretrained import RATE_HZ, Layers, LayerSum, PretrainedFrontend
from mtla_espnet.network import no_model, unreachable_on_hub
from mtla_espnet.trust import nothing_runs

WAVEFORM_FAMILIES = ("hubert", "wav2vec2", "wavlm")
FAMILIES = (*WAVEFORM_FAMILIES, "whisper")

_WHISPER_FFT = 400
_WHISPER_SHIFT = 160
# Only for the masking that pretraining does, never here.
_UNUSED = ("masked_spec_embed",)
_EPSILON = 1e-7  # transformers' Wav2Vec2FeatureExtractor


class TransformersFrontend(PretrainedFrontend):
    """The encoder of a speech model of `transformers`.

    Args:
        model: a folder with `config.json` and the weights, or the id of a model on the hub.
        fs: sampling rate, 16 kHz.
        layer: take this layer alone: 0 is what enters the first block, -1 the encoder's
            output. None: the weighted sum of all.
        freeze: the encoder does not learn.
        dtype: precision of the encoder, `float32` or `bfloat16`.
        normalize: bring each frame of each layer to mean 0 and variance 1 before the sum, since
            the layers' sizes differ by far.

    Raises:
        UserError: the model is not there, is of another kind, or lacks weights.
    """

    def __init__(
        self,
        model: str = "",
        fs: int | str = RATE_HZ,
        layer: int | None = None,
        freeze: bool = True,
        dtype: str = "float32",
        normalize: bool = False,
    ):
        super().__init__(fs, freeze, dtype)
        if not model:
            raise UserError("frontend_conf.model: name a folder or a model's id on the hub")
        self.model = model
        self.encoder = _load(model)
        self.hop_length = self.encoder.hop_length
        self.featurizer = LayerSum(self.encoder.num_layers, layer)
        self.normalize = normalize
        self._finish(self.encoder)

    @property
    def encoder_module(self) -> torch.nn.Module:
        """The encoder."""
        return self.encoder

    @property
    def layer_sum(self) -> LayerSum:
        """The sum of its layers."""
        return self.featurizer

    def output_size(self) -> int:
        """Return the encoder's width."""
        return self.encoder.width

    def run_encoder(self, speech: Tensor, lengths: Tensor) -> Layers:
        """Encode (B, T) padded samples of (B,) lengths; return every layer's output, and frames."""
        states, frames = self.encoder(speech, lengths)
        if self.normalize:
            states = [layer_norm(state.float(), state.shape[-1:]) for state in states]
        return Layers(states, frames)

    def reload_pretrained_parameters(self) -> None:
        """Read the encoder's weights again: ESPnet calls it after its own initialisation."""
        self.encoder.load_state_dict(_load(self.model).state_dict())


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


def _load(model: str) -> WaveformEncoder | WhisperEncoder:
    """Load the encoder of a folder, or of a model on the hub.

    Raises:
        UserError: it is not there, is of another kind, or lacks weights.
    """
    try:
        from transformers import AutoConfig
    except ImportError:
        raise UserError("frontend transformers: pip install transformers") from None
    _check_folder(model)
    if not Path(model).is_dir() and (reason := unreachable_on_hub(model)):
        raise no_model(model, reason)
    with nothing_runs(model):
        return _load_encoder(model, AutoConfig)


def _load_encoder(model: str, auto_config) -> WaveformEncoder | WhisperEncoder:
    try:
        config = auto_config.from_pretrained(model, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise _not_there(model, error) from None
    family = config.model_type
    if family not in FAMILIES:
        raise UserError(f"{model}: holds a {family!r} model, not one of {', '.join(FAMILIES)}")
    config.layerdrop = 0.0
    config.apply_spec_augment = False
    if family == "whisper":
        from transformers.models.whisper.modeling_whisper import WhisperEncoder as Network

        config.encoder_layerdrop = 0.0
        return WhisperEncoder(_weights(functools.partial(_read_whisper, Network), model, config))
    from transformers import HubertModel, Wav2Vec2Model, WavLMModel

    networks = {"hubert": HubertModel, "wav2vec2": Wav2Vec2Model, "wavlm": WavLMModel}
    network = _weights(networks[family].from_pretrained, model, config)
    return WaveformEncoder(network, _wants_normalized(model))


def _read_whisper(network, model: str, **options):
    """Load an encoder from a whole Whisper, or from a folder that holds the encoder alone."""
    options["key_mapping"] = {r"^(model\.)?encoder\.": ""}
    return network.from_pretrained(model, **options)


def _weights(load, model: str, config) -> torch.nn.Module:
    try:
        with _without_progress_bar():
            network, found = load(
                model, config=config, output_loading_info=True, dtype=torch.float32
            )
    except (OSError, ValueError, RuntimeError) as error:
        raise _not_there(model, error) from None
    missing = sorted(set(found["missing_keys"]) - set(_UNUSED))
    if missing:
        raise UserError(
            f"{model}: {len(missing)} tensors of the encoder are missing, the first: {missing[0]}"
        )
    return network


@contextlib.contextmanager
def _without_progress_bar() -> Iterator[None]:
    """Keep the bar of weights that are read from the console."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _check_folder(model: str) -> None:
    folder = Path(model)
    looks_local = model.startswith((".", "/", "~")) or model.count("/") > 1
    if looks_local and not folder.is_dir():
        raise UserError(f"frontend_conf.model: {model}: no such folder")
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise UserError(f"{folder / 'config.json'}: no such file")


def _not_there(model: str, error: Exception) -> UserError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if Path(model).is_dir():
        return UserError(f"{model}: cannot be loaded: {reason}")
    return no_model(model, reason)


def _wants_normalized(model: str) -> bool:
    """Say whether the model's own feature extractor brings audio to mean 0 and variance 1."""
    from transformers.utils import cached_file

    path = cached_file(
        model, "preprocessor_config.json", _raise_exceptions_for_missing_entries=False
    )
    if path is None:
        return False
    return bool(read_json(path).get("do_normalize", False))
