"""Audio: reading it strictly, and writing the copy of a data directory that training reads.

The copy is the same whatever the number of workers: utterances are taken in sorted
order, in blocks of fixed length, and block N is `data/format.N`.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr
from omniio import kaldi

from mtla_espnet.data.audio_length import check_length
from mtla_espnet.data.datadir import Segment, read_segments, validate_data_dir
from mtla_espnet.data.tables import read_table, spk2utt_from, write_table
from mtla_espnet.files import UserError, write_text
from mtla_espnet.parallel import run_jobs

AUDIO_FORMATS = ("flac", "wav", "flac.ark", "wav.ark")

_BLOCK_UTTERANCES = 200
# A segment may end this much after its recording (rounded times); it is cut short.
_OVERSHOOT_S = 0.5
# An mp3 header counts samples that the decoder drops: up to two frames.
_MP3_SLACK_SAMPLES = 2 * 1152
_IN_ARK = re.compile(r".+\.ark:\d+")


def read_audio(
    path: str | os.PathLike, start_s: float | None = None, end_s: float | None = None
) -> tuple[np.ndarray, int]:
    """Read the first channel of a recording, or of a part of it.

    Args:
        path: a file that libsndfile reads (wav, flac, sph, ogg, mp3 ...), or a place
            in a Kaldi archive, `file.ark:25`.
        start_s: where the part starts, in seconds; the beginning if None.
        end_s: where it ends; the end of the recording if None.

    Returns:
        (T,) float32 in [-1, 1), and the sample rate in Hz.

    Raises:
        UserError: the file is missing, truncated, empty or not audio, or the part
            is not in it; the message starts with the path.
    """
    path = os.fspath(path)
    if _IN_ARK.fullmatch(path):
        recording, rate_hz = _load_from_ark(path)
        start, end = _bounds(path, len(recording), rate_hz, start_s, end_s)
        samples = recording[start:end]
    else:
        samples, rate_hz = _read_part(path, start_s, end_s)
    if not np.isfinite(samples).all():
        raise UserError(f"{path}: has samples that are not finite numbers")
    return samples, rate_hz


def format_audio(
    data_dir: str | os.PathLike,
    out_dir: str | os.PathLike,
    fs: int,
    audio_format: str = "flac",
    nj: int = 1,
    progress: bool = True,
) -> None:
    """Copy a data directory with each utterance cut, resampled and in one channel of 16 bits.

    Writes `text utt2spk spk2utt wav.scp utt2num_samples feats_type audio_format` and
    the audio under `data/format.N/`: a file an utterance, or one `data_wav.ark` (its
    entries are whole flac or wav files in the extended layout, which ESPnet reads as
    floats). `wav.scp` is written last, and removed first: with it, all is there.

    Args:
        data_dir: what to copy; checked first.
        out_dir: the copy.
        fs: its sample rate in Hz.
        audio_format: one of AUDIO_FORMATS.
        nj: blocks of utterances formatted side by side, at most one a processor.
        progress: show a progress bar in a terminal.

    Raises:
        UserError: `data_dir` or `audio_format` is bad, or an utterance's audio is
            (`read_audio`); the message names utterance and file.
    """
    data_dir, out_dir = Path(data_dir), Path(out_dir)
    if audio_format not in AUDIO_FORMATS:
        raise UserError(
            f"audio_format {audio_format!r} is not supported: use {', '.join(AUDIO_FORMATS)}"
        )
    validate_data_dir(data_dir)
    (out_dir / "wav.scp").unlink(missing_ok=True)

    def formatted(part: Part) -> tuple[np.ndarray, int]:
        samples, rate_hz = read_audio(part.path, part.start_s, part.end_s)
        if rate_hz != fs:
            samples = soxr.resample(samples, rate_hz, fs)
        if not len(samples):
            raise UserError(f"{part.path}: is empty at {fs} Hz")
        return samples, fs

    parts = read_parts(data_dir)
    label = f"format {data_dir.name}" if progress else None
    written = write_parts(parts, out_dir / "data", formatted, audio_format, nj, label)

    utt2spk = read_table(data_dir / "utt2spk")
    write_table(out_dir / "text", read_table(data_dir / "text"))
    write_table(out_dir / "utt2spk", utt2spk)
    write_table(out_dir / "spk2utt", spk2utt_from(utt2spk))
    num_samples = {utterance: audio.num_samples for utterance, audio in written.items()}
    write_table(out_dir / "utt2num_samples", num_samples)
    write_text(out_dir / "feats_type", "raw\n")
    write_text(out_dir / "audio_format", f"{audio_format}\n")
    write_table(out_dir / "wav.scp", {key: audio.entry for key, audio in written.items()})


class Part(NamedTuple):
    """Where the audio of an utterance is: a recording, or a part of it."""

    utterance: str
    path: str
    start_s: float | None = None
    end_s: float | None = None


class WrittenAudio(NamedTuple):
    """An utterance's audio that was written: its entry for `wav.scp`, and what it holds."""

    entry: str
    num_samples: int
    rate_hz: int


def read_parts(data_dir: Path) -> list[Part]:
    """Return where the audio of each utterance of a data directory is, sorted by utterance."""
    recordings = read_table(data_dir / "wav.scp")
    if not (data_dir / "segments").exists():
        return [Part(utterance, path) for utterance, path in recordings.items()]
    segments: dict[str, Segment] = read_segments(data_dir / "segments")
    return [
        Part(utterance, recordings[segment.recording], segment.start_s, segment.end_s)
        for utterance, segment in segments.items()
    ]


