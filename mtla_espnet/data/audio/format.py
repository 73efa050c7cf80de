"""The copy of a data directory that training reads, with its audio cut and resampled.

The copy is the same whatever the number of workers: utterances are taken in sorted
order, in blocks of fixed length, and block N is `data/format.N`.
"""

import collections
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr

from mtla_espnet.data.archives.ark import write_ark_audio
from mtla_espnet.data.audio.blocks import DIGEST, Collector, Written, write_blocks
from mtla_espnet.data.audio.reader import AudioReader, SourcePart
from mtla_espnet.data.audio.reading_options import DEFAULT_READING, ReadingOptions
from mtla_espnet.data.kaldi.datadir import Segment, read_segments, validate_data_dir
from mtla_espnet.data.kaldi.rejected import Rejection, report_rejected
from mtla_espnet.data.kaldi.tables import read_table, spk2utt_from, write_table
from mtla_espnet.files import UserError, write_text

AUDIO_FORMATS = ("flac", "wav", "flac.ark", "wav.ark")
_LONGEST_NAME_BYTES = 255
# Peaks of lossy coding and of resampling are cut without a word; more is heard, and told.
MOST_CLIPPED = 1e-3


def format_audio(
    data_dir: str | os.PathLike,
    out_dir: str | os.PathLike,
    fs: int,
    audio_format: str = "flac",
    reading: ReadingOptions = DEFAULT_READING,
) -> None:
    """Copy a data directory with each utterance cut, resampled and in one channel of 16 bits.

    Writes `reading.tables`, `utt2spk spk2utt wav.scp utt2num_samples feats_type audio_format` and
    the audio under `data/format.N/`: a file an utterance, or one `data_wav.ark` (its
    entries are whole flac or wav files in the extended layout, which ESPnet reads as
    floats). `wav.scp` is written last, and removed first: with it, all is there. An
    utterance whose audio cannot be used is left out, and listed in `rejected.tsv`.

    Args:
        data_dir: what to copy; checked first.
        out_dir: the copy.
        fs: its sample rate in Hz.
        audio_format: one of AUDIO_FORMATS.
        reading: how it is read: workers, tables, channel, and what may be left out.

    Raises:
        UserError: `data_dir` or `audio_format` is bad, or too many utterances are left out;
            the message names utterance and file.
    """
    data_dir, out_dir = Path(data_dir), Path(out_dir)
    check_audio_format(audio_format)
    validate_data_dir(data_dir, allow_pipes=reading.allow_pipes)
    (out_dir / "wav.scp").unlink(missing_ok=True)
    reader = AudioReader(reading.allow_pipes)

    def formatted(part: SourcePart) -> tuple[np.ndarray, int, int]:
        samples, rate_hz = reader.read(part.path, part.start_s, part.end_s, part.channel)
        if rate_hz != fs:
            samples = soxr.resample(samples, rate_hz, fs)
        if not len(samples):
            raise UserError(f"{part.path}: is empty at {fs} Hz")
        return samples, fs, rate_hz

    parts = read_parts(data_dir, reading.channel)
    written, rejections = write_parts(
        parts,
        out_dir / "data",
        formatted,
        audio_format,
        {"fs": fs},
        f"format {data_dir.name}",
        reading,
    )
    _tell_rates(data_dir, written, fs)
    _tell_clipped(data_dir, written)
    copy_tables(data_dir, out_dir, parts, rejections, reading)
    num_samples = {utterance: audio.num_samples for utterance, audio in written.items()}
    write_table(out_dir / "utt2num_samples", num_samples)
    write_text(out_dir / "feats_type", "raw\n")
    write_text(out_dir / "audio_format", f"{audio_format}\n")
    write_table(out_dir / "wav.scp", {key: audio.entry for key, audio in written.items()})


