import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.corpora.pydocs.heading import PARAMETERS_MOST, heading, name_words


def definition(source):
    return ast.parse(source).body[0]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("get_window", "get window"),
        ("GetHTTPResponse", "get http response"),
        ("getX", "get x"),
        ("MFCC", "mfcc"),
        ("T5Model", "t5 model"),
        ("WAV2VEC2_BASE", "wav2vec2 base"),
        ("conv2d", "conv2d"),
        ("__init__", "init"),
        ("scipy.signal._windows", "scipy signal windows"),
        ("___", ""),
    ],
)
def test_words_of_a_name(name, words):
    assert name_words(name) == words


@given(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]*", fullmatch=True))
def test_words_have_all_letters_and_digits_of_a_name(name):
    words = name_words(name)
    assert words.replace(" ", "") == name.replace("_", "").lower()
    assert words == " ".join(words.split())


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def f(): ...", "function f in m"),
        ("async def f(): ...", "function f in m"),
        ("def f(a, /, bC, *d, e=1, **g): ...", "function f ( a b c d e g ) in m"),
        ("def f(self): ...", "function f ( self ) in m"),
        ("class A: ...", "class a in m"),
        ("class A(b.C, D[int], metaclass=E): ...", "class a ( b c d int ) in m"),
    ],
)
def test_definitions(source, expected):
    assert heading(definition(source), "m") == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def f(self, x): ...", "method f ( x ) of aa bb in m"),
        ("@classmethod\ndef f(cls): ...", "method f of aa bb in m"),
        ("@staticmethod\ndef f(x): ...", "method f ( x ) of aa bb in m"),
        ("@property\ndef f(self): ...", "property f of aa bb in m"),
        ("@functools.cached_property\ndef f(self): ...", "property f of aa bb in m"),
        ("class C: ...", "class c of aa bb in m"),
    ],
)
def test_members_of_a_class(source, expected):
    assert heading(definition(source), "m", definition("class AaBb: ...")) == expected


def test_the_module_is_no_owner():
    tree = ast.parse("def f(): ...")
    assert heading(tree.body[0], "m", tree) == "function f in m"


def test_only_the_first_parameters_are_named():
    names = [f"p{number}" for number in range(PARAMETERS_MOST + 3)]
    expected = f"function f ( {' '.join(names[:PARAMETERS_MOST])} ) in m"
    assert heading(definition(f"def f({', '.join(names)}): ..."), "m") == expected


def test_a_heading_tells_nothing_of_docstring_defaults_or_body():
    bare = definition("def f(x): ...")
    full = definition('def f(x: "secret" = "secret") -> "secret":\n  """Secret."""\n  secret = 1')
    assert heading(full, "m") == heading(bare, "m")