def write_parts(
    parts: list[Part],
    directory: Path,
    convert: Callable[[Part], tuple[np.ndarray, int]],
    audio_format: str,
    nj: int,
    label: str | None,
) -> dict[str, WrittenAudio]:
    """Write the audio of utterances anew, with 16 bits, in blocks of fixed length.

    Args:
        parts: the utterances.
        directory: emptied first; block N is `format.N` in it.
        convert: gives an utterance as (T,) float32 in [-1, 1) and the rate in Hz.
        audio_format: one of AUDIO_FORMATS.
        nj: blocks that are written side by side, at most one a processor.
        label: of a progress bar; None: no bar.

    Returns:
        Utterance -> what was written.

    Raises:
        UserError: `convert` raised one; names the utterance.
    """
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    starts = range(0, len(parts), _BLOCK_UTTERANCES)
    blocks = [
        (directory / f"format.{n}", parts[i : i + _BLOCK_UTTERANCES])
        for n, i in enumerate(starts, 1)
    ]
    written = run_jobs(
        lambda block: _write_block(*block, convert, audio_format),
        blocks,
        n_workers=min(nj, os.cpu_count() or 1),
        progress=label,
    )
    return {utterance: audio for block in written for utterance, audio in block.items()}


def _write_block(
    directory: Path, parts: list[Part], convert: Callable, audio_format: str
) -> dict[str, WrittenAudio]:
    container, _, archive = audio_format.partition(".")
    write = _write_archive if archive else _write_files
    # The block's directory appears whole, by a rename, or not at all.
    with tempfile.TemporaryDirectory(
        dir=directory.parent, prefix=f".{directory.name}."
    ) as temporary:
        unfinished = Path(temporary) / directory.name
        unfinished.mkdir()
        utterances = ((part.utterance, *_converted(part, convert)) for part in parts)
        written = write(unfinished, utterances, container)
        unfinished.rename(directory)
    return {
        utterance: audio._replace(entry=f"{directory}/{audio.entry}")
        for utterance, audio in written.items()
    }


def _converted(part: Part, convert: Callable) -> tuple[np.ndarray, int]:
    """Return an utterance as (T,) int16 and its rate."""
    try:
        samples, rate_hz = convert(part)
    except UserError as error:
        raise UserError(f"utterance {part.utterance!r}: {error}") from None
    # Times 32768, so that 16-bit input comes out bit for bit.
    return np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16), rate_hz


def _write_files(directory: Path, utterances, container: str) -> dict[str, WrittenAudio]:
    written = {}
    for utterance, samples, rate_hz in utterances:
        if "/" in utterance:
            raise UserError(
                f"utterance {utterance!r}: an id with '/' cannot name a file: rename it"
            )
        entry = f"{utterance}.{container}"
        soundfile.write(directory / entry, samples, rate_hz, format=container, subtype="PCM_16")
        written[utterance] = WrittenAudio(entry, len(samples), rate_hz)
    return written


def _write_archive(directory: Path, utterances, container: str) -> dict[str, WrittenAudio]:
    written = {}
    encoding = {"format": container, "subtype": "PCM_16"}
    with open(directory / "data_wav.ark", "wb") as ark:
        for utterance, samples, rate_hz in utterances:
            offset = ark.tell() + len(f"{utterance} ".encode())
            kaldi.save_ark(
                ark,
                {utterance: (rate_hz, samples)},
                write_function="soundfile",
                write_kwargs=encoding,
            )
            entry = f"data_wav.ark:{offset}"
            written[utterance] = WrittenAudio(entry, len(samples), rate_hz)
    return written


def _read_part(path: str, start_s: float | None, end_s: float | None) -> tuple[np.ndarray, int]:
    """Read a part of a sound file without reading the rest of it."""
    if not os.path.isfile(path):
        raise UserError(f"{path}: no such file")
    try:
        with soundfile.SoundFile(path) as sound:
            check_length(path, sound)
            start, end = _bounds(path, sound.frames, sound.samplerate, start_s, end_s)
            sound.seek(start)
            samples = sound.read(end - start, dtype="float32", always_2d=True)
            rate_hz = sound.samplerate
    except soundfile.LibsndfileError as error:
        raise UserError(f"{path}: cannot be read as audio: {error.error_string}") from None
    slack = _MP3_SLACK_SAMPLES if sound.format == "MP3" else 0
    if len(samples) < end - start - slack:
        raise UserError(
            f"{path}: truncated: its header promises {end - start} samples "
            f"from sample {start}, {len(samples)} are there"
        )
    return np.ascontiguousarray(samples[:, 0]), rate_hz


def _load_from_ark(path: str) -> tuple[np.ndarray, int]:
    try:
        value = kaldi.load_mat(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (kaldi.ReadError, soundfile.LibsndfileError, OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read from the archive: {error}") from None
    if not isinstance(value, tuple):
        raise UserError(f"{path}: holds a matrix, not audio")
    rate_hz, samples = value
    if samples.dtype.kind == "i":  # Kaldi's own layout keeps the integers of the file
        samples = samples / (np.iinfo(samples.dtype).max + 1.0)
    if samples.ndim == 2:
        samples = samples[:, 0]
    return samples.astype(np.float32), rate_hz


def _bounds(
    path: str, total: int, rate_hz: int, start_s: float | None, end_s: float | None
) -> tuple[int, int]:
    """Return first and end sample of a part of a recording of `total` samples."""
    if total == 0:
        raise UserError(f"{path}: has no samples")
    start = 0 if start_s is None else round(start_s * rate_hz)
    end = total if end_s is None else round(end_s * rate_hz)
    if end > total + _OVERSHOOT_S * rate_hz or start >= min(end, total):
        raise UserError(
            f"{path}: is {total / rate_hz:.3f} s long, and has no part "
            f"from {start / rate_hz:.3f} s to {end / rate_hz:.3f} s"
        )
    return start, min(end, total)