def copy_tables(
    data_dir: Path,
    out_dir: Path,
    parts: Sequence[SourcePart],
    rejections: Sequence[Rejection],
    reading: ReadingOptions,
) -> None:
    """Copy `utt2spk`, `spk2utt` and other tables without the utterances that are left out.

    Also writes `content_digest`, by which later stages see that audio or features changed.

    Args:
        data_dir: where the tables are.
        out_dir: where to write them, and `rejected.tsv`.
        parts: all utterances.
        rejections: those that are left out.
        reading: which other tables are copied, and how many utterances may be left out.

    Raises:
        UserError: too many are left out, or a table lacks an utterance.
    """
    found = {name: read_table(data_dir / name) for name in ("utt2spk", *reading.tables)}
    for name, table in found.items():
        lacking = next((part.utterance for part in parts if part.utterance not in table), None)
        if lacking is not None:
            raise UserError(f"{data_dir / name}: has no line for {lacking!r}")
    content = (out_dir / "data" / DIGEST).read_text(encoding="utf-8")
    write_text(out_dir / "content_digest", content)
    left_out = report_rejected(out_dir, rejections, len(parts), reading.max_rejected)
    kept = [part.utterance for part in parts if part.utterance not in left_out]
    for name, table in found.items():
        write_table(out_dir / name, {key: table[key] for key in kept})
    utt2spk = found["utt2spk"]
    write_table(out_dir / "spk2utt", spk2utt_from({key: utt2spk[key] for key in kept}))


class WrittenAudio(NamedTuple):
    """An utterance's audio that was written.

    Args:
        entry: for `wav.scp`.
        num_samples: how many there are.
        rate_hz: their rate.
        source_hz: that of the recording.
        clipped: share of the samples that were beyond full scale.
    """

    entry: str
    num_samples: int
    rate_hz: int
    source_hz: int
    clipped: float = 0.0


def read_parts(data_dir: Path, channel: int | None = 0) -> list[SourcePart]:
    """Return where the audio of each utterance of a data directory is, sorted by utterance.

    Args:
        data_dir: with `wav.scp`, and maybe `segments` and `utt2ref_channels` (utterance ->
            channel from 0).
        channel: of those that `utt2ref_channels` does not name.

    Raises:
        UserError: a table is malformed.
    """
    recordings = read_table(data_dir / "wav.scp")
    channels = _read_channels(data_dir / "utt2ref_channels")
    if not (data_dir / "segments").exists():
        file = f"{data_dir / 'wav.scp'}"
        return [
            SourcePart(key, path, channel=channels.get(key, channel), file=file, line=line)
            for line, (key, path) in enumerate(recordings.items(), 1)
        ]
    segments: dict[str, Segment] = read_segments(data_dir / "segments")
    return [
        SourcePart(
            key,
            recordings[segment.recording],
            segment.start_s,
            segment.end_s,
            channels.get(key, channel),
            f"{data_dir / 'segments'}",
            line,
        )
        for line, (key, segment) in enumerate(segments.items(), 1)
    ]


def write_parts(
    parts: Sequence[SourcePart],
    directory: Path,
    convert: Callable[[SourcePart], tuple[np.ndarray, int, int]],
    audio_format: str,
    settings: Mapping,
    label: str,
    reading: ReadingOptions,
) -> tuple[dict[str, WrittenAudio], list[Rejection]]:
    """Write the audio of utterances anew, with 16 bits, in blocks of fixed length.

    Args:
        parts: the utterances.
        directory: of the blocks; block N is `format.N` in it.
        convert: gives an utterance as (T,) float32 in [-1, 1), the rate in Hz, and that of
            the recording; a UserError leaves the utterance out.
        audio_format: one of AUDIO_FORMATS.
        settings: what `convert` depends on.
        label: of the progress bar.
        reading: workers, progress bar, and whether to write everything anew.

    Returns:
        Utterance -> what was written, and the utterances that are left out.

    Raises:
        UserError: an id cannot name a file.
    """
    container, _, archive = audio_format.partition(".")
    if not archive:
        for part in parts:
            _check_file_name(part, container)

    def write(block: Path, block_parts: Sequence[SourcePart], collector: Collector) -> Written:
        utterances = (
            (part.utterance, *_as_int16(samples), *rates)
            for part, (samples, *rates) in collector.each(block_parts, convert)
        )
        return (_write_archive if archive else _write_files)(block, utterances, container)

    written, rejections = write_blocks(
        parts, directory, write, {**settings, "audio_format": audio_format}, label, reading
    )
    return {key: WrittenAudio(*fields) for key, fields in written.items()}, rejections


