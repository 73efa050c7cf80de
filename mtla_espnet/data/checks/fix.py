"""Mending a data directory: tables sorted, with the ids that all of them have.

What Kaldi's `fix_data_dir.sh` does; what was there is kept in `.backup`.
"""

import os
import shutil
from pathlib import Path

from mtla_espnet.data.kaldi.datadir import read_segments
from mtla_espnet.data.kaldi.tables import INVISIBLE, problem_of_id, spk2utt_from, write_table
from mtla_espnet.directories import scratch_directory, without_leftovers
from mtla_espnet.files import UserError, read_text

# Tables by utterance, as far as they are there.
_BY_UTTERANCE = (
    "text",
    "text.*",
    "src_text",
    "transcript",
    "intent",
    "utt2*",
    "feats.scp",
    "feats_shape",
    "segments",
)
_TEXTS = ("text", "src_text", "transcript", "intent")
_BY_SPEAKER = ("spk2gender", "cmvn.scp")


def fix_data_dir(data_dir: str | os.PathLike) -> list[str]:
    """Sort the tables of a data directory and keep the ids that all of them have.

    Lines that are the same are joined, empty ones dropped, line ends become LF, any space
    between the words of a text becomes a blank, and control characters in it go. `spk2utt` is
    made of `utt2spk`.

    Args:
        data_dir: it is changed; files that change are copied to `.backup`, or `.backup.1` ...

    Returns:
        What was done, a line a file.

    Raises:
        UserError: an id has two values, no id is in all tables, or a file is not UTF-8;
            nothing was changed.
    """
    data_dir = Path(data_dir)
    paths = [path for pattern in _BY_UTTERANCE for path in sorted(data_dir.glob(pattern))]
    tables = {path.name: _read_loosely(path) for path in paths if path.is_file()}
    if "utt2spk" not in tables and "text" not in tables:
        raise UserError(f"{data_dir}: has neither utt2spk nor text")
    # By recording where there are segments, else by utterance.
    recordings = _read_if_there(data_dir / "wav.scp")
    if recordings is not None and "segments" not in tables:
        tables["wav.scp"] = recordings
    elif recordings is not None:
        tables["segments"] = {
            key: value
            for key, value in tables["segments"].items()
            if value.partition(" ")[0] in recordings
        }
    ids = set.intersection(*(set(table) for name, table in tables.items() if _decides(name)))
    if not ids:
        raise UserError(f"{data_dir}: no utterance is in all of {', '.join(sorted(tables))}")
    kept = {
        name: {key: table[key] for key in table if key in ids} for name, table in tables.items()
    }
    if "utt2spk" in kept:
        kept["spk2utt"] = spk2utt_from(kept["utt2spk"])
        for name in _BY_SPEAKER:
            table = _read_if_there(data_dir / name)
            if table is not None:
                kept[name] = {key: table[key] for key in table if key in kept["spk2utt"]}
    if recordings is not None and "segments" in kept:
        used = {value.split()[0] for value in kept["segments"].values()}
        kept["wav.scp"] = {key: recordings[key] for key in recordings if key in used}
    lines = _write(data_dir, kept)
    if "segments" in kept:
        read_segments(data_dir / "segments")
    return lines


def _decides(name: str) -> bool:
    """Say whether an utterance that a table lacks is left out: some hold a few only."""
    return name not in ("utt2ref_channels", "utt2uniq")


def _write(data_dir: Path, tables: dict[str, dict[str, str]]) -> list[str]:
    with without_leftovers(data_dir), scratch_directory(data_dir) as scratch:
        return _write_changed(data_dir, tables, scratch)


def _write_changed(data_dir: Path, tables: dict[str, dict[str, str]], scratch: Path) -> list[str]:
    changed = {}
    for name, table in tables.items():
        path, unfinished = data_dir / name, scratch / name
        write_table(unfinished, table)
        if not path.exists() or path.read_bytes() != unfinished.read_bytes():
            changed[name] = unfinished
    if not changed:
        return [f"{data_dir}: there is nothing to fix"]
    backup = _free_name(data_dir)
    backup.mkdir()
    lines = []
    for name, unfinished in changed.items():
        path = data_dir / name
        before = 0
        if path.exists():
            before = len(path.read_bytes().splitlines())
            shutil.copy2(path, backup / name)
        os.replace(unfinished, path)
        lines.append(f"{path}: {len(tables[name])} lines (before: {before})")
    return [*lines, f"{data_dir}: what was there is in {backup}"]


def _free_name(data_dir: Path) -> Path:
    path, number = data_dir / ".backup", 0
    while path.exists():
        number += 1
        path = data_dir / f".backup.{number}"
    return path


def _read_if_there(path: Path) -> dict[str, str] | None:
    return _read_loosely(path) if path.exists() else None


def _read_loosely(path: Path) -> dict[str, str]:
    """Read a table in any order, with repeated and empty lines, and any line ends."""
    lines = read_text(path).removeprefix("\ufeff").split("\n")
    table: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        key, _, value = line.strip(" \t\r").replace("\t", " ").partition(" ")
        value = value.strip()
        if not key:
            continue
        if len(key.split()) > 1:
            raise UserError(f"{path}:{number}: id {key!r} has an odd white space: replace it")
        if problem_of_id(key):
            raise UserError(f"{path}:{number}: id {key!r} {problem_of_id(key)}: replace it")
        if path.name.startswith(_TEXTS):
            value = INVISIBLE.sub("", " ".join(value.split()))
        if table.setdefault(key, value) != value:
            raise UserError(
                f"{path}:{number}: {key!r} has two values, {table[key]!r} and {value!r}: remove one"
            )
    return table
