"""Manifests of Fairseq S2T of data directories, raw or formatted."""

import argparse
import os
from pathlib import Path

from mtla_espnet.data.archives.ark import is_ark_place
from mtla_espnet.data.archives.fairseq_zip import write_manifest
from mtla_espnet.data.audio.sound_file import sound_length
from mtla_espnet.data.features.reader import FeatureReader
from mtla_espnet.data.kaldi.datadir import read_segments
from mtla_espnet.data.kaldi.pipes import is_command
from mtla_espnet.data.kaldi.tables import read_table
from mtla_espnet.files import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("data_dir", type=Path, help="data/SET or dump/.../SET")
    parser.add_argument("manifest", type=Path, help="the TSV file to write")
    parser.add_argument("--tgt_text", default="text", help="table of the column tgt_text")
    parser.add_argument("--src_text", default="", help="table of the column src_text")


def run(arguments: argparse.Namespace) -> None:
    """Write the manifest of a data directory."""
    manifest_from_data_dir(
        arguments.data_dir, arguments.manifest, arguments.tgt_text, arguments.src_text
    )


def manifest_from_data_dir(
    data_dir: str | os.PathLike,
    manifest: str | os.PathLike,
    tgt_text: str = "text",
    src_text: str = "",
) -> None:
    """Write a manifest of a data directory; audio and features stay where they are.

    `n_frames` counts frames of features, and samples of audio. Paths are absolute.

    Args:
        data_dir: with `feats.scp` (places in zips, or `.npy`), or with `wav.scp`.
        manifest: the TSV file.
        tgt_text: table of the column.
        src_text: table of the column; empty: there is none.

    Raises:
        UserError: a table is bad, or an entry is of a form that Fairseq cannot read.
    """
    data_dir = Path(data_dir)
    texts = {"tgt_text": data_dir / tgt_text} | (
        {"src_text": data_dir / src_text} if src_text else {}
    )
    tables = {name: read_table(path) for name, path in texts.items()}
    speakers = read_table(data_dir / "utt2spk")
    features = (data_dir / "feats.scp").exists()
    audio = _features(data_dir) if features else _audio(data_dir)
    rows = []
    for key in sorted(speakers):
        for name, table in (*tables.items(), ("audio", audio)):
            if key not in table:
                path = texts.get(name, data_dir / ("feats.scp" if features else "wav.scp"))
                raise UserError(f"{path}: has no line for {key!r}")
        entry, n_frames = audio[key]
        row = {"id": key, "audio": entry, "n_frames": n_frames, "speaker": speakers[key]}
        rows.append(row | {name: table[key] for name, table in tables.items()})
    write_manifest(manifest, rows, ["src_text"] if src_text else [])


def _features(data_dir: Path) -> dict[str, tuple[str, int]]:
    entries = read_table(data_dir / "feats.scp")
    for number, (key, entry) in enumerate(entries.items(), 1):
        if is_ark_place(entry):
            raise UserError(
                f"{data_dir / 'feats.scp'}:{number}: {key!r} is in a Kaldi archive, which Fairseq "
                "cannot read: write a zip by `mtla-espnet feats fbank-zip`"
            )
    if (data_dir / "feats_shape").exists():
        shapes = read_table(data_dir / "feats_shape")
        frames = {key: int(shape.partition(",")[0]) for key, shape in shapes.items()}
    else:
        reader = FeatureReader()
        frames = {key: len(reader.read(entry)) for key, entry in entries.items()}
    return {
        key: (os.path.abspath(entry), frames[key])
        for key, entry in entries.items()
        if key in frames
    }


def _audio(data_dir: Path) -> dict[str, tuple[str, int]]:
    entries = read_table(data_dir / "wav.scp")
    for number, (key, entry) in enumerate(entries.items(), 1):
        if is_ark_place(entry) or is_command(entry):
            raise UserError(
                f"{data_dir / 'wav.scp'}:{number}: {key!r} is no sound file, which Fairseq reads: "
                "format it by stage 3 with --audio_format flac"
            )
    paths = {key: os.path.abspath(entry) for key, entry in entries.items()}
    if not (data_dir / "segments").exists():
        if (data_dir / "utt2num_samples").exists():
            counts = read_table(data_dir / "utt2num_samples")
            return {key: (path, int(counts[key])) for key, path in paths.items() if key in counts}
        return {key: (path, sound_length(path)[1]) for key, path in paths.items()}
    lengths = {recording: sound_length(path) for recording, path in paths.items()}
    audio = {}
    for key, segment in read_segments(data_dir / "segments").items():
        if segment.recording not in paths:
            raise UserError(f"{data_dir / 'wav.scp'}: has no line for {segment.recording!r}")
        rate_hz, total = lengths[segment.recording]
        start = round(segment.start_s * rate_hz)
        count = min(round(segment.end_s * rate_hz), total) - start
        audio[key] = (f"{paths[segment.recording]}:{start}:{count}", count)
    return audio
