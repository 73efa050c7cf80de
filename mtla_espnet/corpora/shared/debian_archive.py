"""Files of Debian's archive, pinned, fetched by apt-get without root.

The release is always the same one, whatever system this is and whatever its own lists say. Each
file is known by its SHA-256, so no key of the archive is needed.
"""

import argparse
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mtla_espnet.corpora.shared.pinned_files import check_sha256, reason_of
from mtla_espnet.directories import scratch_directory, without_leftovers
from mtla_espnet.files import UserError, write_text
from mtla_espnet.programs import run_program

RELEASE = "bookworm"
_ARCHIVE = "http://deb.debian.org/debian"
# The files of a release by the end of their names in apt's directory of lists.
_INDICES = {
    "Packages": "_main_binary-amd64_Packages",
    "Translation-en": "_main_i18n_Translation-en",
    "InRelease": "_InRelease",
}
_OTHER = "{}: the archive has another file now"
# Without a network apt-get would try again for a minute and more. What the system does after an
# update needs root.
_CONFIGURATION = """\
Dir::State::lists "{directory}/lists";
Dir::Cache "{directory}/cache";
Dir::Etc::sourcelist "{directory}/sources.list";
Dir::Etc::sourceparts "-";
APT::Architecture "amd64";
#clear APT::Architectures;
APT::Architectures {{ "amd64"; }};
#clear Acquire::Languages;
Acquire::Languages {{ {languages} }};
Acquire::GzipIndexes "false";
Acquire::Retries "0";
Acquire::http::Timeout "10";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
"""


class DebianPackage(NamedTuple):
    """A package of a version.

    Args:
        name: of the package.
        version: as Debian writes it.
        sha256: of the file.
        megabytes: what is fetched.
    """

    name: str
    version: str
    sha256: str
    megabytes: int


def add_download_argument(parser: argparse.ArgumentParser, package: DebianPackage) -> None:
    """Declare `--download` of a corpus that is a package."""
    parser.add_argument(
        "--download",
        action="store_true",
        help=f"fetch Debian's {package.name} ({package.megabytes} MB) by apt-get if it is missing",
    )


def unpack_package(package: DebianPackage, tree: Path) -> None:
    """Fetch a package and unpack its files as `tree`; as `unpack_packages`."""
    unpack_packages([package], tree)


def unpack_packages(packages: Sequence[DebianPackage], tree: Path) -> None:
    """Fetch packages and unpack their files into one `tree`, whole or not at all.

    Args:
        packages: which ones.
        tree: the directory to make; must not be there.

    Raises:
        UserError: this system has no apt-get or dpkg, one of them fails, or the archive has
            another file of a version.
    """
    where = "fetch the package from https://packages.debian.org/{} and unpack it"
    _need(("apt-get", "dpkg"), packages[0].name, where.format(packages[0].name))
    with without_leftovers(tree.parent), scratch_directory(tree.parent) as temporary:
        temporary = temporary.resolve()
        apt = _update(temporary, languages='"none";')
        for name, version, sha256, _ in packages:
            _run([*apt, "download", f"{name}={version}"], temporary)
            archives = list(temporary.glob("*.deb"))
            if len(archives) != 1:
                raise UserError(f"apt-get download {name}: gave {len(archives)} files, not one")
            told = _OTHER.format(f"{name} {version}")
            check_sha256(archives[0], sha256, told, where.format(name))
            _run(["dpkg", "-x", archives[0].name, "tree"], temporary)
            archives[0].unlink()
        (temporary / "tree").rename(tree)


def fetch_indices(directory: Path, pinned: Mapping[str, str]) -> None:
    """Fetch indices of `RELEASE` into a directory, all of them or none.

    Args:
        directory: to be made; must not be there.
        pinned: name of an index (`Packages`, `Translation-en`, `InRelease`) -> its SHA-256.

    Raises:
        UserError: this system has no apt-get, it fails, or the archive has moved on.
    """
    where = (
        f"fetch binary-amd64/Packages.xz and i18n/Translation-en.xz of {_ARCHIVE}/dists/{RELEASE}/"
        "main, and name their directory"
    )
    _need(("apt-get",), f"the indices of {RELEASE}", where)
    with without_leftovers(directory.parent), scratch_directory(directory.parent) as temporary:
        temporary = temporary.resolve()
        _update(temporary, languages='"en";')
        (temporary / "made").mkdir()
        for name, sha256 in pinned.items():
            found = list((temporary / "lists").glob(f"*{_INDICES[name]}"))
            if len(found) != 1:
                raise UserError(f"apt-get update: gave {len(found)} files {name}, not one")
            check_sha256(found[0], sha256, _OTHER.format(f"{name} of {RELEASE}"), where)
            shutil.move(found[0], temporary / "made" / name)
        (temporary / "made").rename(directory)


def _update(directory: Path, languages: str) -> list[str]:
    """Bring the release's lists into a directory; return the call of apt-get that reads them."""
    for part in ("lists/partial", "cache/archives/partial"):
        (directory / part).mkdir(parents=True)
    write_text(directory / "sources.list", f"deb [trusted=yes] {_ARCHIVE} {RELEASE} main\n")
    configuration = _CONFIGURATION.format(directory=directory, languages=languages)
    write_text(directory / "apt.conf", configuration)
    apt = ["apt-get", "-c", str(directory / "apt.conf")]
    _run([*apt, "update"], directory)
    return apt


def _need(programs: tuple[str, ...], what: str, where: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            raise UserError(f"{what}: there is no {program} here: {where}")


def _run(command: list[str], directory: Path) -> None:
    done = run_program(command, cwd=directory, capture_output=True, text=True)
    if done.returncode:
        told = " ".join(word for word in command if word != "-c" and not word.endswith("apt.conf"))
        raise UserError(f"{told}: {reason_of(done)}")
