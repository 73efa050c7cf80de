"""How long the utterances of a data directory are."""

import os
from pathlib import Path

from mtla_espnet.data.audio.reader import audio_length
from mtla_espnet.data.features.format import read_frame_shift
from mtla_espnet.data.features.reader import FeatureReader
from mtla_espnet.data.kaldi.datadir import read_segments
from mtla_espnet.data.kaldi.pipes import is_command
from mtla_espnet.data.kaldi.tables import read_table
from mtla_espnet.files import UserError
from mtla_espnet.jobs.parallel import run_jobs

_BLOCK_FILES = 500


def durations_s(data_dir: str | os.PathLike, nj: int = 1) -> dict[str, float]:
    """Return utterance -> seconds, from tables where they tell, else from the files.

    Args:
        data_dir: a data directory, raw or formatted.
        nj: processes that open files side by side.

    Raises:
        UserError: a table is malformed, a file cannot be read, or nothing tells.
    """
    data_dir = Path(data_dir)
    if (data_dir / "segments").exists():
        segments = read_segments(data_dir / "segments")
        return {key: segment.end_s - segment.start_s for key, segment in segments.items()}
    if (data_dir / "utt2dur").exists():
        return _numbers(data_dir / "utt2dur")
    if (data_dir / "feats.scp").exists():
        return _of_features(data_dir)
    entries = read_table(data_dir / "wav.scp")
    command = next((key for key, entry in entries.items() if is_command(entry)), None)
    if command is not None:
        raise UserError(f"{data_dir / 'wav.scp'}: {command!r} is a command: write utt2dur")
    if (data_dir / "utt2num_samples").exists() and entries:  # formatted: one rate for all
        rate_hz, _ = audio_length(next(iter(entries.values())))
        samples = _numbers(data_dir / "utt2num_samples")
        return {key: number / rate_hz for key, number in samples.items()}
    items = list(entries.items())
    blocks = [items[start : start + _BLOCK_FILES] for start in range(0, len(items), _BLOCK_FILES)]
    found = run_jobs(lambda block: {key: _duration_s(e) for key, e in block}, blocks, max(1, nj))
    return {key: seconds for block in found for key, seconds in block.items()}


def _of_features(data_dir: Path) -> dict[str, float]:
    shift_s = read_frame_shift(data_dir)
    if (data_dir / "feats_shape").exists():
        shapes = read_table(data_dir / "feats_shape")
        return {key: int(shape.partition(",")[0]) * shift_s for key, shape in shapes.items()}
    reader = FeatureReader()
    entries = read_table(data_dir / "feats.scp")
    return {key: len(reader.read(entry)) * shift_s for key, entry in entries.items()}


def _numbers(path: Path) -> dict[str, float]:
    numbers = {}
    for line, (key, value) in enumerate(read_table(path).items(), 1):
        try:
            numbers[key] = float(value)
        except ValueError:
            raise UserError(f"{path}:{line}: {key!r} has {value!r}, not a number") from None
    return numbers


def _duration_s(entry: str) -> float:
    rate_hz, samples = audio_length(entry)
    return samples / rate_hz
