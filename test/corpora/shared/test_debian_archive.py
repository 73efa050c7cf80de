import hashlib

import pytest

from mtla_espnet.corpora.shared.debian_archive import (
    DebianPackage,
    fetch_indices,
    unpack_package,
    unpack_packages,
)
from mtla_espnet.files import UserError

PREFIX = "deb.debian.org_debian_dists_bookworm"


@pytest.fixture
def package(archive, tmp_path):
    """A package of one file."""
    (tmp_path / "tree/usr/share").mkdir(parents=True)
    (tmp_path / "tree/usr/share/a").write_text("content")
    archive.hold(tree=tmp_path / "tree")
    return DebianPackage("some-data", "1.0-2", archive.sha256, 3)


def test_a_package_is_there_whole_or_not_at_all(archive, package, tmp_path):
    root = tmp_path / "downloads"
    archive.fail()
    with pytest.raises(UserError, match=r"^apt-get update: E: no such package$"):
        unpack_package(package, root / "made")
    assert list(root.iterdir()) == []
    archive.fail(False)
    unpack_package(package, root / "made")
    assert (root / "made/usr/share/a").read_text() == "content"
    assert [path.name for path in root.iterdir()] == ["made"]


def test_packages_are_unpacked_into_one_tree_or_not_at_all(package, tmp_path):
    root = tmp_path / "downloads"
    other = package._replace(name="other-data")
    with pytest.raises(UserError, match=r"^other-data 1.0-2: the archive has another file now"):
        unpack_packages([package, other._replace(sha256="0" * 64)], root / "made")
    assert list(root.iterdir()) == []
    unpack_packages([package, other], root / "made")
    assert (root / "made/usr/share/a").read_text() == "content"
    assert [path.name for path in root.iterdir()] == ["made"]


def test_another_file_of_the_version_is_refused(package, tmp_path):
    with pytest.raises(UserError) as raised:
        unpack_package(package._replace(sha256="0" * 64), tmp_path / "made")
    assert str(raised.value).startswith(
        f"some-data 1.0-2: the archive has another file now (SHA-256 {package.sha256[:12]}..., "
        "this recipe reads 000000000000...): fetch the package from https://packages.debian.org/so"
    )
    assert not (tmp_path / "made").exists()


def test_a_system_without_apt_is_told_where_the_package_is(archive, package, tmp_path):
    archive.remove(only=True)
    with pytest.raises(UserError, match=r"^some-data: there is no apt-get here: fetch the package"):
        unpack_package(package, tmp_path / "made")
    with pytest.raises(UserError, match=r"^the indices of bookworm: there is no apt-get here"):
        fetch_indices(tmp_path / "made", {"Packages": ""})


def test_indices_are_those_that_are_pinned(archive, tmp_path):
    lists = tmp_path / "lists"
    lists.mkdir()
    content = {"Packages": b"Package: a\n", "Translation-en": b"Package: b\n"}
    (lists / f"{PREFIX}_main_binary-amd64_Packages").write_bytes(content["Packages"])
    (lists / f"{PREFIX}_main_i18n_Translation-en").write_bytes(content["Translation-en"])
    archive.hold(indices=lists)
    pinned = {name: hashlib.sha256(text).hexdigest() for name, text in content.items()}
    fetch_indices(tmp_path / "indices", pinned)
    found = {path.name: path.read_bytes() for path in (tmp_path / "indices").iterdir()}
    assert found == content
    with pytest.raises(UserError, match=r"^Packages of bookworm: the archive has another file now"):
        fetch_indices(tmp_path / "other", pinned | {"Packages": "1" * 64})
    with pytest.raises(UserError, match=r"^apt-get update: gave 0 files InRelease, not one$"):
        fetch_indices(tmp_path / "other", {"InRelease": ""})
    assert not (tmp_path / "other").exists()
