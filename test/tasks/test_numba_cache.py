"""numba has a place for what it compiles, whoever runs the process."""

import importlib.machinery
import importlib.util
import os
from pathlib import Path

import pytest

from mtla_espnet.tasks.numba_cache import give_a_place

pytestmark = pytest.mark.espnet


@pytest.fixture
def places(tmp_path, monkeypatch):
    """The directory of librosa, and the user's cache, which does not exist yet."""
    package, home = tmp_path / "librosa", tmp_path / "home"
    package.mkdir()
    home.mkdir()
    spec = importlib.machinery.ModuleSpec("librosa", None, origin=str(package / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / ".cache"))
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    return package, home


@pytest.mark.parametrize("writable", ["librosa", "home", ""])
def test_a_place_is_given_where_there_is_none(places, monkeypatch, writable):
    allowed = {path for path in places if path.name == writable}
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) in allowed)
    give_a_place()
    given = os.environ.pop("NUMBA_CACHE_DIR", None)
    assert (given is None) == bool(writable)
    if given:
        assert Path(given).stat().st_mode & 0o777 == 0o700


def test_a_place_that_is_named_stays(places, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setenv("NUMBA_CACHE_DIR", "mine")
    give_a_place()
    assert os.environ["NUMBA_CACHE_DIR"] == "mine"
