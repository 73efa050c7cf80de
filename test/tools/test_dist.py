"""The wheel in an empty environment: the modules with torch alone, models and commands with more.

An environment is made of hard links to the packages that are installed here, so nothing is fetched.
"""

import os
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

CHECKOUT = Path(__file__).resolve().parents[2]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "mtla_espnet")
MODULES = """
import sys
import torch
import mtla_espnet
x = torch.randn(2, 12, 64)
print(mtla_espnet.MultiheadTemporalLatentAttention(64, 4)(x, x, x).shape == x.shape)
print(any(name in sys.modules for name in ("espnet2", "torchaudio")))
try:
    mtla_espnet.Speech2Text
except ImportError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built of a copy of the sources."""
    copy = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        path = CHECKOUT / name
        if path.is_dir():
            # other tests write bytecode meanwhile
            shutil.copytree(path, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, copy / name)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", copy / "dist", copy)
    (built,) = (copy / "dist").glob("*.whl")
    return built


def pip(*words, python=sys.executable):
    command = [sys.executable, "-m", "pip", "--quiet", "--python", python, *map(str, words)]
    environment = os.environ | {"PIP_NO_INDEX": "1"}
    subprocess.run(command, check=True, env=environment, capture_output=True, text=True)


def needed(requirements):
    """Return the installed distributions that requirements need, directly or not."""
    found, waiting = {}, [Requirement(each) for each in requirements]
    while waiting:
        requirement = waiting.pop()
        extras = {"", *requirement.extras}
        name = requirement.name.lower().replace("_", "-")
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        if found.get(name, set()) >= extras:
            continue
        try:
            distribution = metadata.distribution(requirement.name)
        except metadata.PackageNotFoundError:
            continue  # for another system
        found[name] = found.get(name, set()) | extras
        for line in distribution.requires or ():
            inner = Requirement(line)
            wanted = [e for e in extras if not inner.marker or inner.marker.evaluate({"extra": e})]
            if wanted:
                inner.marker = None
                waiting.append(inner)
    return [metadata.distribution(name) for name in found]


def environment(directory, wheel, extra=""):
    """Make an environment with a wheel and what it needs; return its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory], check=True)
    python = directory / "bin/python"
    pip("install", "--no-deps", wheel, python=python)
    packages = next((directory / "lib").glob("python3.*")) / "site-packages"
    (installed,) = metadata.distributions(name="mtla-espnet", path=[str(packages)])
    wanted = [
        line.partition(";")[0]
        for line in installed.requires
        if not Requirement(line).marker or Requirement(line).marker.evaluate({"extra": extra})
    ]
    for distribution in needed(wanted):
        for file in distribution.files:
            source = Path(distribution.locate_file(file))
            if ".." not in file.parts and source.is_file():
                target = packages / file
                target.parent.mkdir(parents=True, exist_ok=True)
                if not target.exists():
                    link(source, target)
    return python


def link(source, target):
    try:
        os.link(source, target)
    except OSError:  # on another disk
        target.symlink_to(source)


def run(python, *words, cwd):
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [python, *map(str, words)], cwd=cwd, env=clean, capture_output=True, text=True, check=False
    )


def test_the_wheel_holds_what_the_package_reads(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    suffixes = {".py", ".tsv", ".json", ".yaml", ".html", ".zip"}
    files = (CHECKOUT / "mtla_espnet").rglob("*")
    read = {path.relative_to(CHECKOUT).as_posix() for path in files if path.suffix in suffixes}
    assert read - names == set()
    assert wheel.stat().st_size < 12e6


def test_the_modules_need_torch_alone(wheel, tmp_path):
    python = environment(tmp_path / "env", wheel)
    done = run(python, "-c", MODULES, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    advice = "pip install 'mtla-espnet[recipes]'"
    assert done.stdout.splitlines()[:2] == ["True", "False"] and advice in done.stdout
    asked = run(python, "-m", "mtla_espnet", "--help", cwd=tmp_path)
    assert asked.returncode == 0 and "transcribe" in asked.stdout


@pytest.mark.slow
def test_the_model_that_comes_with_it_transcribes(wheel, tmp_path):
    python = environment(tmp_path / "env", wheel, "recipes")
    sizes = [f"--{name}_utterances=1" for name in ("train", "valid", "test")]
    made = run(python, "-m", "mtla_espnet", "prepare", "smarthome", *sizes, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    _, wav = (tmp_path / "data/test/wav.scp").read_text().split()
    words = ("transcribe", "--model", "smarthome", "--device", "cpu", wav)
    done = run(python, "-m", "mtla_espnet", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{wav}: ") and len(done.stdout.split()) > 2
