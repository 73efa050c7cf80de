"""Packages of Debian, fetched by the system's own client and unpacked without root."""

import shutil
from pathlib import Path

from mtla_espnet.directories import scratch_directory, without_leftovers
from mtla_espnet.files import UserError
from mtla_espnet.programs import run_program

# Without a network apt-get would try again for a minute and more.
_ONCE = [
    word
    for option in ("Retries=0", "http::Timeout=10", "https::Timeout=10")
    for word in ("-o", f"Acquire::{option}")
]


def unpack_package(package: str, tree: Path) -> None:
    """Fetch a package by `apt-get download` and unpack its files as `tree`, whole or not at all.

    Args:
        package: its name.
        tree: the directory to make; must not be there.

    Raises:
        UserError: this system has no apt-get or dpkg, or one of them fails.
    """
    for program in ("apt-get", "dpkg"):
        if shutil.which(program) is None:
            raise UserError(
                f"{package}: there is no {program} here: fetch the package from "
                f"https://packages.debian.org/{package} and unpack it"
            )
    with without_leftovers(tree.parent), scratch_directory(tree.parent) as temporary:
        _run(["apt-get", "download", package, *_ONCE], temporary)
        archives = list(temporary.glob("*.deb"))
        if len(archives) != 1:
            raise UserError(f"apt-get download {package}: gave {len(archives)} files, not one")
        _run(["dpkg", "-x", archives[0].name, "tree"], temporary)
        (temporary / "tree").rename(tree)


def _run(command: list[str], directory: Path) -> None:
    done = run_program(command, cwd=directory, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        reason = lines[-1].strip() if lines else f"exit code {done.returncode}"
        hint = " (apt-get update renews its lists)" if "apt-get" in command else ""
        raise UserError(f"{' '.join(command)}: {reason}{hint}")
