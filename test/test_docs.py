"""What the pages tell a reader to type is there."""

import ast
import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
PAGES = [*CHECKOUT.glob("*.md"), *CHECKOUT.glob("docs/*.md"), *CHECKOUT.glob("egs[23]/*/*/*.md*")]


def page_id(path):
    return str(path.relative_to(CHECKOUT))


@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_a_page_activates_the_environment_before_it_calls_the_command(path):
    text = path.read_text(encoding="utf-8")
    shell = "".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
    called = re.search(r"^mtla-espnet ", shell, re.MULTILINE)
    if called:
        assert ". .venv/bin/activate " in shell[: called.start()]


@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_links_lead_to_files(path):
    text = path.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#\s]+)\)", text)
    local = [link for link in links if "://" not in link and not link.startswith("mailto:")]
    assert [link for link in local if not (path.parent / link).exists()] == []
    directories = [link for link in local if (path.parent / link).is_dir()]
    assert [link for link in directories if not (path.parent / link / "README.md").exists()] == []


def test_the_modules_of_the_page_run():
    names = {}
    for block in python_blocks("docs/attention.md"):
        exec(block, names)
    assert names["y"].shape == (2, 40, 512) and names["cache"].rows == 6
    assert names["model"].init_cache(1, 1).nbytes == 0


def test_the_module_of_the_readme_runs():
    names = {}
    exec(python_blocks("README.md")[0], names)
    assert names["y"].shape == (2, 64, 512)


def python_blocks(page):
    text = (CHECKOUT / page).read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


# A docstring is read alone, in an editor: it says what it means instead of where that is said.
POINTERS = re.compile(r"\bsee (there|above|below)\b|\blikewise\b|:\s+see `|^\s*See `", re.I | re.M)


@pytest.mark.parametrize("room", sorted(path.name for path in CHECKOUT.glob("mtla_espnet/*")))
def test_docstrings_can_be_read_alone(room):
    path = CHECKOUT / "mtla_espnet" / room
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    found = [
        f"{module.relative_to(CHECKOUT)}: {match.group()!r} in {getattr(node, 'name', 'header')}"
        for module in (path.rglob("*.py") if path.is_dir() else [path])
        if module.suffix == ".py"
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if isinstance(node, kinds)
        for match in POINTERS.finditer(ast.get_docstring(node) or "")
    ]
    assert found == []


@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_pages_say_what_they_mean(path):
    assert re.findall(r"\b(?:see there|likewise)\b", path.read_text(encoding="utf-8"), re.I) == []


@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_paths_of_the_package_are_there(path):
    text = path.read_text(encoding="utf-8")
    named = re.findall(r"`((?:mtla_espnet|test)/[\w/.]+)`", text)
    roots = (CHECKOUT, path.parent)
    missing = [name for name in named if not any((root / name).exists() for root in roots)]
    assert [name for name in missing if not re.match(r"\w+/a/\w+\.py", name)] == []
