"""What of a formatted data directory a model decodes: speech, or text.

The decoding loop asks for keys, lengths and inputs, and does not know which it is.
"""

import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from mtla_espnet.data.audio.reader import read_audio
from mtla_espnet.data.features.format import read_frame_shift
from mtla_espnet.data.features.reader import FeatureReader
from mtla_espnet.data.kaldi.tables import read_table
from mtla_espnet.files import UserError
from mtla_espnet.inference.speech2understand import Speech2Understand
from mtla_espnet.inference.speech_model import SpeechModel
from mtla_espnet.inference.trained_model import TrainedModel
from mtla_espnet.inference.utterance import Utterance, length_of


def eval_set(data_dir: Path, keys: Sequence[str] | None, kind: type[TrainedModel]) -> "EvalSet":
    """Open a set for a kind of models.

    Args:
        data_dir: with `wav.scp` and `utt2num_samples` for models of speech, or `feats.scp`
            and `feats_shape`, and `transcript` for those of two passes; with `src_text` for
            models of text.
        keys: ids to decode; None: all.
        kind: the class of the model.

    Raises:
        UserError: a table is missing or malformed, or lacks an id; or there is none.
    """
    if not issubclass(kind, SpeechModel):
        return TextSet(data_dir, keys)
    features = (data_dir / "feats.scp").exists()
    return (FeatureSet if features else SpeechSet)(data_dir, keys)


class EvalSet:
    """Utterances of a set.

    Args:
        path: the table of what is decoded.
        keys: ids to decode; None: all.

    Raises:
        UserError: the table is malformed or lacks an id, or there is none.

    Attributes:
        keys: the ids, in the given order.
    """

    def __init__(self, path: Path, keys: Sequence[str] | None):
        self._path = path
        self._entries = read_table(path)
        self.keys = list(self._entries) if keys is None else list(keys)
        if not self.keys:
            raise UserError(f"{path}: no utterance to decode")
        check_lines(path, self._entries, self.keys)

    def lengths(self, model: TrainedModel, keys: Iterable[str]) -> dict[str, int]:
        """Return the lengths of utterances in the unit of the model's input."""
        raise NotImplementedError

    def read(self, key: str, model: TrainedModel) -> Utterance:
        """Return an utterance as `model.prepare` does; several threads may do so at once.

        Raises:
            UserError: it cannot be read; names the file.
        """
        raise NotImplementedError

    def audio_s(self, model: TrainedModel, keys: Iterable[str]) -> float:
        """Return the seconds of speech of utterances; 0 where there is text."""
        return 0.0


class SpeechSet(EvalSet):
    """Speech: `wav.scp`, `utt2num_samples`, and `transcript` where the model reads it."""

    scp, lengths_table = "wav.scp", "utt2num_samples"

    def __init__(self, data_dir: Path, keys: Sequence[str] | None):
        super().__init__(data_dir / self.scp, keys)
        path = data_dir / self.lengths_table
        table = read_table(path)
        check_lines(path, table, self.keys)
        self._lengths = {key: _length(path, key, table[key]) for key in self.keys}
        self._transcripts: dict[str, str] | None = None

    def lengths(self, model: TrainedModel, keys: Iterable[str]) -> dict[str, int]:
        """Return the lengths of utterances: samples, or frames where the set has features."""
        self._check_input(model)
        if isinstance(model, Speech2Understand) and model.reads_transcripts:
            path = self._path.with_name("transcript")
            self._transcripts = read_table(path)
            check_lines(path, self._transcripts, self.keys)
        return {key: self._lengths[key] for key in keys}

    def read(self, key: str, model: SpeechModel) -> Utterance:
        """Return an utterance as `model.prepare` does; a UserError names the file."""
        speech = self._read(self._entries[key], model)
        if self._transcripts is None:
            return model.prepare(key, speech)
        return model.prepare(key, (speech, self._transcripts[key]))

    def audio_s(self, model: SpeechModel, keys: Iterable[str]) -> float:
        """Return the seconds of speech of utterances, from their samples."""
        return sum(self._lengths[key] for key in keys) / model.rate_hz

    def _check_input(self, model: SpeechModel) -> None:
        if model.feature_size is not None:
            raise UserError(
                f"{self._path}: the model takes features, not audio "
                "(give the same --feats_type as in training)"
            )

    def _read(self, entry: str, model: SpeechModel) -> np.ndarray:
        return _read_audio(entry, model.rate_hz)


class FeatureSet(SpeechSet):
    """Speech as features: `feats.scp`, `feats_shape`."""

    scp, lengths_table = "feats.scp", "feats_shape"

    def __init__(self, data_dir: Path, keys: Sequence[str] | None):
        super().__init__(data_dir, keys)
        self._readers = threading.local()  # each thread has one, with its open files
        self._frame_shift_s = read_frame_shift(data_dir)

    def audio_s(self, model: SpeechModel, keys: Iterable[str]) -> float:
        """Return the seconds of speech of utterances, from their frames."""
        return sum(self._lengths[key] for key in keys) * self._frame_shift_s

    def _check_input(self, model: SpeechModel) -> None:
        if model.feature_size is None:
            raise UserError(
                f"{self._path}: the model takes audio, not features "
                "(give the same --feats_type as in training)"
            )

    def _read(self, entry: str, model: SpeechModel) -> np.ndarray:
        if not hasattr(self._readers, "own"):
            self._readers.own = FeatureReader()
        features = self._readers.own.read(entry)
        if features.shape[1] != model.feature_size:
            raise UserError(
                f"{entry}: has {features.shape[1]} features a frame, the model takes "
                f"{model.feature_size}"
            )
        return features


class TextSet(EvalSet):
    """Text: `src_text`. It is turned into tokens once, when its lengths are asked for."""

    def __init__(self, data_dir: Path, keys: Sequence[str] | None):
        super().__init__(data_dir / "src_text", keys)
        empty = [key for key in self.keys if not self._entries[key]]
        if empty:
            raise UserError(f"{self._path}: {empty[0]!r} is empty ({len(empty)} in all)")
        self._inputs: dict[str, Utterance] = {}

    def lengths(self, model: TrainedModel, keys: Iterable[str]) -> dict[str, int]:
        """Return the lengths of utterances: tokens of their sources."""
        self._inputs = {key: model.prepare(key, self._entries[key]) for key in keys}
        return {key: length_of(inputs) for key, inputs in self._inputs.items()}

    def read(self, key: str, model: TrainedModel) -> Utterance:
        """Return an utterance as `model.prepare` does; a UserError names the file."""
        return self._inputs[key]


def check_lines(path: Path, table: Mapping[str, str], keys: Iterable[str]) -> None:
    """Check that a table has a line for each key.

    Raises:
        UserError: it has not; names the first.
    """
    for key in keys:
        if key not in table:
            raise UserError(f"{path}: no line for {key!r}")


def _length(path: Path, key: str, value: str) -> int:
    length = value.partition(",")[0]
    if not length.isdigit():
        raise UserError(f"{path}: {key!r} has {value!r}, not a number")
    return int(length)


def _read_audio(path: str, rate_hz: int) -> np.ndarray:
    samples, found_hz = read_audio(path)
    if not len(samples):
        raise UserError(f"{path}: has no samples")
    if found_hz != rate_hz:
        raise UserError(
            f"{path}: has {found_hz} Hz, the model takes {rate_hz} Hz "
            "(give the same --fs as in training)"
        )
    return samples
