"""Recordings and documents in files through a trained model: what the command line does."""

import dataclasses
import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import soxr
import torch

from mtla_espnet.config import check_keys
from mtla_espnet.data.audio.cut_recordings import cut
from mtla_espnet.data.audio.reader import read_audio
from mtla_espnet.files import UserError
from mtla_espnet.inference.models import model_class
from mtla_espnet.inference.trained_model import DECODING_OPTIONS, TrainedModel
from mtla_espnet.yaml_files import load_yaml

LONGEST_S = 20.0
BEAM_SIZE, CTC_WEIGHT = 10, 0.3
_BATCH = 8


@dataclasses.dataclass(frozen=True)
class Piece:
    """What a model makes of a recording, or of a part of one.

    Args:
        path: the recording.
        start_s: where the part starts, in seconds of the recording.
        end_s: where it ends.
        text: what was recognised, translated or understood.
        whole: the part is the whole recording.
    """

    path: Path
    start_s: float
    end_s: float
    text: str
    whole: bool

    @property
    def name(self) -> str:
        """The path, with the times of a part."""
        times = "" if self.whole else f" {self.start_s:.2f}-{self.end_s:.2f}"
        return f"{self.path}{times}"


def decode_recordings(
    task: str,
    model: Path,
    audio_paths: Sequence[Path],
    *,
    options: Mapping[str, object] | None = None,
    device: str = "auto",
    cut_at: str = "silence",
    longest_s: float = LONGEST_S,
) -> Iterator[Piece]:
    """Recognise, translate or understand recordings, long ones in pieces.

    Args:
        task: its name: asr, st or slu.
        model: see `TrainedModel.from_pretrained`.
        audio_paths: recordings of any format, rate and length; channels are mixed.
        options: of the search, see `TrainedModel`.
        device: of torch; "auto": CUDA where there is a GPU, else the CPU.
        cut_at: where longer recordings are cut: `silence`, `length` or `none`.
        longest_s: of a piece, in seconds; about what the model was trained on.

    Yields:
        The pieces of each recording, in order.

    Raises:
        UserError: a recording is missing, truncated or empty, an option means nothing, or the
            model is not whole or of another task. All recordings are looked at first.
    """
    cut(np.zeros(1), 1, longest_s, cut_at)  # wrong options are told before the model is loaded
    for path in audio_paths:
        read_audio(path, channel=None)  # and let go: all together may not fit into memory
    hears = load(task, model, options, device)
    pieces = _pieces(audio_paths, hears.rate_hz, cut_at, longest_s)
    for batch in itertools.batched(pieces, _BATCH):
        waves = [wave for _, wave in batch]
        for (piece, _), results in zip(batch, hears(waves), strict=True):
            if not results:
                logging.warning(f"{piece.path}: nothing was recognised from {piece.start_s:.2f} s")
            text = (results[0][0] or "") if results else ""
            yield dataclasses.replace(piece, text=text)


def summarise_documents(
    model: Path,
    text_paths: Sequence[Path],
    *,
    options: Mapping[str, object] | None = None,
    device: str = "auto",
) -> Iterator[tuple[Path, str]]:
    """Summarise documents, one a file.

    Args:
        model: see `TrainedModel.from_pretrained`.
        text_paths: UTF-8 files; white space and line ends count as blanks.
        options: of the search, see `TrainedModel`.
        device: see `decode_recordings`.

    Yields:
        Path and summary of each document, in order.

    Raises:
        UserError: a document is missing, empty or not text, or as `decode_recordings`. All
            documents are looked at first.
    """
    documents = [(path, _read_document(path)) for path in text_paths]
    writes = load("sum", model, options, device)
    for first in range(0, len(documents), _BATCH):
        batch = documents[first : first + _BATCH]
        for (path, _), results in zip(batch, writes([text for _, text in batch]), strict=True):
            if not results:
                logging.warning(f"{path}: nothing was written")
            yield path, (results[0][0] or "") if results else ""


def load(
    task: str, model: Path, options: Mapping[str, object] | None = None, device: str = "auto"
) -> TrainedModel:
    """Load a trained model of a task.

    Raises:
        UserError: see `TrainedModel`.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return model_class(task).from_pretrained(model, device=device, **(options or {}))


def search_options(
    task: str, config: Path | None, given: Mapping[str, object | None]
) -> dict[str, object]:
    """Lay options of a command line over those of a decoding configuration, or over defaults.

    Args:
        task: its name.
        config: a YAML file of `DECODING_OPTIONS`; None: there is none.
        given: option -> value; None: not given.

    Raises:
        UserError: the file is missing or wrong, or has an option that is not one of decoding.
    """
    options: dict[str, object] = {"beam_size": BEAM_SIZE}
    if model_class(task).default_ctc_weight:
        options["ctc_weight"] = CTC_WEIGHT
    if config:
        configured = load_yaml(config)
        check_keys(configured, sorted(DECODING_OPTIONS), str(config))
        options |= configured
    return options | {name: value for name, value in given.items() if value is not None}


def _pieces(
    audio_paths: Sequence[Path], rate_hz: int, cut_at: str, longest_s: float
) -> Iterator[tuple[Piece, np.ndarray]]:
    """Cut recordings, one in memory at a time; yield pieces without text, and their samples."""
    for path in audio_paths:
        samples, own_rate_hz = read_audio(path, channel=None)
        bounds = cut(samples, own_rate_hz, longest_s, cut_at)
        for start, end in bounds:
            times = start / own_rate_hz, end / own_rate_hz
            piece = Piece(path, *times, text="", whole=len(bounds) == 1)
            yield piece, _resampled(samples[start:end], own_rate_hz, rate_hz)


def _resampled(samples: np.ndarray, rate_hz: int, wanted_hz: int) -> np.ndarray:
    # a copy: a piece shall not keep its recording
    return samples.copy() if rate_hz == wanted_hz else soxr.resample(samples, rate_hz, wanted_hz)


def _read_document(path: Path) -> str:
    try:
        text = " ".join(path.read_text(encoding="utf-8").split())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{path}: a directory, not a document") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error.reason})") from None
    if not text:
        raise UserError(f"{path}: the document is empty")
    return text
