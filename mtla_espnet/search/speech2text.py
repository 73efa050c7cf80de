"""A trained model as a function from audio to text."""

import contextlib
import inspect
import logging
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import humanfriendly
import numpy as np
import soxr
import torch
import yaml

from mtla_espnet.data.audio import read_audio
from mtla_espnet.files import UserError

MODEL_FILES = ("valid.acc.ave.pth", "valid.acc.best.pth", "latest.pth")

# What torch.stft says of a signal that is shorter than its window.
_STFT_REFUSALS = ("expected 0 < n_fft", "Padding size should be less than")
# Files that ESPnet's config.yaml names by paths relative to the recipe's directory.
_CONFIG_PATHS = (("bpemodel",), ("normalize_conf", "stats_file"))
# Arguments of ESPnet's class that are set here, or belong to models that are not ours.
RESERVED_OPTIONS = {
    "self", "asr_train_config", "asr_model_file", "device", "batch_size", "token_type",
    "bpemodel", "nbest", "streaming", "enh_s2t_task", "multi_asr",
}  # fmt: skip


class Recognition(NamedTuple):
    """The best hypothesis of an utterance.

    `text` is its tokens joined to words, `token` and `token_int` are without start and end,
    `score` is its weighted log probability (minus infinity where nothing was found).
    """

    text: str
    token: list[str]
    token_int: list[int]
    score: float


NOTHING = Recognition("", [], [], -math.inf)


class Recognizer:
    """An ESPnet ASR model with its beam search.

    Args:
        train_config: the `config.yaml` that training wrote.
        model_file: parameters, saved by `torch.save`.
        options: arguments of ESPnet's `Speech2Text`, such as `beam_size` and `ctc_weight`.
        batch_size: utterances decoded together.
        device: of torch.
        token_type: bpe, char or word; None: as trained.
        bpemodel: sentencepiece model; None: as trained.

    Raises:
        UserError: a file is missing, corrupt or of another model, an option is unknown, or
            there is no such device.
    """

    def __init__(
        self,
        train_config: Path,
        model_file: Path,
        options: Mapping,
        batch_size: int = 1,
        device: str = "cpu",
        token_type: str | None = None,
        bpemodel: str | os.PathLike | None = None,
    ):
        self.device = _usable_device(device)
        config = _read_config(Path(train_config))
        weights = _parameter_names(Path(model_file))
        # Here: ESPnet's tasks take ten seconds to import, and a wrong path need not wait.
        from mtla_espnet.tasks.register import register

        register()
        from espnet2.bin.asr_inference import Speech2Text
        from espnet2.tasks.asr import ASRTask

        parameters = inspect.signature(Speech2Text.__init__).parameters
        legal = sorted(parameters.keys() - RESERVED_OPTIONS)
        for key in options:
            if key not in legal:
                raise UserError(
                    f"decoding option {key!r} is not known here (known: {', '.join(legal)})"
                )
        with _saved_config(config) as resolved:
            try:
                self.speech2text = Speech2Text(
                    asr_train_config=resolved,
                    asr_model_file=str(model_file),
                    device=device,
                    batch_size=batch_size,
                    token_type=token_type,
                    bpemodel=None if bpemodel is None else str(bpemodel),
                    **options,
                )
            except RuntimeError as error:
                if "loading state_dict" not in str(error):
                    raise
                raise UserError(
                    f"{model_file}: its parameters do not have the shapes of {train_config}"
                ) from None
        missing = self.model.state_dict().keys() - weights
        if missing:
            # ESPnet would decode with random values in their place.
            raise UserError(
                f"{model_file}: not a model of {train_config}: it has no {min(missing)!r}"
            )
        arguments = self.speech2text.asr_train_args
        self._preprocess = ASRTask.build_preprocess_fn(arguments, False)
        self.rate_hz = _rate_hz(arguments)

    @property
    def model(self) -> torch.nn.Module:
        """The ESPnet model."""
        return self.speech2text.asr_model

    @property
    def search(self) -> torch.nn.Module:
        """The beam search."""
        return self.speech2text.beam_search

    def __call__(self, waves: Mapping[str, np.ndarray]) -> list[Recognition]:
        """Decode some utterances together.

        Args:
            waves: id -> (T,) float32 samples at `rate_hz`.

        Returns:
            One recognition an utterance, in the order of `waves`. It is `NOTHING`, and a
            warning names the utterance, where the audio is too short for the encoder or the
            search ends without a hypothesis.
        """
        from espnet2.legacy.nets.pytorch_backend.transformer.subsampling import TooShortUttError

        try:
            results = self.speech2text.batch_decode([self._speech(*wave) for wave in waves.items()])
        except (TooShortUttError, RuntimeError) as error:
            shorter_than_window = any(words in str(error) for words in _STFT_REFUSALS)
            if not isinstance(error, TooShortUttError) and not shorter_than_window:
                raise
            # One short utterance stops its batch: find it.
            if len(waves) > 1:
                return [self({key: samples})[0] for key, samples in waves.items()]
            logging.warning(f"{next(iter(waves))}: too short to decode: {error}")
            return [NOTHING]
        return [_best(key, found) for key, found in zip(waves, results, strict=True)]

    def _speech(self, key: str, samples: np.ndarray) -> np.ndarray:
        if self._preprocess is None:
            return samples
        return self._preprocess(key, {"speech": samples})["speech"]


