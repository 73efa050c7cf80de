import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "setup_env.sh"
BASE_PYTHON = sys._base_executable


def write_command(path, line):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


def find_python(tmp_path):
    """Run the script where PATH holds only tmp_path/bin, and pyenv is tmp_path/pyenv."""
    environment = {"PATH": str(tmp_path / "bin"), "PYENV_ROOT": str(tmp_path / "pyenv")}
    command = [shutil.which("sh"), str(SCRIPT), "--print-python"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def assert_found(finished):
    assert finished.returncode == 0, finished.stderr
    assert Path(finished.stdout.strip()).samefile(BASE_PYTHON)


def python_where(statement):
    """A shell line for a Python that runs `statement` before the -c code it is given."""
    return f'exec "{BASE_PYTHON}" -c "import sys; {statement}; exec(sys.argv[1])" "$2"'


FAILING = "echo 'pyenv: command not found' >&2; exit 127"
OLD = python_where("sys.version_info = (3, 11)")
WITHOUT_VENV = python_where("sys.modules['ensurepip'] = None")
GOOD = f'exec "{BASE_PYTHON}" "$@"'


@pytest.mark.parametrize("bad", [FAILING, OLD, WITHOUT_VENV])
def test_a_python_that_does_not_do_is_passed_over(tmp_path, bad):
    write_command(tmp_path / "bin" / "python3.12", bad)
    write_command(tmp_path / "bin" / "python3", GOOD)
    assert_found(find_python(tmp_path))


@pytest.mark.parametrize("bad", [FAILING, OLD, WITHOUT_VENV])
def test_without_any_python_one_line_says_what_to_install(tmp_path, bad):
    for name in ("python3.12", "python3", "python"):
        write_command(tmp_path / "bin" / name, bad)
    finished = find_python(tmp_path)
    assert finished.returncode == 1
    assert finished.stdout == ""
    (line,) = finished.stderr.splitlines()
    assert "Python >= 3.12" in line and "install" in line


def test_pyenvs_versions_are_tried_after_path(tmp_path):
    write_command(tmp_path / "bin" / "python3.12", FAILING)
    write_command(tmp_path / "pyenv" / "versions" / "3.9.18" / "bin" / "python", OLD)
    write_command(tmp_path / "pyenv" / "versions" / "3.12.9" / "bin" / "python", GOOD)
    assert_found(find_python(tmp_path))


def test_uv_is_asked_last(tmp_path):
    write_command(tmp_path / "bin" / "python3", FAILING)
    write_command(tmp_path / "bin" / "uv", f'[ "$1 $2" = "python find" ] && echo "{BASE_PYTHON}"')
    assert_found(find_python(tmp_path))


def test_a_python_of_a_virtual_environment_gives_its_base(tmp_path):
    write_command(tmp_path / "bin" / "python3", f'exec "{sys.executable}" "$@"')
    assert_found(find_python(tmp_path))


def test_an_unknown_option_is_a_usage_error():
    finished = subprocess.run(
        [str(SCRIPT), "--pyhton"], env=os.environ, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 2
    assert finished.stderr.startswith("usage: ")


FAKE_PYTHON = """case "$1 $2" in
"-m venv") rm -rf .venv; mkdir -p .venv/bin; cp "$0" .venv/bin/python; echo venv >>calls ;;
"-m pip") for last; do :; done; echo "pip:$last" >>calls; [ ! -e pip_fails ] ;;
"-c import torchaudio") [ ! -e torchaudio_fails ] ;;
*version_info*) echo "$0" ;;
esac"""


USERS, TESTERS = "pip:.[recipes]", "pip:.[recipes,cluster,demo,docs,espnet3,vad,test]"


@pytest.fixture
def checkout(tmp_path):
    """A checkout with the script, where Python's venv and pip are played."""
    write_command(tmp_path / "bin" / "python3.12", FAKE_PYTHON)
    (tmp_path / "tools").mkdir()
    shutil.copy(SCRIPT, tmp_path / "tools")
    (tmp_path / "pyproject.toml").write_text('    "torch==2.11.*",\n')
    return tmp_path


def set_up(checkout, *options):
    """Run the checkout's script; returns its exit code and the calls it made."""
    environment = {**os.environ, "PATH": f"{checkout / 'bin'}:{os.environ['PATH']}"}
    (checkout / "calls").write_text("")
    command = [str(checkout / "tools" / SCRIPT.name), *options]
    finished = subprocess.run(command, env=environment, capture_output=True, check=False)
    return finished.returncode, (checkout / "calls").read_text().split()


def test_the_second_call_does_nothing(checkout):
    assert set_up(checkout) == (0, ["venv", USERS])
    assert set_up(checkout) == (0, [])


def test_a_changed_pyproject_updates_the_environment(checkout):
    set_up(checkout)
    (checkout / "pyproject.toml").write_text('    "torch==2.12.*",\n')
    assert set_up(checkout) == (0, [USERS])
    assert set_up(checkout) == (0, [])


def test_packages_of_the_tests_come_with_the_tests_alone_and_stay(checkout):
    assert set_up(checkout) == (0, ["venv", USERS])
    assert set_up(checkout, "--tests") == (0, [TESTERS])
    assert set_up(checkout, "--tests") == (0, [])
    assert set_up(checkout) == (0, [])
    (checkout / "pyproject.toml").write_text('    "torch==2.12.*",\n')
    assert set_up(checkout) == (0, [TESTERS])
    (checkout / ".venv" / ".complete").unlink()
    assert set_up(checkout, "--tests") == (0, ["venv", TESTERS])


@pytest.mark.parametrize("cause", ["pip_fails", "torchaudio_fails"])
def test_an_interrupted_or_broken_installation_is_made_anew(checkout, cause):
    (checkout / cause).touch()
    assert set_up(checkout) == (1, ["venv", USERS])
    (checkout / cause).unlink()
    assert set_up(checkout) == (0, ["venv", USERS])


def test_an_environment_whose_python_is_gone_is_made_anew(checkout):
    set_up(checkout)
    (checkout / ".venv" / "bin" / "python").unlink()
    assert set_up(checkout) == (0, ["venv", USERS])
