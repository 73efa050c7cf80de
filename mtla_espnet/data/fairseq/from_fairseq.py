"""Data directories of manifests of Fairseq S2T."""

import argparse
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from mtla_espnet.data.archives.fairseq_zip import (
    ARRAY_MARK_BYTES,
    ManifestRow,
    PlaceReader,
    is_array,
    parse_place,
    read_manifest,
)
from mtla_espnet.data.audio.sound_file import sound_length
from mtla_espnet.data.fairseq.config import read_fairseq_config
from mtla_espnet.data.features.reader import is_features_entry
from mtla_espnet.data.kaldi.datadir import validate_data_dir
from mtla_espnet.data.kaldi.tables import spk2utt_from, write_table
from mtla_espnet.data.text.text_case import CASES, to_case
from mtla_espnet.files import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("manifest", type=Path, help="a TSV file")
    parser.add_argument("data_dir", type=Path, metavar="data/SET", help="what to write")
    parser.add_argument("--src_lang", default="", help="language of src_text, for translation")
    parser.add_argument("--tgt_lang", default="", help="language of tgt_text, for translation")


def run(arguments: argparse.Namespace) -> None:
    """Make the data directory of a manifest."""
    data_dir_from_manifest(
        arguments.manifest, arguments.data_dir, arguments.src_lang, arguments.tgt_lang
    )


def data_dir_from_manifest(
    manifest: str | os.PathLike,
    data_dir: str | os.PathLike,
    src_lang: str = "",
    tgt_lang: str = "",
) -> None:
    """Make a data directory of a manifest.

    Audio is `zip:offset:bytes` (an array, or a sound file), `.npy`, a sound file, or a part of
    one (`a.wav:start:samples`). Where all is audio, `wav.scp` (and `segments`) is written, else
    `feats.scp`. `text` is `tgt_text`; with languages there is also `text.<case>.<language>` of
    both texts, and `text` is the source in `lc.rm`, as ESPnet's st.sh has it.

    Args:
        manifest: the TSV file; relative paths in it begin at `audio_root` of a `config.yaml`
            beside it, else at its own directory.
        data_dir: what is written; `wav.scp` or `feats.scp` last.
        src_lang: language of `src_text`.
        tgt_lang: language of `tgt_text`.

    Raises:
        UserError: the manifest is bad; names its line.
    """
    manifest, data_dir = Path(manifest), Path(data_dir)
    rows = read_manifest(manifest)
    root = _audio_root(manifest)
    entries = {row.fields["id"]: _entry(row, root, manifest) for row in rows}
    for name in ("wav.scp", "feats.scp", "segments"):
        (data_dir / name).unlink(missing_ok=True)
    for name, table in _texts(manifest, rows, src_lang, tgt_lang).items():
        write_table(data_dir / name, table)
    utt2spk = _speakers(manifest, rows)
    write_table(data_dir / "utt2spk", utt2spk)
    write_table(data_dir / "spk2utt", spk2utt_from(utt2spk))
    reader = PlaceReader()
    features = any(_is_features(entry, reader) for entry in entries.values())
    if features:
        write_table(data_dir / "feats.scp", entries)
    else:
        _write_audio(data_dir, manifest, rows, entries)
    validate_data_dir(data_dir, audio=not features, features=features)


def _is_features(entry: str, reader: PlaceReader) -> bool:
    """Tell whether an entry is features; a place in a zip is looked at, if it is there."""
    place = parse_place(entry)
    if place is None:
        return is_features_entry(entry)
    try:
        return is_array(reader.read(place, ARRAY_MARK_BYTES))
    except UserError:
        return True  # told where the features are read


def _audio_root(manifest: Path) -> Path:
    path = manifest.parent / "config.yaml"
    config = read_fairseq_config(path) if path.exists() else None
    return (config and config.audio_root) or manifest.parent


def _entry(row: ManifestRow, root: Path, manifest: Path) -> str:
    audio = row.fields["audio"]
    if not audio:
        raise UserError(f"{manifest}:{row.line}: {row.fields['id']!r} has no audio")
    if audio.rstrip().endswith("|"):
        raise UserError(f"{manifest}:{row.line}: audio {audio!r} is no file")
    return str(root / audio)


def _texts(
    manifest: Path, rows: Sequence[ManifestRow], src_lang: str, tgt_lang: str
) -> dict[str, dict[str, str]]:
    """Return table -> id -> words; any white space between words becomes a blank."""
    target = {row.fields["id"]: " ".join(row.fields["tgt_text"].split()) for row in rows}
    if not (src_lang or tgt_lang):
        return {"text": target}
    if not (src_lang and tgt_lang) or src_lang == tgt_lang:
        raise UserError("--src_lang and --tgt_lang go together, and differ", exit_code=2)
    if "src_text" not in rows[0].fields:
        raise UserError(f"{manifest}:1: lacks the column src_text, for --src_lang")
    source = {row.fields["id"]: " ".join(row.fields["src_text"].split()) for row in rows}
    tables = {
        f"text.{case}.{language}": {key: to_case(words, case) for key, words in texts.items()}
        for language, texts in ((src_lang, source), (tgt_lang, target))
        for case in CASES
    }
    return tables | {"text": tables[f"text.lc.rm.{src_lang}"]}


def _speakers(manifest: Path, rows: Sequence[ManifestRow]) -> dict[str, str]:
    """Return utterance -> speaker: the manifest's where ids sort as speakers do."""
    speakers = {row.fields["id"]: row.fields.get("speaker", "") for row in rows}
    ordered = [speakers[key] for key in sorted(speakers)]
    one_word = all(speaker.split() == [speaker] for speaker in ordered)
    if one_word and ordered == sorted(ordered):
        return speakers
    logging.info(
        "%s: ids do not begin with their speakers: each utterance is its own speaker", manifest
    )
    return {key: key for key in speakers}


def _write_audio(
    data_dir: Path, manifest: Path, rows: Sequence[ManifestRow], entries: Mapping[str, str]
) -> None:
    """Write `wav.scp`, and `segments` where there are parts of files."""
    parts = {key: _part(entry) for key, entry in entries.items()}
    if all(start is None for _, start, _ in parts.values()):
        write_table(data_dir / "wav.scp", entries)
        return
    recordings, segments = {}, {}
    lines = {row.fields["id"]: row.line for row in rows}
    information: dict[str, tuple[str, int, int]] = {}  # path -> recording, rate, samples
    for key, (path, start, count) in parts.items():
        if path not in information:
            try:
                length = sound_length(path)
            except UserError as error:
                raise UserError(f"{manifest}:{lines[key]}: {key!r}: {error}") from None
            recording = f"rec{len(information):07d}"
            information[path] = (recording, *length)
            recordings[recording] = path
        recording, rate_hz, total = information[path]
        start = start or 0
        end = start + (total if count is None else count)
        # Nanoseconds: rounded back to samples, they are exact at every usual rate.
        segments[key] = f"{recording} {start / rate_hz:.9f} {end / rate_hz:.9f}"
    write_table(data_dir / "segments", segments)
    write_table(data_dir / "wav.scp", recordings)


def _part(entry: str) -> tuple[str, int | None, int | None]:
    """Split `a.wav:start:samples`; a place in a zip is whole."""
    if parse_place(entry):
        return entry, None, None
    path, *numbers = entry.rsplit(":", 2)
    if len(numbers) == 2 and all(number.isdecimal() for number in numbers):
        return path, int(numbers[0]), int(numbers[1])
    return entry, None, None
