"""How much disk a formatted copy of a data directory will take, before it is made."""

import os
from pathlib import Path

from mtla_espnet.data.audio.reader import audio_length
from mtla_espnet.data.kaldi.datadir import read_segments
from mtla_espnet.data.kaldi.tables import read_table
from mtla_espnet.files import UserError

# Sound files whose headers are read; the others are taken to be as long on average.
_SAMPLED_FILES = 200
_BYTES_PER_SAMPLE = 2
# flac keeps half to two thirds of speech; a little more is asked for.
_FLAC_SHARE = 0.7
_FEATURE_BYTES_PER_S = 100 * 80 * 4


def dump_bytes(data_dir: str | os.PathLike, fs: int, audio_format: str) -> float | None:
    """Estimate what `format_audio` will write, from segments, durations or headers.

    Args:
        data_dir: a data directory.
        fs: sample rate of the copy in Hz.
        audio_format: of the copy: flac, wav, flac.ark or wav.ark.

    Returns:
        Bytes; None where nothing tells, as for pipes without `segments` or `utt2dur`.
    """
    duration_s = _duration_s(Path(data_dir))
    if duration_s is None:
        return None
    share = _FLAC_SHARE if audio_format.startswith("flac") else 1.0
    return duration_s * fs * _BYTES_PER_SAMPLE * share


def feature_bytes(data_dir: str | os.PathLike) -> float | None:
    """Estimate what `format_features` will write of audio: 100 frames a second of 80 floats.

    Args:
        data_dir: a data directory.

    Returns:
        Bytes; None where nothing tells.
    """
    duration_s = _duration_s(Path(data_dir))
    return None if duration_s is None else duration_s * _FEATURE_BYTES_PER_S


def _duration_s(data_dir: Path) -> float | None:
    if (data_dir / "segments").exists():
        segments = read_segments(data_dir / "segments").values()
        return sum(segment.end_s - segment.start_s for segment in segments)
    if (data_dir / "utt2dur").exists():
        try:
            return sum(map(float, read_table(data_dir / "utt2dur").values()))
        except ValueError:
            return None
    paths = list(read_table(data_dir / "wav.scp").values())
    step = max(1, len(paths) // _SAMPLED_FILES)
    sampled = paths[::step]
    try:
        lengths = [audio_length(path, exact=False) for path in sampled]
    except UserError:
        return None  # a pipe, or a file that stage 3 will name
    found = [samples / rate_hz for rate_hz, samples in lengths]
    return sum(found) / len(found) * len(paths) if found else None
