"""The copy of a data directory that training on features reads.

Features that are there (`feats.scp`) are checked and used where they are; otherwise they are
computed from the audio, and written in blocks, as `mtla_espnet.data.audio.format` does with audio.
"""

import collections
import dataclasses
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soxr

from mtla_espnet.data.archives.ark import has_range, is_ark_place, write_ark_matrices
from mtla_espnet.data.archives.fairseq_zip import FeatureZip, parse_place
from mtla_espnet.data.audio.blocks import Collector, Written, write_blocks
from mtla_espnet.data.audio.format import copy_tables, read_parts
from mtla_espnet.data.audio.reader import AudioReader, SourcePart
from mtla_espnet.data.audio.reading_options import DEFAULT_READING, ReadingOptions
from mtla_espnet.data.features.reader import FeatureReader, is_features_entry
from mtla_espnet.data.kaldi.datadir import validate_data_dir
from mtla_espnet.data.kaldi.rejected import Rejection
from mtla_espnet.data.kaldi.tables import read_table, write_table
from mtla_espnet.files import UserError, read_text, write_text
from mtla_espnet.yaml_files import dump_yaml

FEATURE_TYPES = ("extracted", "fairseq_zip")
DEFAULT_FRAME_SHIFT_S = 0.01
_STAYING = "digest_of_features_in_place"
# In a set of features: how they are made of audio, so that a model can be given audio later.
EXTRACTOR_FILE = "extractor.yaml"
_ARCHIVES = {"extracted": "feats.ark", "fairseq_zip": "feats.zip"}


class Extractor(NamedTuple):
    """What makes features of audio.

    Args:
        name: such as fbank80; it stands for everything that the features depend on.
        compute: (T,) float32 in [-1, 1) and the rate in Hz -> (N, D) float32.
        frame_shift_s: time from frame to frame.
        source: front end that makes them, `frontend` and `frontend_conf` as in a training
            configuration, and the `layer` of a pretrained one; None: it is not kept.
    """

    name: str
    compute: Callable[[np.ndarray, int], np.ndarray]
    frame_shift_s: float = DEFAULT_FRAME_SHIFT_S
    source: Mapping[str, object] | None = None


def format_features(
    data_dir: str | os.PathLike,
    out_dir: str | os.PathLike,
    feats_type: str,
    extractor: Extractor,
    fs: int,
    reading: ReadingOptions = DEFAULT_READING,
    compress: bool = False,
) -> None:
    """Copy a data directory for training on features.

    Writes `reading.tables`, `utt2spk spk2utt feats.scp feats_shape feats_dim feats_type` and
    `frame_shift`; `extractor.yaml` where it is known how the features are made of audio; and,
    where features are computed, archives under `data/format.N/`. `feats.scp` is written last,
    and removed first. An utterance that cannot be used is left out, and listed in `rejected.tsv`.

    Args:
        data_dir: what to copy. With `feats.scp`, whose entries may be places in Kaldi
            archives or in zips, `.npy` files, or sound files; else with `wav.scp`.
        out_dir: the copy.
        feats_type: "extracted": Kaldi archives; "fairseq_zip": zips and `.npy` files. What
            is there in another form is written anew.
        extractor: makes features of audio.
        fs: rate of the audio that it is given, in Hz.
        reading: how it is read: workers, tables, channel, and what may be left out.
        compress: write Kaldi archives with a byte a value.

    Raises:
        UserError: `data_dir` is bad, or too many utterances are left out; the message names
            utterance and file.
    """
    data_dir, out_dir = Path(data_dir), Path(out_dir)
    if feats_type not in FEATURE_TYPES:
        raise UserError(f"feats_type {feats_type!r} is not one of {', '.join(FEATURE_TYPES)}")
    parts = parts_of(data_dir, reading)
    (out_dir / "feats.scp").unlink(missing_ok=True)
    written, rejections = write_features(
        parts,
        out_dir / "data",
        feats_type,
        extractor,
        fs,
        f"features of {data_dir.name}",
        reading,
        compress=compress,
    )
    dim, odd = common_dim(written, parts)
    copy_tables(data_dir, out_dir, parts, [*rejections, *odd], reading)
    kept = written.keys() - {rejection.utterance for rejection in odd}
    write_table(out_dir / "feats_shape", {key: f"{written[key][1]},{dim}" for key in kept})
    write_text(out_dir / "feats_dim", f"{dim}\n")
    write_text(out_dir / "feats_type", f"{feats_type}\n")
    there = (data_dir / "feats.scp").exists()
    shift_s = read_frame_shift(data_dir) if there else extractor.frame_shift_s
    write_text(out_dir / "frame_shift", f"{shift_s:g}\n")
    _keep_extractor(data_dir if there else None, out_dir, extractor, fs)
    write_table(out_dir / "feats.scp", {key: written[key][0] for key in kept})


