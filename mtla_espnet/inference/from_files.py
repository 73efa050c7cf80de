"""Recordings and documents in files through a trained model: what the command line does."""

import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from mtla_espnet.data.audio.reader import read_audio
from mtla_espnet.data.audio.sound_file import SOUND_SUFFIXES
from mtla_espnet.files import UserError
from mtla_espnet.inference.decoding_config import read_decoding_config
from mtla_espnet.inference.inputs import TEXT_SUFFIXES, Inputs
from mtla_espnet.inference.models import model_class
from mtla_espnet.inference.pieces import (
    LONGEST_S,
    Piece,
    check_cut,
    outcomes_of,
    pieces_of,
    recognised,
)
from mtla_espnet.inference.times import Posteriors, check_times, posteriors, times_of
from mtla_espnet.inference.tokenizer import token_ids
from mtla_espnet.inference.trained_model import DECODING_OPTIONS, TrainedModel

BATCH_SIZE = 8


def decode_recordings(
    task: str,
    model: Path,
    audio_paths: Sequence[Path],
    *,
    inference_config: Path | None = None,
    options: Mapping[str, object] | None = None,
    device: str = "auto",
    cut_at: str = "silence",
    longest_s: float = LONGEST_S,
    times: str | None = None,
    batch_size: int = BATCH_SIZE,
    shows_progress: bool = False,
) -> Iterator[Piece]:
    """Recognise, translate or understand recordings, long ones in pieces.

    A recording that cannot be used costs itself alone: the log names it, and the others come.

    Args:
        task: its name: asr, st or slu.
        model: an experiment's directory, a pack of stage 14 or `espnet2.bin.pack` (zip), or the
            directory of an unpacked one.
        audio_paths: recordings of any format, rate and length, of which channels are mixed;
            directories and patterns of them; `-`: the standard input.
        inference_config: a YAML file of `DECODING_OPTIONS`; None: what is kept with the model.
        options: of the search, over those of the configuration, such as `beam_size`.
        device: of torch; "auto": CUDA where there is a GPU, else the CPU.
        cut_at: where longer recordings are cut: `silence`, `length` or `none`; `vad`: all are cut
            into what Silero VAD finds to be speech.
        longest_s: of a piece, in seconds; about what the model was trained on.
        times: `word` or `token`: tell when each is spoken, by CTC; see
            `mtla_espnet.inference.times`. None: do not.
        batch_size: pieces that are searched together.
        shows_progress: show on stderr how many of the files have been read.

    Yields:
        The pieces of each recording, in order.

    Raises:
        UserError: an option means nothing, the model is not whole or of another task, or it has
            no CTC and times are asked for. After the last piece: recordings were left out.
    """
    _check_batch_size(batch_size)
    check_cut(cut_at, longest_s)  # wrong options are told before the model is loaded
    if inference_config is not None:
        read_decoding_config(inference_config, DECODING_OPTIONS)
    inputs = Inputs(audio_paths, SOUND_SUFFIXES, _read_recording, shows_progress)
    recordings = inputs.read()
    hears = load(task, model, inference_config, options, device)
    if times:
        check_times(hears, model)
    pieces = pieces_of(recordings, hears.rate_hz, cut_at, longest_s)
    yield from recognised(hears, pieces, inputs.leave_out, times, batch_size)
    inputs.tell()


def align_recording(
    model: Path,
    audio_path: Path,
    text: str,
    *,
    task: str = "asr",
    times: str = "word",
    device: str = "auto",
    longest_s: float = LONGEST_S,
) -> Piece:
    """Find when the words of a recording are spoken, of which the text is known.

    The encoder hears a long recording in pieces, which end where it is quiet; the text is
    aligned with all of them at once.

    Args:
        model: directory of an experiment, or a pack of it; of a task whose text is spoken.
        audio_path: the recording, of any format, rate and length.
        text: what is said, written as the texts that the model was trained on.
        task: `asr` or `slu`.
        times: of each `word` or `token`.
        device: of torch; "auto": CUDA where there is a GPU, else the CPU.
        longest_s: of a piece, in seconds; about what the model was trained on.

    Returns:
        The recording, with the times of its words.

    Raises:
        UserError: an input cannot be used, or the model has no CTC.
    """
    inputs = Inputs([audio_path], SOUND_SUFFIXES, _read_recording)
    recordings = inputs.read()
    hears = load(task, model, device=device)
    check_times(hears, model)
    pieces = list(pieces_of(recordings, hears.rate_hz, "silence", longest_s))
    inputs.tell()
    heard = [
        posteriors(hears, piece.name, wave, piece.start_s, piece.end_s) for piece, wave in pieces
    ]
    try:
        ids = token_ids(hears.tokenizer, hears.model.token_list, text)
        timed = times_of(hears, Posteriors.joined(heard), ids, times)
    except UserError as error:
        raise UserError(f"{audio_path}: {error}") from None
    return Piece(audio_path, 0.0, pieces[-1][0].end_s, text, whole=True, times=timed)


def summarise_documents(
    model: Path,
    text_paths: Sequence[Path],
    *,
    inference_config: Path | None = None,
    options: Mapping[str, object] | None = None,
    device: str = "auto",
    batch_size: int = BATCH_SIZE,
    shows_progress: bool = False,
) -> Iterator[tuple[Path, str]]:
    """Summarise documents, one a file.

    Args:
        model: an experiment's directory, a pack of stage 14 or `espnet2.bin.pack` (zip), or the
            directory of an unpacked one.
        text_paths: UTF-8 files, in which white space and line ends count as blanks; directories
            and patterns of them; `-`: the standard input.
        inference_config: a YAML file of `DECODING_OPTIONS`; None: what is kept with the model.
        options: of the search, over those of the configuration, such as `beam_size`.
        device: of torch; "auto": CUDA where there is a GPU, else the CPU.
        batch_size: documents that are searched together.
        shows_progress: show on stderr how many of the files have been read.

    Yields:
        Path and summary of each document, in order.

    Raises:
        UserError: an option means nothing, or the model is not whole or of another task. After
            the last summary: documents were left out.
    """
    _check_batch_size(batch_size)
    if inference_config is not None:
        read_decoding_config(inference_config, DECODING_OPTIONS)
    inputs = Inputs(text_paths, TEXT_SUFFIXES, read_document, shows_progress)
    documents = inputs.read()
    writes = load("sum", model, inference_config, options, device)
    for batch in itertools.batched(documents, batch_size):
        outcomes = outcomes_of(writes, [(str(path), text) for path, text in batch])
        for (path, _), outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, UserError):
                inputs.leave_out(path, UserError(f"{path}: {outcome}"))
                continue
            if not outcome:
                logging.warning(f"{path}: nothing was written")
            yield path, (outcome[0][0] or "") if outcome else ""
    inputs.tell()


def load(
    task: str,
    model: Path,
    inference_config: Path | None = None,
    options: Mapping[str, object] | None = None,
    device: str = "auto",
) -> TrainedModel:
    """Load a trained model of a task.

    Raises:
        UserError: the model is not whole or of another task, an option means nothing, or there
            is no such device.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    given = options or {}
    return model_class(task).from_pretrained(model, inference_config, device=device, **given)


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise UserError(f"batch_size is 1 or more, not {batch_size}")


def _read_recording(path: Path) -> tuple[np.ndarray, int]:
    return read_audio(path, channel=None)


def read_document(path: Path) -> str:
    """Return the text of a file, with single blanks for white space and line ends.

    Raises:
        UserError: it cannot be read, is not UTF-8, or is empty.
    """
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
