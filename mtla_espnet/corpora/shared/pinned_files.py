"""Files that are known by their SHA-256, and what programs that fetch them say."""

import hashlib
import subprocess
from pathlib import Path

from mtla_espnet.files import UserError


def check_sha256(path: Path, sha256: str, told: str, where: str) -> None:
    """Check that a file is the one that a recipe reads.

    Args:
        path: of the file.
        sha256: of its content.
        told: what is said if it is another one.
        where: how to get it otherwise.

    Raises:
        UserError: it is another one.
    """
    with open(path, "rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != sha256:
        raise UserError(
            f"{told} (SHA-256 {found[:12]}..., this recipe reads {sha256[:12]}...): {where}"
        )


def reason_of(done: subprocess.CompletedProcess) -> str:
    """Return why a program failed: the last line of what it said, or its exit code."""
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"exit code {done.returncode}"