def write_features(
    parts: Sequence[SourcePart],
    directory: Path,
    feats_type: str,
    extractor: Extractor,
    fs: int,
    label: str,
    reading: ReadingOptions,
    *,
    compress: bool = False,
    in_place: bool = True,
) -> tuple[Written, list[Rejection]]:
    """Write features of utterances in blocks; those that are there already are only checked.

    Args:
        parts: the utterances; a path may also name features.
        directory: of the blocks.
        feats_type: "extracted": Kaldi archives; "fairseq_zip": zips and `.npy` files.
        extractor: makes features of audio.
        fs: rate of the audio that it is given, in Hz.
        label: of the progress bar.
        reading: how audio is read.
        compress: write Kaldi archives with a byte a value.
        in_place: False: write also the features that training could read where they are.

    Returns:
        Utterance -> entry for `feats.scp`, frames and features of a frame; and the utterances
        that are left out.
    """
    write = _BlockOfFeatures(feats_type, extractor, fs, compress, in_place, reading.allow_pipes)
    settings = {
        "feats_type": feats_type,
        "fs": fs,
        "compress": compress,
        "extractor": extractor.name,
        "in_place": in_place,
    }
    written, rejections = write_blocks(parts, directory, write, settings, label, reading)
    for part in parts:
        if in_place and part.utterance in written and _stays(part.path, feats_type):
            written[part.utterance][0] = part.path
    return written, rejections


@dataclasses.dataclass(frozen=True)
class _BlockOfFeatures:
    """Writes the features of a block; a plain value that can be pickled, if `extractor` can.

    Args: those of `write_features`, and whether commands of `wav.scp` are run.
    """

    feats_type: str
    extractor: Extractor
    fs: int
    compress: bool
    in_place: bool
    allow_pipes: bool

    def __call__(self, block: Path, parts: Sequence[SourcePart], collector: Collector) -> Written:
        audio, features = AudioReader(self.allow_pipes), FeatureReader()
        shapes = {}
        staying = hashlib.blake2b(digest_size=16)

        def read(part: SourcePart) -> np.ndarray:
            if is_features_entry(part.path):
                return features.read(part.path)
            return self._compute(part, audio)

        def moved():
            for part, matrix in collector.each(parts, read):
                shapes[part.utterance] = matrix.shape
                if self.in_place and _stays(part.path, self.feats_type):
                    staying.update(matrix.tobytes())
                else:
                    yield part.utterance, matrix

        archive = block / _ARCHIVES[self.feats_type]
        places = _write_archive(archive, moved(), self.feats_type, self.compress)
        if len(places) < len(shapes):  # a file, so that the block's content differs where they do
            (block / _STAYING).write_text(f"{staying.hexdigest()}\n")
        return {key: [places.get(key, ""), *shapes[key]] for key in shapes}

    def _compute(self, part: SourcePart, audio: AudioReader) -> np.ndarray:
        samples, rate_hz = audio.read(part.path, part.start_s, part.end_s, part.channel)
        if rate_hz != self.fs:
            samples = soxr.resample(samples, rate_hz, self.fs)
        computed = self.extractor.compute(samples, self.fs)
        if not len(computed):
            raise UserError(f"{part.path}: is too short, {len(samples)} samples at {self.fs} Hz")
        return computed


