"""Reading every utterance of a data directory, to say what it holds and what is odd."""

import collections
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mtla_espnet.data.audio.format import MOST_CLIPPED
from mtla_espnet.data.audio.reader import AudioReader, SourcePart
from mtla_espnet.data.audio.reading_options import ReadingOptions
from mtla_espnet.data.features.format import parts_of
from mtla_espnet.data.features.reader import FeatureReader
from mtla_espnet.data.kaldi.rejected import Rejection
from mtla_espnet.data.kaldi.tables import read_table
from mtla_espnet.files import UserError
from mtla_espnet.jobs.parallel import run_jobs

# 16-bit audio at its limit.
_FULL_SCALE = 32767 / 32768
# Quieter than any recording with speech, louder than dither.
_SILENCE_DB = -60.0
_BLOCK_UTTERANCES = 50
_SHOWN = 5


@dataclasses.dataclass
class Findings:
    """What reading every file showed.

    Args:
        unit: of lengths: "s", or "frames" of features.
        lengths: of the utterances that can be used.
        forms: rate of audio in Hz, or size of features -> number of utterances.
        unusable: what cannot be used, and why.
        odd: kind -> what was noticed: clipped, silent, or of another length than said.
    """

    unit: str
    lengths: list[float] = dataclasses.field(default_factory=list)
    forms: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    unusable: list[Rejection] = dataclasses.field(default_factory=list)
    odd: dict[str, list[Rejection]] = dataclasses.field(default_factory=dict)

    def lines(self) -> list[str]:
        """Return the findings as lines of text."""
        lines = []
        if self.lengths:
            values = np.array(self.lengths)
            what = "duration" if self.unit == "s" else "length"
            lines.append(
                f"{what}: {len(values)} utterances, {values.min():.5g} to {values.max():.5g} "
                f"{self.unit}, median {np.median(values):.5g}, total {_total(values, self.unit)}"
            )
        kind = "Hz" if self.unit == "s" else "features a frame"
        counts = ", ".join(f"{form} {kind} ({n})" for form, n in sorted(self.forms.items()))
        lines += [f"{'rate' if self.unit == 's' else 'size'}: {counts}"] if counts else []
        for name, found in {"cannot be used": self.unusable, **self.odd}.items():
            if found:
                lines.append(f"{name}: {len(found)}")
            lines += [f"  {each}" for each in found[:_SHOWN]]
            lines += ["  ..."] if len(found) > _SHOWN else []
        return lines


def check_files(data_dir: str | os.PathLike, nj: int = 1, allow_pipes: bool = False) -> Findings:
    """Read every utterance.

    Args:
        data_dir: a sound data directory; its features where it has `feats.scp`, else its
            audio.
        nj: processes side by side.
        allow_pipes: run commands in `wav.scp`.

    Raises:
        UserError: a table is malformed.
    """
    data_dir = Path(data_dir)
    features = (data_dir / "feats.scp").exists()
    parts = parts_of(data_dir, ReadingOptions(allow_pipes=allow_pipes, channel=None))
    look = _look_at_features if features else _look_at_audio
    reader = FeatureReader() if features else AudioReader(allow_pipes)
    said = _said_lengths(data_dir, features)

    def look_at(block: Sequence[SourcePart]) -> list[tuple]:
        return [_looked(look, reader, part) for part in block]

    starts = range(0, len(parts), _BLOCK_UTTERANCES)
    blocks = [parts[start : start + _BLOCK_UTTERANCES] for start in starts]
    looked = run_jobs(look_at, blocks, max(1, nj), progress=f"read {data_dir}")
    findings = Findings("frames" if features else "s")
    results = [result for block in looked for result in block]
    for part, (length, form, remarks, error) in zip(parts, results, strict=True):
        if error:
            findings.unusable.append(_about(part, error))
            continue
        findings.lengths.append(length / (1 if features else form))
        findings.forms[form] += 1
        expected = said.get(part.utterance)
        if expected is not None and expected != length:
            remarks = {**remarks, "of another length than said": f"{length}, not {expected}"}
        for kind, words in remarks.items():
            findings.odd.setdefault(kind, []).append(_about(part, f"{part.path}: {words}"))
    return findings


def _looked(look, reader, part: SourcePart) -> tuple[int, int, dict[str, str], str]:
    try:
        return (*look(reader, part), "")
    except UserError as error:
        return 0, 0, {}, str(error)


def _look_at_audio(reader: AudioReader, part: SourcePart) -> tuple[int, int, dict[str, str]]:
    """Return samples, rate and remarks."""
    samples, rate_hz = reader.read(part.path, part.start_s, part.end_s, part.channel)
    remarks = {}
    clipped = float(np.mean(np.abs(samples) >= _FULL_SCALE))
    if clipped > MOST_CLIPPED:
        remarks["clipped"] = f"{100 * clipped:.1f} % of the samples are at the limit"
    level_db = 10 * np.log10(np.mean(samples.astype(np.float64) ** 2) + 1e-20)
    if level_db < _SILENCE_DB:
        remarks["silent"] = f"{level_db:.0f} dB of full scale"
    return len(samples), rate_hz, remarks


def _look_at_features(reader: FeatureReader, part: SourcePart) -> tuple[int, int, dict[str, str]]:
    """Return frames, features of a frame, and remarks."""
    features = reader.read(part.path)
    constant = len(features) > 1 and not np.ptp(features, axis=0).any()
    remarks = {"constant": "all frames are equal"} if constant else {}
    return *features.shape, remarks


def _said_lengths(data_dir: Path, features: bool) -> dict[str, int]:
    path = data_dir / ("feats_shape" if features else "utt2num_samples")
    if not path.exists():
        return {}
    lengths = {}
    for number, (key, value) in enumerate(read_table(path).items(), 1):
        length = value.partition(",")[0]
        if not length.isdecimal():
            raise UserError(f"{path}:{number}: {key!r} has {value!r}, not a length")
        lengths[key] = int(length)
    return lengths


def _about(part: SourcePart, reason: str) -> Rejection:
    return Rejection(part.utterance, part.file, part.line, reason)


def _total(values: np.ndarray, unit: str) -> str:
    return f"{values.sum() / 3600:.2f} h" if unit == "s" else f"{values.sum():.0f} frames"
