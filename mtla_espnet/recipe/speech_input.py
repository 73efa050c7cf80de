"""What the models of a recipe hear: audio or features, and the tables that name it."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from mtla_espnet.data.features.format import EXTRACTOR_FILE, FEATURE_TYPES, read_frame_shift
from mtla_espnet.data.kaldi.tables import read_table
from mtla_espnet.files import UserError
from mtla_espnet.recipe.options import USUAL_RATE_HZ

# Front ends that take features in files.
_OF_FEATURES = ("stored_layers",)
# Usual lengths of a front end's window, and of its hop.
_WINDOW_MS = (15.0, 45.0)
_HOP_MS = (5.0, 15.0)


@dataclasses.dataclass(frozen=True)
class SpeechInput:
    """The kind of input of a recipe's sets.

    Args:
        feats_type: raw, extracted or fairseq_zip.
        audio_format: of raw audio.
        rate_hz: of raw audio.
    """

    feats_type: str
    audio_format: str
    rate_hz: int

    @property
    def is_features(self) -> bool:
        """It is features that are in files, and a model has no front end."""
        return self.feats_type in FEATURE_TYPES

    @property
    def scp(self) -> str:
        """Table of where each utterance is."""
        return "feats.scp" if self.is_features else "wav.scp"

    @property
    def lengths(self) -> str:
        """Table of how long each utterance is."""
        return "feats_shape" if self.is_features else "utt2num_samples"

    @property
    def facts(self) -> list[str]:
        """Files of a formatted set that hold for all of its utterances."""
        more = ["feats_dim", "frame_shift"] if self.is_features else ["audio_format"]
        return ["feats_type", *more]

    def facts_of(self, set_dir: Path) -> list[str]:
        """Return `facts`, and those of our own dumps that ESPnet's lack, where there are any."""
        ours = ("content_digest", EXTRACTOR_FILE)
        return [*self.facts, *(name for name in ours if (set_dir / name).exists())]

    @property
    def loader(self) -> str:
        """ESPnet's name of the type of data."""
        if self.feats_type == "fairseq_zip":
            return "fairseq_zip"
        return "kaldi_ark" if self.is_features or self.audio_format.endswith(".ark") else "sound"

    @property
    def unit_of_fold(self) -> int:
        """What ESPnet's fold length is multiplied by: audio counts frames of 100 samples."""
        return 1 if self.is_features else 100

    def read_lengths(self, set_dir: Path) -> dict[str, int]:
        """Return the samples or frames of the utterances of a formatted set."""
        table = read_table(set_dir / self.lengths)
        return {key: int(value.partition(",")[0]) for key, value in table.items()}

    def units_per_s(self, set_dir: Path) -> float:
        """Return how many samples or frames a second of a formatted set has."""
        return 1 / read_frame_shift(set_dir) if self.is_features else self.rate_hz

    def fitted_frontend(self, config: Mapping) -> dict[str, int]:
        """Return what of ESPnet's own front end must change for the sampling rate.

        Its window and hop count samples, and configurations are made for 16 kHz: at 8 kHz the
        same numbers are twice as long. What is of a usual length in ms stays as it is.

        Args:
            config: the training configuration.

        Returns:
            Options of `frontend_conf`; none for other front ends, which count in ms.
        """
        if self.is_features or self.rate_hz == USUAL_RATE_HZ:
            return {}
        if config.get("frontend", "default") != "default":
            return {}
        conf = config.get("frontend_conf") or {}
        n_fft, hop = conf.get("n_fft", 512), conf.get("hop_length", 128)
        window, fmax = conf.get("win_length") or n_fft, conf.get("fmax")
        if not all(isinstance(size, int) for size in (n_fft, hop, window)):
            return {}  # ESPnet says so
        fitted = {}
        ms = self.rate_hz / 1000
        is_usual = _is_in(window / ms, _WINDOW_MS) and _is_in(hop / ms, _HOP_MS)
        if not is_usual:
            scale = self.rate_hz / USUAL_RATE_HZ
            window, hop = round(window * scale), round(hop * scale)
            fitted = {"win_length": window, "hop_length": hop}
            if n_fft < window:
                fitted["n_fft"] = 1 << (window - 1).bit_length()
        if isinstance(fmax, int | float) and fmax > self.rate_hz / 2:
            fitted["fmax"] = self.rate_hz // 2
        return fitted

    def model_arguments(self, set_dirs: list[Path], config: Mapping) -> list[str]:
        """Return what ESPnet must be told of the input of a model.

        Args:
            set_dirs: formatted sets that it is trained on and validated by.
            config: the training configuration.

        Raises:
            UserError: the sets have features of different sizes.
        """
        if not self.is_features:
            conf = {"fs": self.rate_hz} | self.fitted_frontend(config)
            return [word for key in conf for word in ("--frontend_conf", f"{key}={conf[key]}")]
        files = [path / "feats_dim" for path in set_dirs]
        # Not there yet where only the commands are shown.
        dims = [path.read_text(encoding="utf-8").strip() for path in files if path.exists()]
        if len(set(dims)) > 1:
            found = ", ".join(f"{path}: {dim}" for path, dim in zip(files, dims, strict=True))
            raise UserError(f"the sets have features of different sizes ({found})")
        # With a size, ESPnet leaves the front end out.
        return (
            []
            if config.get("frontend") in _OF_FEATURES
            else ["--input_size", *(dims[:1] or ["DIM"])]
        )


def _is_in(value: float, bounds: tuple[float, float]) -> bool:
    return bounds[0] <= value <= bounds[1]
