"""Debian's archive, as corpora fetch from it, without a network."""

import hashlib
import stat

import pytest

# What each package's file holds here.
DEB = b"deb\n"
_SCRIPTS = {
    # apt-get -c FILE update, apt-get -c FILE download NAME=VERSION
    "apt-get": r"""test "$1" = -c || exit 3
test -z "$FAIL" || { echo "E: no such package" >&2; exit 100; }
grep -q '^deb .trusted=yes. http://deb.debian.org/debian bookworm main$' \
    "${2%/*}/sources.list" || exit 4
case $3 in
update)
    if [ -n "$INDICES" ]; then
        cp "$INDICES"/* "${2%/*}/lists/"
    fi ;;
download) echo deb >"${4%%=*}_all.deb" ;;
esac
""",
    "dpkg": 'test "$1" = -x || exit 3\nmkdir -p "$3"\ncp -r "$TREE/." "$3"\n',
}


class Archive:
    """Stand-ins of apt-get and dpkg.

    Args:
        directory: of the programs.
        monkeypatch: of the test.

    Attributes:
        sha256: of every package's file.
    """

    sha256 = hashlib.sha256(DEB).hexdigest()

    def __init__(self, directory, monkeypatch):
        self.directory, self._monkeypatch = directory, monkeypatch
        directory.mkdir()
        for name, body in _SCRIPTS.items():
            path = directory / name
            path.write_text(f"#!/bin/sh\n{body}")
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
        for variable in ("FAIL", "INDICES", "TREE"):
            monkeypatch.setenv(variable, "")

    def hold(self, tree="", indices=""):
        """Say which tree each package unpacks to, and which directory the indices are in."""
        self._monkeypatch.setenv("TREE", str(tree))
        self._monkeypatch.setenv("INDICES", str(indices))

    def fail(self, fails=True):
        """Let apt-get fail, or not."""
        self._monkeypatch.setenv("FAIL", "1" if fails else "")

    def remove(self, only=False):
        """Take the programs away; `only`: all other programs too."""
        for path in self.directory.iterdir():
            path.unlink()
        if only:
            self._monkeypatch.setenv("PATH", str(self.directory))


@pytest.fixture
def archive(tmp_path, monkeypatch):
    return Archive(tmp_path / "bin", monkeypatch)
