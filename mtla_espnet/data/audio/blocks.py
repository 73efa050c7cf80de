"""Files of many utterances, written in blocks of fixed length.

Block N is the directory `format.N`, and appears whole or not at all. What was written is the
same whatever the number of workers. A block that is there and was made of the same is kept,
so that interrupted work goes on where it stopped.
"""

import functools
import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mtla_espnet.data.audio.reader import SourcePart
from mtla_espnet.data.audio.reading_options import ReadingOptions
from mtla_espnet.data.kaldi.rejected import Rejection
from mtla_espnet.directories import (
    flush_all,
    remove_leftovers,
    replace_directory,
    scratch_directory,
)
from mtla_espnet.files import UserError, write_text
from mtla_espnet.jobs.fan_out import fan_out
from mtla_espnet.json_files import digest, read_json, write_json

_BLOCK_UTTERANCES = 200
_RECORD = "block.json"
DIGEST = ".digest"
_READ_BYTES = 1 << 20

# Utterance -> the place in the block's directory, then numbers that describe it.
Written = dict[str, list]


def write_blocks(
    parts: Sequence[SourcePart],
    directory: Path,
    write: Callable[[Path, Sequence[SourcePart], "Collector"], Written],
    settings: Mapping,
    label: str,
    reading: ReadingOptions,
) -> tuple[Written, list[Rejection]]:
    """Write what belongs to utterances, in blocks.

    Args:
        parts: the utterances, in order.
        directory: of the blocks; what else it holds is removed. `DIGEST` in it tells one
            content of all their files from another.
        write: writes a block's files to a directory, and returns for each utterance its
            place there and what else is to be known of it. Its `Collector` takes the failures.
        settings: what the result depends on beside `parts` and the files that they name.
        label: of the progress bar.
        reading: workers, progress bar, and whether to write also the blocks that are there.

    Returns:
        Utterance -> what `write` returned, with the place's path; and the utterances that
        are left out.
    """
    directory.mkdir(parents=True, exist_ok=True)
    blocks = [
        (directory / f"format.{n}", parts[start : start + _BLOCK_UTTERANCES])
        for n, start in enumerate(range(0, len(parts), _BLOCK_UTTERANCES), 1)
    ]
    expected = {path.name for path, _ in blocks}
    for path in directory.iterdir():
        if reading.fresh or path.name not in expected:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    label = label if reading.progress else None
    job = functools.partial(_write_block, write=write, settings=settings)
    records = fan_out(job, blocks, reading.nj, label)
    remove_leftovers(directory, deep=False)  # of lost workers
    write_text(directory / DIGEST, digest([record["content"] for record in records]) + "\n")
    written, rejections = {}, []
    for (path, _), record in zip(blocks, records, strict=True):
        for utterance, (place, *numbers) in record["written"].items():
            written[utterance] = [f"{path}/{place}", *numbers]
        rejections += [Rejection(*fields) for fields in record["rejected"]]
    return written, rejections


class Collector:
    """Calls a function on each utterance of a block, and notes those that it refuses."""

    def __init__(self):
        self.rejections: list[Rejection] = []

    def each(self, parts: Sequence[SourcePart], convert: Callable):
        """Yield a part and what `convert(part)` gives; leave out where it raises UserError."""
        for part in parts:
            try:
                value = convert(part)
            except UserError as error:
                self.rejections.append(Rejection(part.utterance, part.file, part.line, str(error)))
            else:
                yield part, value


def _write_block(
    block: tuple[Path, Sequence[SourcePart]], write: Callable, settings: Mapping
) -> dict:
    path, parts = block
    made_of = digest(
        [dict(settings), [[*part, *map(_stamp, part.source_files())] for part in parts]]
    )
    record_path = path / _RECORD
    if record_path.exists():
        record = read_json(record_path)
        # What was refused is looked at again: its file may be there now.
        same = record.get("made_of") == made_of and "content" in record
        if same and not record["rejected"] and _is_whole(path, record):
            return record
    with scratch_directory(path.parent) as temporary:
        unfinished = temporary / path.name
        unfinished.mkdir()
        collector = Collector()
        written = write(unfinished, parts, collector)
        record = {
            "made_of": made_of,
            "content": _content(unfinished),
            "sizes": {file.name: file.stat().st_size for file in _files(unfinished)},
            "written": written,
            "rejected": collector.rejections,
        }
        flush_all(unfinished)  # before the record, which vouches for them
        write_json(unfinished / _RECORD, record)
        replace_directory(unfinished, path)  # another copy of this job may do so too
    return record


def _is_whole(path: Path, record: Mapping) -> bool:
    """Say whether the files of a block are those that were written; tells where they are not.

    Files that are not older than the record are read: those of a copy are not, either.
    """
    sizes, names = record.get("sizes"), {file.name: file for file in _files(path)}
    written_ns = (path / _RECORD).stat().st_mtime_ns
    found = {name: file.stat() for name, file in names.items()}
    now = {name: status.st_size for name, status in found.items()}
    later = [name for name, status in found.items() if status.st_mtime_ns > written_ns]
    if (now == sizes and not later) or _content(path) == record["content"]:
        return True
    before = sizes or now
    changed = {name for name in before.keys() | now.keys() if before.get(name) != now.get(name)}
    odd = min(changed or later or now, default="")
    logging.warning("%s: is not as it was written: it is written again", path / odd)
    return False


def _files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.iterdir() if path.name != _RECORD)


def _content(directory: Path) -> str:
    """Return a digest of the files of a block."""
    total = hashlib.blake2b(digest_size=16)
    for path in _files(directory):
        total.update(f"{path.name} {path.stat().st_size} ".encode())
        with open(path, "rb") as stream:
            while part := stream.read(_READ_BYTES):
                total.update(part)
    return total.hexdigest()


def _stamp(path: str) -> list[int] | None:
    """Return what tells that a file changed; None where it cannot be read."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]