def _check_file_name(part: SourcePart, container: str) -> None:
    size = len(f"{part.utterance}.{container}".encode())
    if "/" in part.utterance:
        problem = "with '/'"
    elif size > _LONGEST_NAME_BYTES:
        problem = f"of {len(part.utterance.encode())} bytes"
    else:
        return
    raise UserError(
        f"{part.file}:{part.line}: an id {problem}, {part.utterance[:80]!r}, cannot name "
        "a file: rename it, or use --audio_format flac.ark"
    )


def check_audio_format(audio_format: str) -> None:
    """Refuse a format that audio cannot be written in.

    Raises:
        UserError: it is not one of AUDIO_FORMATS.
    """
    if audio_format not in AUDIO_FORMATS:
        raise UserError(
            f"audio_format {audio_format!r} is not supported: use {', '.join(AUDIO_FORMATS)}"
        )


def _read_channels(path: Path) -> dict[str, int]:
    if not path.exists():
        return {}
    channels = {}
    for line, (utterance, value) in enumerate(read_table(path).items(), 1):
        if not value.isdecimal():
            raise UserError(f"{path}:{line}: {utterance!r} needs one channel from 0, not {value!r}")
        channels[utterance] = int(value)
    return channels


def _tell_rates(data_dir: Path, written: Mapping[str, WrittenAudio], fs: int) -> None:
    """Say once what was resampled."""
    counts = collections.Counter(audio.source_hz for audio in written.values())
    del counts[fs]
    for rate_hz, count in sorted(counts.items()):
        logging.info("%s: %d utterances resampled from %d to %d Hz", data_dir, count, rate_hz, fs)


def _tell_clipped(data_dir: Path, written: Mapping[str, WrittenAudio]) -> None:
    """Say once what was cut to full scale."""
    found = [key for key, audio in written.items() if audio.clipped > MOST_CLIPPED]
    if found:
        logging.warning(
            "%s: %d utterances are louder than full scale and were clipped; the first: %s, "
            "%.1f %% of the samples: scale their recordings down",
            data_dir,
            len(found),
            found[0],
            100 * written[found[0]].clipped,
        )


def _as_int16(samples: np.ndarray) -> tuple[np.ndarray, float]:
    """Return samples with 16 bits, and the share that was beyond full scale."""
    scaled = np.rint(samples * 32768.0)  # so that 16-bit input comes out bit for bit
    clipped = 0.0
    if scaled.max() > 32768 or scaled.min() < -32768:
        clipped = float(np.mean(np.abs(scaled) > 32768))
    return np.clip(scaled, -32768, 32767).astype(np.int16), clipped


def _write_files(directory: Path, utterances, container: str) -> Written:
    written = {}
    for utterance, samples, clipped, rate_hz, source_hz in utterances:
        entry = f"{utterance}.{container}"
        path = directory / entry
        try:
            soundfile.write(path, samples, rate_hz, format=container, subtype="PCM_16")
        except soundfile.LibsndfileError as error:  # it does not say why
            raise UserError(f"{path}: cannot be written: {error} Is the disk full?") from None
        written[utterance] = [entry, len(samples), rate_hz, source_hz, clipped]
    return written


def _write_archive(directory: Path, utterances, container: str) -> Written:
    written = {}
    with open(directory / "data_wav.ark", "wb") as ark:
        for utterance, samples, clipped, rate_hz, source_hz in utterances:
            offset = write_ark_audio(ark, utterance, samples, rate_hz, container)
            place = f"data_wav.ark:{offset}"
            written[utterance] = [place, len(samples), rate_hz, source_hz, clipped]
    return written
