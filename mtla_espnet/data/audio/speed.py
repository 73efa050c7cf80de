"""Speed perturbation: copies of a data directory that are spoken faster or slower.

A copy at 0.9 times the speed lasts 1 / 0.9 times as long, with a lower pitch: it is
resampled, as by the effect `speed` of sox. Source: Ko et al., "Audio Augmentation for
Speech Recognition", Interspeech 2015; names as in Kaldi's perturb_data_dir_speed.sh.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import soxr

from mtla_espnet.data.audio.format import read_parts, write_parts
from mtla_espnet.data.audio.reader import AudioReader, SourcePart
from mtla_espnet.data.audio.reading_options import DEFAULT_READING, ReadingOptions
from mtla_espnet.data.kaldi.datadir import validate_data_dir
from mtla_espnet.data.kaldi.rejected import report_rejected
from mtla_espnet.data.kaldi.tables import read_table, spk2utt_from, write_table
from mtla_espnet.files import UserError


def prefix_of(factor: str) -> str:
    """Return what ids begin with at a speed.

    Example:
        >>> prefix_of("0.9")
        'sp0.9-'
    """
    return f"sp{factor}-"


def perturb_speed(
    data_dir: str | os.PathLike,
    out_dir: str | os.PathLike,
    factor: str,
    reading: ReadingOptions = DEFAULT_READING,
) -> None:
    """Copy a data directory at another speed.

    Utterances and speakers get the prefix `sp<factor>-`; `utt2uniq` gives the utterance
    that each is a copy of. The audio, flac at the rate that it had, is under `data/`: an
    utterance a file, also where `data_dir` cuts them from longer recordings. There,
    `segments` names all of each file, so that both can be joined. `wav.scp` is written
    last, and removed first: with it, all is there. What cannot be used is left out, and
    listed in `rejected.tsv`.

    Args:
        data_dir: what to copy; checked first.
        out_dir: the copy.
        factor: the speed, a positive number; its digits are those of the prefix.
        reading: how it is read: workers, tables, channel, and what may be left out.

    Raises:
        UserError: `data_dir` is bad, or too many utterances are left out; the message names
            utterance and file.
    """
    data_dir, out_dir = Path(data_dir), Path(out_dir)
    validate_data_dir(data_dir, allow_pipes=reading.allow_pipes, texts=reading.tables)
    (out_dir / "wav.scp").unlink(missing_ok=True)
    prefix = prefix_of(factor)
    reader = AudioReader(reading.allow_pipes)

    def perturbed(part: SourcePart) -> tuple[np.ndarray, int, int]:
        samples, rate_hz = reader.read(part.path, part.start_s, part.end_s, part.channel)
        samples = soxr.resample(samples, rate_hz * float(factor), rate_hz)
        if not len(samples):
            raise UserError(f"{part.path}: is empty at {factor} times its speed")
        return samples, rate_hz, rate_hz

    parts = read_parts(data_dir, reading.channel)
    copies = [part._replace(utterance=prefix + part.utterance) for part in parts]
    label = f"{data_dir.name} at speed {factor}"
    written, rejections = write_parts(
        copies, out_dir / "data", perturbed, "flac", {"factor": factor}, label, reading
    )
    left_out = report_rejected(out_dir, rejections, len(parts), reading.max_rejected)
    kept = [part.utterance for part in parts if prefix + part.utterance not in left_out]
    for name in reading.tables:
        text = read_table(data_dir / name)
        write_table(out_dir / name, {prefix + key: text[key] for key in kept})
    write_table(out_dir / "utt2uniq", {prefix + key: key for key in kept})
    utt2spk = read_table(data_dir / "utt2spk")
    utt2spk = {key: utt2spk[key] for key in kept}
    utt2spk = {prefix + utterance: prefix + speaker for utterance, speaker in utt2spk.items()}
    write_table(out_dir / "utt2spk", utt2spk)
    write_table(out_dir / "spk2utt", spk2utt_from(utt2spk))
    if (data_dir / "segments").exists():
        ends_s = {key: audio.num_samples / audio.rate_hz for key, audio in written.items()}
        # Microseconds: rounded back to samples, the end is exact at every usual rate.
        segments = {key: f"{key} 0.00 {end_s:.6f}" for key, end_s in ends_s.items()}
        write_table(out_dir / "segments", segments)
    else:
        (out_dir / "segments").unlink(missing_ok=True)
    write_table(out_dir / "wav.scp", {key: audio.entry for key, audio in written.items()})


def join_speeds(
    data_dirs: Sequence[Path], out_dir: str | os.PathLike, tables: Iterable[str] = ("text",)
) -> None:
    """Join a data directory and its copies at other speeds to one; its audio stays there.

    Args:
        data_dirs: directories of `perturb_speed`, and the one that they were made of, whose
            utterances are their own `utt2uniq`.
        out_dir: the directory that is written, and checked. `wav.scp` is written last.
        tables: tables of text that are joined.

    Raises:
        UserError: two directories have the same id, or the ids do not fit.
    """
    out_dir = Path(out_dir)
    (out_dir / "wav.scp").unlink(missing_ok=True)
    (out_dir / "segments").unlink(missing_ok=True)
    joined: dict[str, dict[str, str]] = {}
    for data_dir in data_dirs:
        for name, table in _tables_of(data_dir, tables).items():
            present = joined.setdefault(name, {})
            twice = present.keys() & table.keys()
            if twice:
                raise UserError(
                    f"{data_dir / name}: id {min(twice)!r} is also one of a copy at another "
                    "speed: no id may begin like those of the copies"
                )
            present |= table
    joined["spk2utt"] = spk2utt_from(joined["utt2spk"])
    wav_scp = joined.pop("wav.scp")
    for name, table in joined.items():
        write_table(out_dir / name, table)
    write_table(out_dir / "wav.scp", wav_scp)
    validate_data_dir(out_dir, texts=tables)


def _tables_of(data_dir: Path, names: Iterable[str]) -> dict[str, dict[str, str]]:
    present = [name for name in ("segments", "utt2uniq") if (data_dir / name).exists()]
    tables = {
        name: read_table(data_dir / name) for name in (*names, "utt2spk", "wav.scp", *present)
    }
    tables.setdefault("utt2uniq", {utterance: utterance for utterance in tables["utt2spk"]})
    return tables
