"""The site has every page, option, command and public name, and its links lead somewhere."""

import ast
import importlib.util
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

import mtla_espnet
from mtla_espnet.recipe.options import options_of
from mtla_espnet.task import TASKS

CHECKOUT = Path(__file__).resolve().parents[2]
MKDOCS = yaml.safe_load((CHECKOUT / "mkdocs.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def site():
    spec = importlib.util.spec_from_file_location("docs_site", CHECKOUT / "tools/docs_site.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generated(site):
    return site.generated_pages()


def named_in(nav):
    """Return the pages that the navigation names."""
    if isinstance(nav, str):
        return [nav]
    values = nav.values() if isinstance(nav, dict) else nav
    return [page for value in values for page in named_in(value)]


def test_the_navigation_names_every_page_once(site, generated):
    named = named_in(MKDOCS["nav"])
    assert len(named) == len(set(named))
    written = {path.relative_to(CHECKOUT).as_posix() for path in site.pages()}
    recipes = {name for name in written if name.startswith("egs")}
    rooms = {f"reference/{path.stem}.md" for path in (CHECKOUT / "mtla_espnet").iterdir()}
    assert set(named) == (written - recipes) | (generated.keys() - rooms)
    assert all(f"({name})" in generated["recipes.md"] for name in recipes)


@pytest.mark.parametrize("task", TASKS)
def test_every_option_of_run_sh_is_there(generated, task):
    page = generated["reference/run_sh.md"]
    options = [option for group in options_of(task).values() for option in group]
    assert [each.name for each in options if f"| `--{each.name}` |" not in page] == []
    assert "`true`: not supported: decoding is a beam search of this project's own." in page


def test_every_command_is_there(generated):
    page = generated["reference/command_line.md"]
    for words in ("transcribe", "prepare table", "feats s3prl", "data check", "study", "align"):
        assert f"usage: mtla-espnet {words} " in page, words
    assert "--beam_size" in page and "\x1b" not in page


def test_every_public_name_and_room_is_there(generated):
    page = generated["reference/python.md"]
    assert all(f".{name}\n" in page for name in mtla_espnet.__all__)
    assert "[`mtla_espnet.attention`](attention.md)" in page
    assert generated["reference/attention.md"] == "::: mtla_espnet.attention\n"


def slug(heading):
    """Return the anchor of a heading, as MkDocs and GitHub make it."""
    text = re.sub(r"[`*]|\]\([^)]*\)|\[", "", heading).strip().lower()
    return re.sub(r"[^\w -]", "", text).replace(" ", "-")


def test_anchors_are_headings(site):
    wrong = []
    for path in site.pages():
        text = path.read_text(encoding="utf-8")
        for target, anchor in re.findall(r"\]\(([^)#\s:]*)#([^)\s]+)\)", text):
            page = (path.parent / target) if target else path
            headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
            if anchor not in map(slug, headings):
                wrong.append(f"{path.name}: {target}#{anchor}")
    assert wrong == []


def test_links_lead_to_pages_and_files_of_the_site(site):
    pages = set(site.pages())
    for path in pages:
        for target in re.findall(
            r"\]\(([^)#\s:]+)(?:#[^)\s]*)?\)", path.read_text(encoding="utf-8")
        ):
            found = Path(os.path.normpath(path.parent / target))
            found = found / "README.md" if found.is_dir() else found
            assert found in pages or found in set(site.linked_files(path)), (path, target)


def messages():
    """Yield the texts in the code; what is filled in is three dots."""
    for path in CHECKOUT.glob("mtla_espnet/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (getattr(part, "value", None) for part in node.values)
                yield "".join(part if isinstance(part, str) else "..." for part in parts)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
    yield (CHECKOUT / "tools/setup_env.sh").read_text(encoding="utf-8").replace('" \\\n', " ")


def test_the_messages_that_are_explained_are_those_of_the_code():
    page = (CHECKOUT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    explained = re.findall(r"^\*\*`([^`]+)`\*\*", page, re.MULTILINE)
    known = "\n".join(messages())
    others = {"mtla-espnet: command not found", "CUDA out of memory"}  # of the shell, of PyTorch
    assert len(explained) > 12
    assert [each for each in explained if each not in known and each not in others] == []


class Links(HTMLParser):
    """Collects what a page refers to, and the places in it that can be referred to."""

    def __init__(self, text):
        super().__init__()
        self.targets, self.places = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.places.update(filter(None, (found.get("id"), found.get("name"))))
        self.targets += filter(None, (found.get("href"), found.get("src")))


@pytest.mark.slow
def test_the_built_site_has_no_dead_link(tmp_path):
    build = pytest.importorskip("mkdocs.commands.build", reason="MkDocs is not installed")
    from mkdocs.config import load_config

    config = load_config(str(CHECKOUT / "mkdocs.yml"), site_dir=str(tmp_path))
    build.build(config)  # strict: a warning is an error
    found = {path: Links(path.read_text(encoding="utf-8")) for path in tmp_path.rglob("*.html")}
    dead = []
    for path, links in found.items():
        for target in links.targets:
            name, _, place = target.partition("#")
            if re.match(r"[a-z]+:", name) or path.name == "404.html":
                continue
            file = (path.parent / name).resolve() if name else path
            known = file in found and (not place or place in found[file].places)
            if not (known or (file.is_file() and file not in found)):
                dead.append(f"{path.relative_to(tmp_path)}: {target}")
    assert len(found) > 60 and dead == []