def transcribe(
    exp_dir: Path,
    audio_paths: Sequence[Path],
    beam_size: int = 10,
    ctc_weight: float = 0.3,
    device: str = "auto",
) -> list[tuple[Path, str]]:
    """Turn recordings into text with the model of an experiment.

    Args:
        exp_dir: an experiment of a recipe, with `config.yaml` and one of `MODEL_FILES`.
        audio_paths: recordings of any format and rate; the first channel counts.
        beam_size: hypotheses kept.
        ctc_weight: weight of the CTC scores, in 0 to 1.
        device: of torch; "auto": CUDA where there is a GPU, else the CPU.

    Returns:
        Path and text of each recording, in the given order.

    Raises:
        UserError: a recording is missing, truncated or empty, or the experiment is not whole.
    """
    exp_dir = Path(exp_dir)
    recordings = [(path, *read_audio(path)) for path in audio_paths]
    if not (exp_dir / "config.yaml").is_file():
        raise UserError(f"{exp_dir}: has no config.yaml: not the directory of a trained model")
    model_file = next((exp_dir / m for m in MODEL_FILES if (exp_dir / m).is_file()), None)
    if model_file is None:
        raise UserError(f"{exp_dir}: has none of {', '.join(MODEL_FILES)}: train it first")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    recognizer = Recognizer(
        exp_dir / "config.yaml",
        model_file,
        {"beam_size": beam_size, "ctc_weight": ctc_weight},
        device=device,
    )
    texts = []
    for path, samples, rate_hz in recordings:
        if rate_hz != recognizer.rate_hz:
            samples = soxr.resample(samples, rate_hz, recognizer.rate_hz)
        texts.append((path, recognizer({str(path): samples})[0].text))
    return texts


def _best(key: str, found: list) -> Recognition:
    if not found:
        logging.warning(f"{key}: the search ended without a hypothesis")
        return NOTHING
    text, token, token_int, hypothesis = found[0]
    return Recognition(text or "", token, token_int, float(hypothesis.score))


def _usable_device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"device {name!r} is unknown: say cpu or cuda") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError("CUDA is not available here: decode on the CPU")
    return device


def _read_config(path: Path) -> dict:
    """Read a training configuration and make the paths in it absolute."""
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file (train the model first)") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a YAML file ({' '.join(str(error).split())})") from None
    if not isinstance(config, dict) or "token_list" not in config:
        raise UserError(f"{path}: not a configuration that ESPnet's training wrote")
    for *parents, name in _CONFIG_PATHS:
        section = config
        for parent in parents:
            section = section.get(parent) or {}
        if section.get(name) is not None:
            section[name] = str(_find(section[name], path))
    return config


def _find(name: str, config: Path) -> Path:
    """Find a file that is given relative to the recipe's directory, which is above `config`."""
    for directory in (Path(), *config.absolute().parents):
        if (directory / name).is_file():
            return (directory / name).absolute()
    raise UserError(f"{config}: names {name}, which is not there: not in a directory above it")


@contextlib.contextmanager
def _saved_config(config: dict) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "config.yaml")
        path.write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
        yield str(path)


def _parameter_names(path: Path) -> set[str]:
    """Return the names of a saved model's parameters."""
    if not path.is_file():
        raise UserError(f"{path}: no such model file")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # whatever the unpickler stumbles over first
        raise UserError(
            f"{path}: not a whole model file of PyTorch; train or copy it again"
        ) from None
    if not isinstance(state, dict) or not all(torch.is_tensor(value) for value in state.values()):
        raise UserError(f"{path}: holds no model parameters alone (a checkpoint of training?)")
    return set(state)


def _rate_hz(arguments) -> int:
    """Return the sampling rate that a model's front end expects; 16 kHz is ESPnet's default."""
    fs = (arguments.frontend_conf or {}).get("fs", 16000)
    return fs if isinstance(fs, int) else humanfriendly.parse_size(fs)
