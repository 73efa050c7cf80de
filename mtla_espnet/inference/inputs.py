"""Files that a command is given: expanded, read one by one, those that cannot be used told."""

import glob
import itertools
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from mtla_espnet.files import UserError, read_text

# Files of a directory that are taken, for commands that read text.
TEXT_SUFFIXES = frozenset((".txt",))
# So many are named where several were left out.
_MOST_NAMED = 5


def listed_paths(list_file: Path) -> list[Path]:
    """Return the files that a list names, one a line; blank lines do not count.

    Args:
        list_file: UTF-8; its names are relative to the current directory.

    Raises:
        UserError: it cannot be read, or names none.
    """
    names = [line.strip() for line in read_text(list_file).splitlines()]
    paths = [Path(name) for name in names if name]
    if not paths:
        raise UserError(f"{list_file}: names no file")
    return paths


class Inputs[Value]:
    """The inputs that a command line names.

    Args:
        paths: files; directories, of which the files are taken that have one of `suffixes`, at
            any depth and in order of their names, but for hidden ones; patterns, `calls/*.wav`,
            where no file has that name; and `-`, the standard input.
        suffixes: of files of the kind, in small letters.
        read: reads a file; it raises a UserError that begins with the path.
        shows_progress: show on stderr how many of the files have been read.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        suffixes: frozenset[str],
        read: Callable[[Path], Value],
        shows_progress: bool = False,
    ):
        self._read = read
        self._shows_progress = shows_progress
        self._left_out: dict[Path, str] = {}
        self._paths: list[Path] = []
        empty = {}
        for path in paths:
            found, why = _expanded(path, suffixes)
            self._paths += found or [path]
            if why:
                empty[path] = UserError(f"{path}: {why}")
        for path, error in empty.items():
            self.leave_out(path, error)

    def read(self) -> Iterator[tuple[Path, Value]]:
        """Return the inputs that can be read, in order, each when it is asked for.

        The first one is read at once: where there is none, nothing else need be loaded.

        Raises:
            UserError: none can be read.
        """
        readable = self._readable()
        first = next(readable, None)
        if first is None:
            self.tell()
        return itertools.chain([first], readable)

    def leave_out(self, path: Path, error: UserError) -> None:
        """Note that an input cannot be used; the log says so at once, unless it is the only one."""
        if len(self._paths) > 1:
            logging.warning(str(error))
        self._left_out[path] = str(error)

    def tell(self) -> None:
        """Raise an error where inputs were left out.

        Raises:
            UserError: it names them; of the only input there is, it says the reason.
        """
        if not self._left_out:
            return
        if len(self._paths) == 1:
            raise UserError(*self._left_out.values())
        named = ", ".join(str(path) for path in list(self._left_out)[:_MOST_NAMED])
        more = len(self._left_out) - _MOST_NAMED
        raise UserError(
            f"{len(self._left_out)} of {len(self._paths)} files could not be used: {named}"
            + (f" and {more} more" if more > 0 else "")
        )

    def _readable(self) -> Iterator[tuple[Path, Value]]:
        for path in tqdm(self._paths, unit="file", disable=not self._shows_progress):
            if path in self._left_out:
                continue
            try:
                value = self._standard_input() if str(path) == "-" else self._read(path)
            except UserError as error:
                self.leave_out(path, error)
            else:
                yield path, value

    def _standard_input(self) -> Value:
        if sys.stdin is None:
            raise UserError("-: there is no standard input")
        with tempfile.NamedTemporaryFile() as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
            file.flush()
            try:
                return self._read(Path(file.name))
            except UserError as error:
                raise UserError(str(error).replace(file.name, "-")) from None


def _expanded(path: Path, suffixes: frozenset[str]) -> tuple[list[Path], str | None]:
    """Return the files that a path stands for; or why there is none."""
    if os.path.isdir(path):
        found = [
            Path(directory, name)
            for directory, inner, names in os.walk(path)
            for name in _visible(inner, names)
            if Path(name).suffix.lower() in suffixes
        ]
        return sorted(found), None if found else f"no file in it is one of {_listed(suffixes)}"
    if os.path.lexists(path) or not glob.has_magic(str(path)):
        return [path], None
    matches = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]
    return matches, None if matches else "no file has such a name"


def _visible(inner: list[str], names: list[str]) -> list[str]:
    """Return the names that are not hidden; hidden directories are not entered."""
    inner[:] = [name for name in inner if not name.startswith(".")]
    return [name for name in names if not name.startswith(".")]


def _listed(suffixes: frozenset[str]) -> str:
    return ", ".join(sorted(suffixes))
