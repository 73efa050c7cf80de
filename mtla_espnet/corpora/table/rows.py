"""Rows of a corpus: of a table (CSV, TSV, JSON lines), a folder, or a data set on disk.

Raw lines:

    audio,text,speaker                                            (CSV; TSV with tabs)
    clips/001.wav,"turn on the light",anna
    {"audio": "clips/001.wav", "text": "turn on the light"}       (JSON lines)
    clips/001.wav and clips/001.txt                               (a folder)
    dataset_dict.json, train/data-00000-of-00001.arrow            (`DatasetDict.save_to_disk`)

Audio in a data set may be bytes, as its `Audio` columns hold; they are written beside the data
directories. Arrow files are read by pyarrow; the package `datasets` is not needed.
"""

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from mtla_espnet.corpora.shared.raw_files import parse_record, read_lines
from mtla_espnet.data.audio.sound_file import SOUND_SUFFIXES
from mtla_espnet.files import UserError, atomic_path, read_text, reading
from mtla_espnet.json_files import parse_json

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_LINES = (".jsonl", ".ndjson")
_SPLIT = "split"


class TableRow(NamedTuple):
    """A row of a corpus.

    Args:
        file: that it stands in.
        line: where in that file, from 1; None in a folder and in a data set.
        values: column -> what stands there; numbers and texts as text.
    """

    file: Path
    line: int | None
    values: Mapping[str, str]

    @property
    def place(self) -> str:
        """The file and line, for messages."""
        return str(self.file) if self.line is None else f"{self.file}:{self.line}"


def read_rows(source: Path, audio: str, text: str, audio_dir: Path) -> Iterator[TableRow]:
    """Yield the rows of a corpus.

    Args:
        source: a table, a folder of sound files each with a text file of its name, or a folder
            that `datasets` saved.
        audio: column of audio; its names are relative to the directory of the source.
        text: column of text.
        audio_dir: where audio is written that a data set holds as bytes.

    Raises:
        UserError: the source is none of these, or a line of it is malformed (`path:line`).
    """
    if not source.exists():
        raise UserError(f"{source}: no such file or directory")
    if source.is_dir():
        if (source / "dataset_dict.json").is_file() or (source / "state.json").is_file():
            return _of_data_set(source, audio, audio_dir)
        return _of_folder(source, audio, text)
    suffix = source.suffix.lower()
    if suffix in _DELIMITERS:
        return _of_table(source, _DELIMITERS[suffix])
    if suffix in _LINES:
        return _of_lines(source)
    known = ", ".join((*_DELIMITERS, *_LINES))
    raise UserError(f"{source}: a table is one of {known}, or give a folder")


def _of_table(path: Path, delimiter: str) -> Iterator[TableRow]:
    text = read_text(path).removeprefix("\ufeff")
    quoting = csv.QUOTE_MINIMAL if delimiter == "," else csv.QUOTE_NONE
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, strict=True
    )
    columns: list[str] = []
    try:
        for fields in reader:
            line = reader.line_num
            if not fields:
                continue
            if not columns:
                columns = [field.strip() for field in fields]
                if len(set(columns)) < len(columns):
                    raise UserError(f"{path}:{line}: two columns have one name")
                continue
            if len(fields) != len(columns):
                raise UserError(
                    f"{path}:{line}: has {len(fields)} fields, the first line names {len(columns)}"
                )
            yield TableRow(path, line, dict(zip(columns, fields, strict=True)))
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: {error}") from None


def _of_lines(path: Path) -> Iterator[TableRow]:
    for number, line in enumerate(read_lines(path, "the command"), 1):
        if line.strip():
            record = parse_record(line, f"{path}:{number}", {})
            yield TableRow(path, number, {key: _as_text(value) for key, value in record.items()})


def _of_folder(folder: Path, audio: str, text: str) -> Iterator[TableRow]:
    found = (path for path in folder.rglob("*") if path.suffix.lower() in SOUND_SUFFIXES)
    sounds = sorted(path for path in found if not path.name.startswith("."))
    for path in sounds:
        words = path.with_suffix(".txt")
        values = {audio: str(path.relative_to(folder))}
        values[text] = " ".join(read_text(words).split()) if words.is_file() else ""
        yield TableRow(words, None, values)


def _of_data_set(folder: Path, audio: str, audio_dir: Path) -> Iterator[TableRow]:
    import pyarrow as pa  # here: it takes long to load

    listed = folder / "dataset_dict.json"
    parts: dict[str, Path] = {"": folder}
    if listed.is_file():
        names = parse_json(read_text(listed), listed).get("splits", [])
        parts = {str(name): folder / str(name) for name in names}
    for split, part in parts.items():
        state = parse_json(read_text(part / "state.json"), part / "state.json")
        number = 0
        for entry in state.get("_data_files", []):
            path = part / entry["filename"]
            with reading(path, "cannot be read as Arrow"), pa.memory_map(str(path)) as stream:
                for batch in pa.ipc.open_stream(stream):
                    for record in batch.to_pylist():
                        number += 1
                        values = {} if not split else {_SPLIT: split}
                        for key, value in record.items():
                            held = isinstance(value, dict) and value.get("bytes")
                            if key == audio and held:
                                value = _written(value, audio_dir)
                            elif key == audio and isinstance(value, dict):
                                value = value.get("path")
                            values[key] = _as_text(value)
                        yield TableRow(path, number, values)


def _written(value: Mapping, directory: Path) -> str:
    """Write audio that a data set holds, by a name of its content; return the absolute path."""
    name = Path(str(value.get("path") or "")).name
    stem = Path(name).stem or "audio"
    digest = hashlib.sha256(value["bytes"]).hexdigest()[:12]
    path = directory.absolute() / f"{stem}-{digest}{Path(name).suffix or '.wav'}"
    if not path.is_file():
        with atomic_path(path) as temporary:
            temporary.write_bytes(value["bytes"])
    return str(path)


def _as_text(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
