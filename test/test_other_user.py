"""Libraries find a place, a home and a name, whoever runs the process."""

import getpass
import importlib.machinery
import importlib.util
import os
import pwd
from pathlib import Path

import pytest

from mtla_espnet.other_user import give_what_is_missing

NAMES = ("LOGNAME", "USER", "LNAME", "USERNAME", "HOME", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR")


@pytest.fixture
def given(tmp_path, monkeypatch):
    """A function that returns the variables that are set, and what else there is: home, librosa."""
    for name in NAMES:
        monkeypatch.setenv(name, "")  # so that it is as before in the end
        monkeypatch.delenv(name)
    (tmp_path / "librosa").mkdir()
    (tmp_path / "home").mkdir()
    spec = importlib.machinery.ModuleSpec("x", None, origin=str(tmp_path / "librosa/__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)

    def given():
        before = dict(os.environ)
        give_what_is_missing()
        return {name: value for name, value in os.environ.items() if before.get(name) != value}

    return given


@pytest.mark.parametrize("writable", ["librosa", "home", ""])
def test_a_place_is_given_where_there_is_none(given, tmp_path, monkeypatch, writable):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name == writable)
    found = given()
    assert list(found) == ([] if writable else ["NUMBA_CACHE_DIR"])
    for place in found.values():
        assert Path(place).stat().st_mode & 0o777 == 0o700
    monkeypatch.setenv("NUMBA_CACHE_DIR", "mine")
    assert given() == {}


def test_a_user_whom_the_system_does_not_know_has_a_name_and_a_home(given, monkeypatch):
    def unknown(uid):
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    found = given()
    assert found.keys() == {"LOGNAME", "HOME"}
    assert getpass.getuser() == f"uid{os.getuid()}"
    assert os.access(found["HOME"], os.W_OK)
    assert given() == {}


def test_a_user_with_both_keeps_them(given, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LOGNAME", "me")
    assert given() == {}