def _keep_extractor(data_dir: Path | None, out_dir: Path, extractor: Extractor, fs: int) -> None:
    """Write how the features are made of audio, where that is known.

    Args:
        data_dir: where they were made before; None: they are made now.
        out_dir: where to write.
        extractor: that makes them now.
        fs: rate of the audio that it is given, in Hz.
    """
    kept = out_dir / EXTRACTOR_FILE
    if data_dir is not None and (data_dir / EXTRACTOR_FILE).exists():
        write_text(kept, (data_dir / EXTRACTOR_FILE).read_text(encoding="utf-8"))
    elif data_dir is None and extractor.source is not None:
        write_text(kept, dump_yaml({"fs": fs, **extractor.source}))
    else:
        kept.unlink(missing_ok=True)


def read_frame_shift(data_dir: Path) -> float:
    """Return the time from frame to frame in seconds: Kaldi's file `frame_shift`, or 0.01.

    Raises:
        UserError: the file does not hold a positive number.
    """
    path = data_dir / "frame_shift"
    if not path.exists():
        return DEFAULT_FRAME_SHIFT_S
    try:
        shift_s = float(read_text(path))
    except ValueError:
        shift_s = 0.0
    if not 0 < shift_s < float("inf"):
        raise UserError(f"{path}: must hold the seconds from frame to frame, such as 0.01")
    return shift_s


def parts_of(data_dir: Path, reading: ReadingOptions) -> list[SourcePart]:
    """Check a data directory, and return where the features or the audio of its utterances are.

    Args:
        data_dir: with `feats.scp` or `wav.scp`.
        reading: the channel, and whether `wav.scp` may have commands.

    Raises:
        UserError: it is bad; names the file and the line or id.
    """
    path = data_dir / "feats.scp"
    features = path.exists()
    validate_data_dir(
        data_dir, audio=not features, features=features, allow_pipes=reading.allow_pipes
    )
    if not features:
        return read_parts(data_dir, reading.channel)
    return [
        SourcePart(key, entry, file=str(path), line=line)
        for line, (key, entry) in enumerate(read_table(path).items(), 1)
    ]


def _stays(entry: str, feats_type: str) -> bool:
    """Tell whether training can read an entry where it is."""
    if feats_type == "extracted":
        return is_ark_place(entry) and not has_range(entry)
    return parse_place(entry) is not None or entry.endswith(".npy")


def _write_archive(path: Path, matrices, feats_type: str, compress: bool) -> dict[str, str]:
    """Write an archive, where there is anything to write; returns the places in it."""
    if feats_type == "extracted":
        with open(path, "wb") as ark:
            offsets = write_ark_matrices(ark, matrices, compress)
        places = {key: f"{path.name}:{offset}" for key, offset in offsets.items()}
    else:
        with FeatureZip(path) as archive:
            added = {key: archive.add(key, matrix) for key, matrix in matrices}
        places = {key: f"{path.name}:{offset}:{size}" for key, (offset, size) in added.items()}
    if not places:
        path.unlink()
    return places


def common_dim(written: Written, parts: Sequence[SourcePart]) -> tuple[int, list[Rejection]]:
    """Return the width that most utterances have, and those that have another."""
    if not written:
        return 0, []
    counts = collections.Counter(dim for _, _, dim in written.values())
    dim = counts.most_common(1)[0][0]
    odd = [
        Rejection(
            part.utterance,
            part.file,
            part.line,
            f"{part.path}: has {written[part.utterance][2]} features a frame, the others {dim}",
        )
        for part in parts
        if part.utterance in written and written[part.utterance][2] != dim
    ]
    return dim, odd
