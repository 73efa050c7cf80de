"""What the models of a recipe hear: audio or features, and the tables that name it."""

import dataclasses
from pathlib import Path

from mtla_espnet.data.features.format import FEATURE_TYPES, read_frame_shift
from mtla_espnet.data.kaldi.tables import read_table
from mtla_espnet.files import UserError

# Front ends that take features in files.
_OF_FEATURES = ("stored_layers",)


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
        """Return `facts`, and `content_digest` where there is one: dumps of ESPnet lack it."""
        digest = ["content_digest"] if (set_dir / "content_digest").exists() else []
        return [*self.facts, *digest]

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

    def model_arguments(self, set_dirs: list[Path], frontend: str | None) -> list[str]:
        """Return what ESPnet must be told of the input of a model.

        Args:
            set_dirs: formatted sets that it is trained on and validated by.
            frontend: of the training configuration.

        Raises:
            UserError: the sets have features of different sizes.
        """
        if not self.is_features:
            return ["--frontend_conf", f"fs={self.rate_hz}"]
        files = [path / "feats_dim" for path in set_dirs]
        # Not there yet where only the commands are shown.
        dims = [path.read_text(encoding="utf-8").strip() for path in files if path.exists()]
        if len(set(dims)) > 1:
            found = ", ".join(f"{path}: {dim}" for path, dim in zip(files, dims, strict=True))
            raise UserError(f"the sets have features of different sizes ({found})")
        # With a size, ESPnet leaves the front end out.
        return [] if frontend in _OF_FEATURES else ["--input_size", *(dims[:1] or ["DIM"])]
