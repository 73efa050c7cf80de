"""Hooks of MkDocs: the pages of the site that are not in docs/, and those that are generated.

The site has the tree of the checkout, so that links between its pages are those of the checkout:
README.md, docs/, bench/RESULTS.md, egs2/<corpus>/<task>/README.md. Files that pages link to are
part of it. `mkdocs.yml` names this module; `make docs` builds the site.
"""

import contextlib
import importlib.util
import io
import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the tests read the pages without it
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files


CHECKOUT = Path(__file__).resolve().parents[1]
# MkDocs loads this file by its path, from anywhere.
sys.path.insert(0, str(CHECKOUT))

PAGES = ("*.md", "docs/*.md", "bench/*.md", "egs[23]/*/*/README.md")
_LINK = re.compile(r"(\]\()([^)#:\s]+)((?:#[^)\s]*)?\))")
_CELLS = str.maketrans({"|": "\\|", "<": "&lt;", "\n": " "})


def on_files(files: "Files", config: "MkDocsConfig") -> "Files":
    """Replace the files of docs/ by those of the checkout, and add what is generated."""
    from mkdocs.structure.files import File

    def add(path: Path) -> None:
        name = path.relative_to(CHECKOUT).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(path)))

    for file in list(files):
        if Path(file.abs_src_path).is_relative_to(config.docs_dir):  # others are of the theme
            files.remove(file)
    linked = set()
    for path in pages():
        linked |= {each for each in linked_files(path) if each.suffix != ".md"}
        add(path)
    for path in sorted(linked):
        add(path)
    for name, text in generated_pages().items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page, **_) -> str:
    """Let a link to a directory lead to its README.md."""
    place = CHECKOUT / page.file.src_uri

    def link(match: re.Match) -> str:
        target = place.parent / match[2]
        readme = f"{match[2].rstrip('/')}/README.md"
        return f"{match[1]}{readme if target.is_dir() else match[2]}{match[3]}"

    return _LINK.sub(link, markdown)


def pages() -> Iterator[Path]:
    """Yield the pages that are written by hand."""
    for pattern in PAGES:
        yield from sorted(CHECKOUT.glob(pattern))


def generated_pages() -> dict[str, str]:
    """Return the pages that are made of the code: place in the site -> Markdown."""
    return {
        "recipes.md": _recipes(),
        "reference/run_sh.md": _options(),
        "reference/command_line.md": _command_line(),
        "reference/python.md": _python(),
        **{f"reference/{name}.md": text for name, text in _rooms().items()},
    }


def linked_files(page: Path) -> Iterator[Path]:
    """Yield the files that a page links to."""
    for match in _LINK.finditer(page.read_text(encoding="utf-8")):
        target = Path(os.path.normpath(page.parent / match[2]))
        if target.is_file():
            yield target


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(head), ["---"] * len(list(head))]
    lines += [[str(cell).translate(_CELLS) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _recipes() -> str:
    """Return a list of the recipes, by the headings of their pages."""
    rows = []
    for path in sorted(CHECKOUT.glob("egs[23]/*/*/README.md")):
        place = path.relative_to(CHECKOUT)
        heading = path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
        rows.append((f"[{place.parent}]({place})", heading))
    return "# All recipes\n\n" + _table(("recipe", "what it is"), rows)


def _options() -> str:
    """Return the options of run.sh: a table a group, with the tasks that have each option."""
    from mtla_espnet.recipe.options import options_of
    from mtla_espnet.task import TASKS

    groups: dict[str, dict[tuple, list[str]]] = {}
    for task in TASKS:
        for group, options in options_of(task).items():
            for option in options:
                about = (option.name, _shown(option.default), _help(option))
                groups.setdefault(group, {}).setdefault(about, []).append(task)
    text = (
        "# Options of run.sh\n\nEvery option of every task, as `./run.sh --help` tells them. Names "
        "and defaults are those of ESPnet2's recipes. `--a_b V`, `--a-b V` and `--a_b=V` are the "
        "same.\n"
    )
    for group, options in groups.items():
        rows = [
            (f"`--{name}`", default, "all" if len(tasks) == len(TASKS) else ", ".join(tasks), help_)
            for (name, default, help_), tasks in sorted(options.items(), key=_by_name)
        ]
        text += f"\n## {group}\n\n{_table(('option', 'default', 'tasks', 'meaning'), rows)}"
    return text


def _by_name(item: tuple) -> str:
    return item[0][0]


def _shown(default: object) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    return "" if default in (None, "") else f"`{default}`"


def _help(option) -> str:
    text = option.help
    if option.choices:
        text += " One of " + ", ".join(f"`{each}`" for each in option.choices) + "."
    for value, why in option.unsupported.items():
        named = "any other value" if value is ... else f"`{_shown(value).strip('`')}`"
        text += f" {named}: {why}."
    return text


def _command_line() -> str:
    """Return the help of the command line and of each of its verbs."""
    from mtla_espnet.corpora import CORPORA
    from mtla_espnet.frontend import FEATS
    from mtla_espnet.task import TASKS

    # of the parser's own usage line: {a,b,c} is hidden behind VERB
    verbs = re.findall(r"^    (\w+) ", help_of([]), re.MULTILINE)
    inner = {"prepare": CORPORA, "feats": FEATS, "recipe": TASKS}
    text = "# Command line\n\n`. .venv/bin/activate` in the checkout provides `mtla-espnet`.\n"
    text += f"\n```\n{help_of([])}```\n"
    for verb in verbs:
        text += f"\n## {verb}\n\n```\n{help_of([verb])}```\n"
        if verb == "recipe":
            text += "\n[Options of run.sh](run_sh.md) are its options.\n"
            continue
        names = inner.get(verb) or re.findall(r"^    ([\w-]+) ", help_of([verb]), re.MULTILINE)
        for name in names if verb in ("prepare", "feats", "data") else ():
            text += f"\n### {verb} {name}\n\n```\n{help_of([verb, name])}```\n"
    return text


def help_of(words: list[str]) -> str:
    """Return what the command prints for `--help` after some words."""
    from mtla_espnet import cli

    printed = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    width = os.environ.get("COLUMNS")
    os.environ |= {"COLUMNS": "100", "NO_COLOR": "1"}
    try:
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            cli.main([*words, "--help"])
    finally:
        os.environ.pop("COLUMNS") if width is None else os.environ.update(COLUMNS=width)
    return printed.buffer.getvalue().decode()


def _python() -> str:
    """Return the page of the public names, with links to the rooms of the package."""
    import mtla_espnet

    text = "# Python\n\nThese names are imported from `mtla_espnet`.\n"
    for name in mtla_espnet.__all__:
        text += f"\n::: {mtla_espnet._PUBLIC[name]}.{name}\n    options: {{heading_level: 2}}\n"
    text += "\n## The package, room by room\n\n"
    return text + _table(
        ("room", "what is in it"),
        ((f"[`mtla_espnet.{name}`]({name}.md)", _first_line(name)) for name in _rooms()),
    )


def _rooms() -> dict[str, str]:
    """Return a page for each package or module of `mtla_espnet`: name -> Markdown."""
    found = {}
    for path in sorted((CHECKOUT / "mtla_espnet").iterdir()):
        name = path.stem
        if (path / "__init__.py").is_file() or (path.suffix == ".py" and name[0] != "_"):
            found[name] = f"::: mtla_espnet.{name}\n"
    return found


def _first_line(name: str) -> str:
    import ast

    path = importlib.util.find_spec(f"mtla_espnet.{name}").origin
    text = ast.get_docstring(ast.parse(Path(path).read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0]
