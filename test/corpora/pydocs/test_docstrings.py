import ast
import inspect
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.corpora.pydocs.docstrings import (
    STANDARD_LIBRARY,
    read_pairs,
    source_files,
    split_docstring,
    version,
)
from mtla_espnet.files import UserError

REST = " ".join(f"w{number}" for number in range(25))


@given(st.integers(1, 40), st.integers(0, 60))
def test_lengths_decide(summary_words, document_words):
    summary = " ".join(["word"] * summary_words)
    document = " ".join(["more"] * document_words)
    parts = split_docstring(f"{summary}\n   \n{document}\n")
    if 4 <= summary_words <= 25 and document_words >= 25:
        assert parts == (summary, document)
    else:
        assert parts is None


def test_only_the_first_paragraph_is_the_summary():
    summary, document = split_docstring(f"\n  One that\ngoes on.\n\nSecond.\n\n{REST}")
    assert summary == "One that goes on."
    assert document == f"Second. {REST}"


@pytest.mark.parametrize("word", ["\u200bfour", "\x07", "#0", "<s>"])
def test_what_cannot_stand_in_a_text_is_left_out(word):
    assert split_docstring(f"One two three four.\n\n{REST}") is not None
    assert split_docstring(f"One two three {word}.\n\n{REST} {word}") is None
    assert split_docstring(f"One two three four {word}\n\n{REST}") is None


def test_every_documented_object_is_read(tmp_path):
    path = tmp_path / "a.py"
    doc = f'"""%s does this thing.\n\n{REST}\n"""'
    path.write_text(
        f"{doc % 'Module'}\n"
        "if True:\n"
        "    class A:\n"
        f"        {doc % 'Class'}\n"
        "        async def b(self, maxItems):\n"
        f"            {doc % 'Method'}\n"
        "            def inner():\n"
        f"                {doc % 'Inner'}\n"
        "else:\n"
        "    def undocumented(): pass\n"
    )
    found = read_pairs(path, "pkg.a")
    assert [(pair.name, pair.summary.split()[0], pair.heading) for pair in found] == [
        ("pkg.a", "Module", "module pkg a"),
        ("pkg.a.A", "Class", "class a in pkg a"),
        ("pkg.a.A.b", "Method", "method b ( max items ) of a in pkg a"),
        ("pkg.a.A.b.inner", "Inner", "function inner of b in pkg a"),
    ]
    assert found[1].source == f"class a in pkg a [summary] {REST}"


def test_docstrings_are_those_of_the_imported_module():
    found = {pair.name: pair for pair in read_pairs(Path(json.__file__), "json")}
    for name in ("dump", "loads"):
        expected = inspect.getdoc(getattr(json, name))
        assert f"{found[f'json.{name}'].summary} {found[f'json.{name}'].document}" == " ".join(
            expected.split()
        )


@pytest.mark.parametrize("source", ["def f(:\n", "x = 1\0", '"""'])
def test_a_file_that_does_not_parse_has_no_pairs(tmp_path, source):
    (tmp_path / "a.py").write_text(source)
    with pytest.raises((SyntaxError, ValueError)):
        ast.parse(source)
    assert read_pairs(tmp_path / "a.py", "a") == []


def test_the_standard_library():
    assert version(STANDARD_LIBRARY).startswith("3.")
    modules = [module for _, module in source_files(STANDARD_LIBRARY)]
    assert modules == sorted(modules)
    assert {"argparse", "json", "json.decoder"} <= set(modules)
    assert not any("site-packages" in module or "test" in module.split(".") for module in modules)


def test_what_is_not_installed():
    assert version("no-such-package") is None
    with pytest.raises(UserError, match="no-such-package is not installed: pip install no-such"):
        source_files("no-such-package")
