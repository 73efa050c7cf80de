"""Raw files of a corpus, read strictly and in the same way by every corpus."""

import argparse
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from mtla_espnet.data.audio.sound_file import sound_length
from mtla_espnet.data.kaldi.datadir import LONGEST_S
from mtla_espnet.data.kaldi.rejected import DEFAULT_PERCENT
from mtla_espnet.files import UserError, open_file
from mtla_espnet.jobs.parallel import run_jobs
from mtla_espnet.json_files import parse_json

# Opening a file costs about as much as sending one path, so jobs take many.
_FILES_PER_JOB = 2000


def add_shared_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options that every corpus has."""
    parser.add_argument("--output", type=Path, default=Path("data"), help="data directories")
    parser.add_argument("--downloads", type=Path, default=Path("downloads"), help="raw corpus")
    parser.add_argument(
        "--max_rejected",
        type=float,
        default=DEFAULT_PERCENT,
        help="percentage of a set's entries that may be corrupt or missing (see rejected.tsv)",
    )
    parser.add_argument(
        "--nj", type=int, default=os.cpu_count() or 1, help="processes that read side by side"
    )


def require(path: Path, variable: str) -> Path:
    """Return `path`, which is there.

    Args:
        path: file or directory.
        variable: of db.sh that names the root, such as `AMI`.

    Raises:
        UserError: it is not.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or directory: does {variable} name the right root?")
    return path


def read_lines(path: str | os.PathLike, variable: str) -> Iterator[str]:
    """Yield the lines of a UTF-8 file without their ends.

    A mark of byte order at the start is dropped. A line ends at LF alone (a CR before it goes
    too): U+2028 and its like stand inside of sentences, and lines of parallel files must keep
    their numbers.

    Args:
        path: the file.
        variable: of db.sh that names the root.

    Raises:
        UserError: the file is missing, or a line is not UTF-8 (`path:line`).
    """
    require(Path(path), variable)
    with open_file(path) as stream:
        for number, line in enumerate(stream, 1):
            try:
                text = line.decode("utf-8" if number > 1 else "utf-8-sig")
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{path}:{number}: not UTF-8 text (byte {error.start + 1}: {error.reason})"
                ) from None
            yield text.removesuffix("\n").removesuffix("\r")


def parse_seconds(value: object, where: str, name: str) -> float:
    """Return a time that an annotation gives.

    Args:
        value: a number, or its text.
        where: `path:line`, for messages.
        name: of the field.

    Raises:
        UserError: it is no number of seconds from 0 to 1e7 (four months).
    """
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not 0 <= seconds <= LONGEST_S:
        raise UserError(f"{where}: {name} must be a number of seconds, not {value!r}")
    return seconds


def parse_record(line: str, where: str, fields: Mapping[str, type | tuple[type, ...]]) -> dict:
    """Return the JSON object of a line.

    Args:
        line: the line.
        where: `path:line`, for messages.
        fields: what it must have: name -> type, or types.

    Raises:
        UserError: it is no JSON object, lacks a field or has one of a wrong type.
    """
    record = parse_json(line, where, "a line of JSON")
    if not isinstance(record, dict):
        raise UserError(f"{where}: not a JSON object")
    for field, kind in fields.items():
        if not isinstance(record.get(field), kind):
            raise UserError(f"{where}: field {field!r} is missing or of a wrong type")
    return record


def durations(
    paths: Iterable[str | os.PathLike], nj: int, label: str | None
) -> dict[str, float | str]:
    """Open sound files and ask how long they are; nothing is decoded.

    Args:
        paths: the files.
        nj: processes.
        label: of a progress bar; None: no bar.

    Returns:
        Path -> seconds, or what is wrong with the file: it is not there, no audio, empty,
        or shorter than its header says.
    """
    ordered = sorted({os.fspath(path) for path in paths})
    starts = range(0, len(ordered), _FILES_PER_JOB)
    found = run_jobs(
        _durations, [ordered[i : i + _FILES_PER_JOB] for i in starts], max(1, nj), progress=label
    )
    return {path: value for part in found for path, value in part.items()}


def _durations(paths: Sequence[str]) -> dict[str, float | str]:
    return {path: _duration(path) for path in paths}


def _duration(path: str) -> float | str:
    try:
        rate_hz, samples = sound_length(path)
    except UserError as error:
        return str(error)
    return samples / rate_hz
