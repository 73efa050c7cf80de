"""Speech encoders of `transformers` as front ends (YAML `frontend: transformers`).

Whisper, wav2vec 2.0, HuBERT and WavLM, from a local folder or by a hub's id. What they compute is
in `transformers_encoders`.
"""

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import layer_norm

from mtla_espnet.files import UserError
from mtla_espnet.frontend.pretrained import RATE_HZ, Layers, LayerSum, PretrainedFrontend
from mtla_espnet.frontend.transformers_encoders import WaveformEncoder, WhisperEncoder
from mtla_espnet.json_files import read_json
from mtla_espnet.network import no_model, unreachable_on_hub
from mtla_espnet.trust import nothing_runs

WAVEFORM_FAMILIES = ("hubert", "wav2vec2", "wavlm")
FAMILIES = (*WAVEFORM_FAMILIES, "whisper")

# Only for the masking that pretraining does, never here.
_UNUSED = ("masked_spec_embed",)


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
