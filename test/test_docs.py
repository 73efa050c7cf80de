"""What the pages tell a reader to type is there."""

import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
PAGES = [*CHECKOUT.glob("*.md"), *CHECKOUT.glob("docs/*.md"), *CHECKOUT.glob("egs2/*/*/*.md*")]


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


def test_the_modules_of_the_readme_run():
    text = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    section = text.partition("## The attention alone")[2].partition("\n## ")[0]
    names = {}
    for block in re.findall(r"```python\n(.*?)```", section, re.DOTALL):
        exec(block, names)
    assert names["y"].shape == (2, 40, 512) and names["cache"].rows == 6
    assert names["model"].init_cache(1, 1).nbytes == 0
