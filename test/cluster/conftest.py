"""A real Slurm of three nodes on this machine, for the tests marked `cluster`."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent
PACKAGES = "slurmctld slurmd slurm-client munge"
PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


class Slurm:
    """The Slurm that the tests of a session share.

    Args:
        directory: of its state.

    Attributes:
        environment: variables by which `sbatch` and its like reach it.
    """

    def __init__(self, directory: Path):
        self.directory = directory
        self.environment = {
            **os.environ,
            "PATH": PATH,
            "SLURM_CONF": f"{directory}/slurm.conf",
        }

    def call(self, *command: str) -> str:
        """Run a command of Slurm, and return what it prints."""
        done = subprocess.run(
            command, env=self.environment, check=True, capture_output=True, text=True, timeout=120
        )
        return done.stdout

    def jobs(self) -> list[str]:
        """Return the numbers of the jobs that wait or run."""
        return self.call("squeue", "--noheader", "--format=%A").split()

    def node(self, name: str, action: str) -> None:
        """Lose a node as by a power cut (`lose`), or bring it back (`return`)."""
        subprocess.run([SCRIPTS / "node.sh", self.directory, name, action], check=True, timeout=60)


@pytest.fixture(scope="session")
def slurm():
    """Start it once; its directory has a short name, since a socket's path has 108 bytes."""
    if shutil.which("slurmctld", path=PATH) is None:
        missing(f"needs Debian's packages {PACKAGES}")
    with tempfile.TemporaryDirectory(prefix="slurm") as place:
        directory = Path(place) / "s"
        subprocess.run([SCRIPTS / "start_slurm.sh", directory, "3"], check=True, timeout=120)
        try:
            yield Slurm(directory)
        finally:
            subprocess.run([SCRIPTS / "stop_slurm.sh", directory], check=True, timeout=120)


def missing(what: str) -> None:
    """Skip a test for what this machine lacks; where `CI` is set, fail."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)
