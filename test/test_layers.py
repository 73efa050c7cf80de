"""What a part of the package may load when it runs; `lint-imports` checks what its code names."""

import ast
import collections
import subprocess
import sys
from pathlib import Path

import pytest

import mtla_espnet

ESPNET = {"espnet", "espnet2"}
ROOT = Path(mtla_espnet.__file__).parents[1]


def modules_of(*parts):
    files = [file.relative_to(ROOT).with_suffix("") for file in ROOT.rglob("mtla_espnet/**/*.py")]
    return sorted(".".join(file.parts) for file in files if file.parts[1] in parts)


def loaded_by(code):
    """Names of the top-level modules that a fresh Python holds after `code`."""
    program = f"import sys\n{code}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    command = [sys.executable, "-c", program]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return set(finished.stdout.splitlines()[-1].split())


def test_importing_the_package_loads_neither_torch_nor_espnet():
    assert not loaded_by("import mtla_espnet") & (ESPNET | {"torch", "numpy"})


def test_asking_for_help_loads_neither_torch_nor_espnet():
    code = (
        "from mtla_espnet import cli\n"
        "try:\n"
        "    cli.main(['--help'])\n"
        "except SystemExit as end:\n"
        "    assert not end.code\n"
    )
    assert not loaded_by(code) & (ESPNET | {"torch"})


def test_the_attention_modules_need_torch_alone():
    names = modules_of("position", "cache", "attention")
    assert len(names) >= 5
    block = "for name in ('espnet', 'espnet2', 'torchaudio', 'yaml'): sys.modules[name] = None\n"
    loaded_by(block + "".join(f"import {name}\n" for name in names))


@pytest.mark.parametrize("part", ["score", "report", "corpora"])
def test_what_reads_files_only_loads_no_torch(part):
    names = modules_of(part)
    assert names
    assert not loaded_by("".join(f"import {name}\n" for name in names)) & (ESPNET | {"torch"})


def test_a_class_has_a_name_of_its_own():
    places = collections.defaultdict(list)
    for file in ROOT.rglob("mtla_espnet/**/*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert len(places) > 50
    assert [where for where in places.values() if len(where) > 1] == []


def test_a_file_holds_one_behaviour():
    """No file has more lines than one can keep in mind."""
    files = list(ROOT.rglob("mtla_espnet/**/*.py"))
    sizes = {str(file.relative_to(ROOT)): file.read_text("utf-8").count("\n") for file in files}
    assert sum(sizes.values()) > 1000
    assert {name: size for name, size in sizes.items() if size > 350} == {}
