"""Parts of stages, and the marks that say which of them are done, and how they were.

A mark holds the options, digests of the files that are read, and for tables of recordings the
stamps of these too, so that a recording that was repaired is looked at again. Recordings that
are gone are no change: a corpus may be removed once its audio is formatted.
"""

import contextlib
import dataclasses
import datetime
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from mtla_espnet.config import differences
from mtla_espnet.directories import flush_all
from mtla_espnet.files import UserError, open_file, reading
from mtla_espnet.jobs.stamps import files_of, first_changed, is_table_of_places, stamps
from mtla_espnet.json_files import read_json, write_json

_BLOCK_BYTES = 1 << 20
# Tables that stages after these make have a digest of the audio beside them.
_LAST_MAKER_OF_SOURCES = 2


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of a stage that is done, skipped and locked as a whole, such as one set.

    Args:
        directory: it is locked while the part runs, and holds its mark.
        options: fact -> value, of those that change the result; the runner adds the options
            that the table of options says so of.
        inputs: file that is read -> stage that makes it (0: the user); by content.
        outputs: files or directories that are written.
        name: of the part, in messages and for the stage itself; empty: the whole stage.
        goes_on_from: the file that a part which can be resumed goes on from. Where it
            exists, options and inputs must be as they were, but for `may_change`. None:
            the part is redone from the start when they changed.
        may_change: names, as `differences` gives them.
        no_matter: names of options that change no result, as `differences` gives them.
        unread: options of the stage that this part does not read.
        watched: large files that are read, by size and time of change; one that is gone is no
            change.
        defaults: option -> the value that a mark which does not know it was made with.
    """

    directory: Path
    options: Mapping[str, object]
    inputs: Mapping[Path, int]
    outputs: list[Path]
    name: str = ""
    goes_on_from: Path | None = None
    may_change: frozenset[str] = frozenset()
    no_matter: frozenset[str] = frozenset()
    unread: tuple[str, ...] = ()
    watched: Sequence[Path] = ()
    defaults: Mapping[str, object] = dataclasses.field(default_factory=dict)


class Mark:
    """What is known of a part: `.done.N` or, begun and not finished, `.begun.N`.

    Args:
        part: all its inputs exist.
        number: the stage.
        root: the recipe's directory; inputs are noted relative to it.

    Raises:
        UserError: an input cannot be read.
    """

    def __init__(self, part: Part, number: int, root: Path):
        self._part = part
        self._done = _done_path(part.directory, number)
        self._begun = begun_path(part.directory, number)
        self._wanted = {
            "option": _plain(part.options),
            "input": {_relative(path, root): file_digest(path) for path in sorted(part.inputs)},
        }
        self._sources = {
            _relative(path, root): files_of(path)
            for path, maker in part.inputs.items()
            if is_table_of_places(path) and maker <= _LAST_MAKER_OF_SOURCES
        }
        if part.watched:
            self._sources["watched"] = [str(path) for path in part.watched]
        self._stamps = {table: stamps(files) for table, files in self._sources.items()}

    def missing_reason(self) -> str | None:
        """Say why the part must run; None when it is done."""
        if self._begun.exists():
            return "was interrupted"
        if not self._done.exists():
            return "not done yet"
        changed = self.changes()
        if changed:
            return changed[0]
        for path in self._part.outputs:
            if not path.exists():
                return f"{path} is missing"
        for directory, before in read_json(self._done).get("directories", {}).items():
            if stamps([directory]) != before:
                return f"{directory} is not as it was written"
        return None

    def _written(self) -> dict[str, str]:
        """Return the stamps of directories in which the part wrote what its tables point to."""
        tables = filter(is_table_of_places, self._part.outputs)
        above = {os.path.dirname(file) for table in tables for file in files_of(table)}
        own = f"{self._part.directory}/"
        return {path: stamps([path]) for path in sorted(above) if path.startswith(own)}

    def changes(self) -> list[str]:
        """Name the options and inputs that are not as they were when the part last began."""
        for path in (self._begun, self._done):
            if path.exists():
                try:
                    found = read_json(path)
                except UserError:
                    return [f"{path} cannot be read"]
                old = {kind: found.get(kind, {}) for kind in self._wanted}
                old["option"] = _plain(self._part.defaults) | old["option"]
                changes = [
                    change.split(":")[0] + " changed" if change.startswith("input") else change
                    for change in differences(old, self._wanted)
                    if change.split(":")[0] not in self._part.no_matter
                ]
                return changes or self._changed_sources(found.get("stamps", {}))
        return []

    def _changed_sources(self, before: Mapping[str, str]) -> list[str]:
        """Name a file of each table, and of those watched, that is not as it was."""
        names = (
            first_changed(files, before[table], self._stamps[table], may_be_gone=True)
            for table, files in self._sources.items()
            if table in before
        )
        return [f"{name} changed" for name in names if name]

    def forbidden_changes(self) -> list[str]:
        """Name those of the changes that the part cannot go on with."""
        start = self._part.goes_on_from
        if start is None or not start.exists():
            return []
        allowed = self._part.may_change
        return [change for change in self.changes() if change.split(":")[0] not in allowed]

    def begin(self) -> None:
        """Say that from now on what the part writes is not whole."""
        write_json(self._begun, {**self._wanted, "stamps": self._stamps})
        self._done.unlink(missing_ok=True)

    def forget(self) -> None:
        """Say that the part is not done, whatever was said before."""
        self._done.unlink(missing_ok=True)
        self._begun.unlink(missing_ok=True)

    def finish(self) -> None:
        """Say that the part is done, when all that it wrote is on the disk.

        Raises:
            UserError: it did not write all its outputs.
        """
        for path in self._part.outputs:
            if not path.exists():
                beside = sorted(other.name for other in path.parent.glob(f"*{path.suffix}"))
                found = f" (there are {', '.join(beside[:12])})" if beside else ""
                raise UserError(f"the stage ended without {path}{found}: is it the right name?")
        now = datetime.datetime.now().isoformat(timespec="seconds")
        more = {"stamps": self._stamps, "directories": self._written(), "finished": now}
        flush_all(self._part.directory)
        write_json(self._done, {**self._wanted, **more})
        self._begun.unlink()


def other_options(part: Part, number: int) -> list[str]:
    """Name the options by which a stage did a part, where they are not those of `part`."""
    done = _done_path(part.directory, number)
    if not done.exists():
        return []
    before = _plain(part.defaults) | read_json(done).get("option", {})
    return differences(before, _plain(part.options))


def _done_path(directory: Path, number: int) -> Path:
    return directory / f".done.{number}"


def marked_ns(directory: Path, number: int) -> int | None:
    """Return when a stage said that it is done, whatever changed since; None: it does not.

    Only the files' times are read: it may be asked every second.
    """
    done = _done_path(directory, number)
    with contextlib.suppress(FileNotFoundError):
        if not begun_path(directory, number).exists():
            return done.stat().st_mtime_ns
    return None


def begun_path(directory: Path, number: int) -> Path:
    """Return the file whose presence says that a stage writes in `directory`, or broke off."""
    return directory / f".begun.{number}"


def check_inputs(part: Part) -> None:
    """Check that a part can run.

    Raises:
        UserError: an input is missing, or the stage that makes it broke off; says which
            stage to run first.
    """
    for path, maker in part.inputs.items():
        if not path.exists():
            if maker == 0:
                raise UserError(f"{path}: no such file")
            raise UserError(f"{path} is missing: run stage {maker} first (--stage {maker})")
        if maker and any(begun_path(parent, maker).exists() for parent in path.parents):
            raise UserError(
                f"{path} may not be whole, stage {maker} was interrupted: "
                f"run stage {maker} first (--stage {maker})"
            )


def _plain(value):
    """Return `value` as JSON gives it back, so that a comparison holds."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _relative(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def file_digest(path: Path) -> str:
    """Return a short SHA-256 of a file's content.

    Raises:
        UserError: it cannot be read.
    """
    total = hashlib.sha256()
    with open_file(path) as stream, reading(path):
        while block := stream.read(_BLOCK_BYTES):
            total.update(block)
    return total.hexdigest()[:16]
