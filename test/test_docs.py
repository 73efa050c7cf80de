"""What the pages say of the tree is true."""

import re
import runpy
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "egs2/*/*/README.md", "bench/*.md")
    for path in CHECKOUT.glob(pattern)
    if path.name != "CHANGELOG.md"  # it tells of what was
)
# `mtla_espnet/position.py`, `conf/x.yaml`: from the root, or from the page's own folder.
_PATH = re.compile(r"`((?:mtla_espnet|egs2|conf|docs|test|tools|bench)/[\w./*-]+)`")
_LINK = re.compile(r"\]\((?!\w+:)([^)#\s]+)[^)]*\)")

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page.name != "espnet.md"],  # which names files of ESPnet's
    ids=lambda page: str(page.relative_to(CHECKOUT)),
)
def test_files_that_a_page_names_exist(page):
    names = _PATH.findall(page.read_text())
    missing = [name for name in names if not any((*CHECKOUT.glob(name), *page.parent.glob(name)))]
    assert not [name for name in missing if "/a/" not in name]  # a and b stand for any name


@pages
def test_links_lead_somewhere(page):
    missing = [to for to in _LINK.findall(page.read_text()) if not (page.parent / to).exists()]
    assert not missing


def test_the_glossary_defines_a_word_once():
    text = (CHECKOUT / "docs/architecture.md").read_text()
    section = text.split("## Words")[1].split("\n## ")[0]
    words = re.findall(r"^\| ([a-z]+) \|", section, re.MULTILINE)[1:]  # after the heading
    assert len(words) == len(set(words)) and 10 <= len(words) <= 20


def test_every_room_is_on_the_page():
    text = (CHECKOUT / "docs/architecture.md").read_text()
    folders = {path.parent.name for path in CHECKOUT.glob("mtla_espnet/*/__init__.py")}
    assert {name for name in folders if f"`mtla_espnet/{name}/`" not in text} == set()


def test_the_figures_are_drawn(tmp_path, monkeypatch):
    draw = runpy.run_path(str(CHECKOUT / "docs/figures/draw.py"))
    monkeypatch.setitem(draw["save"].__globals__, "HERE", tmp_path)
    draw["data_flow"]()
    draw["temporal_latent"]()
    committed = {path.name for path in (CHECKOUT / "docs/figures").glob("*.svg")}
    assert {path.name for path in tmp_path.iterdir()} == committed
    assert all(b"<svg" in path.read_bytes() for path in tmp_path.iterdir())
