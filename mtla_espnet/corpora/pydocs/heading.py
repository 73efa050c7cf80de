"""A line of words that says what a docstring documents, from the source but for the docstring.

    class CountVectorizer(Base):                    class count vectorizer ( base ) in text
        def fit_transform(self, X, maxItems=8):     method fit transform ( x max items )
            ...                                         of count vectorizer in text

Names are split into words, in lower case, so that a model that knows the words can read a name
that it never saw.
"""

import ast
import re

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef

# Parameters or bases that a heading names: some constructors have 60.
PARAMETERS_MOST = 8

# Capitals before a capitalised word; a word, with its digits; capitals.
_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z0-9]+|[A-Z0-9]+")


def heading(node: Documented, module: str, owner: Documented | None = None) -> str:
    r"""Say in words what a node is: kind, name, parameters or bases, owner and module.

    Args:
        node: what is documented.
        module: name of its module.
        owner: the class or function whose body it stands in; None or the module: none.

    Example:
        >>> source = "class HTTPCache(Cache):\n  def getItem(self, keys, *, n_jobs): ..."
        >>> outer = ast.parse(source).body[0]
        >>> heading(outer, "pkg.http_cache")
        'class http cache ( cache ) in pkg http cache'
        >>> heading(outer.body[0], "pkg", outer)
        'method get item ( keys n jobs ) of http cache in pkg'
        >>> heading(ast.parse(""), "pkg.http_cache")
        'module pkg http cache'
    """
    if isinstance(node, ast.Module):
        return f"module {name_words(module)}"
    parts = [_kind(node, owner), name_words(node.name)]
    inside = [name_words(name) for name in _parameters(node, owner)[:PARAMETERS_MOST]]
    if inside:
        parts += ["(", *inside, ")"]
    if owner is not None and not isinstance(owner, ast.Module):
        parts += ["of", name_words(owner.name)]
    parts += ["in", name_words(module)]
    return " ".join(part for part in parts if part)


def name_words(name: str) -> str:
    """Split a name at underscores, dots and changes of case.

    Example:
        >>> [name_words(name) for name in ("STFTMagnitude", "mel_to_hz", "pkg._Conv2dLayer", "_")]
        ['stft magnitude', 'mel to hz', 'pkg conv2d layer', '']
    """
    return " ".join(_WORD.findall(name)).lower()


def _kind(node: Documented, owner: Documented | None) -> str:
    if isinstance(node, ast.ClassDef):
        return "class"
    if any(ast.unparse(decorator).endswith("property") for decorator in node.decorator_list):
        return "property"
    return "method" if isinstance(owner, ast.ClassDef) else "function"


def _parameters(node: Documented, owner: Documented | None) -> list[str]:
    """Return the names between the parentheses of a definition, without `self` and `cls`."""
    if isinstance(node, ast.ClassDef):
        return [ast.unparse(base) for base in node.bases]
    given = node.args
    listed = [*given.posonlyargs, *given.args, given.vararg, *given.kwonlyargs, given.kwarg]
    names = [argument.arg for argument in listed if argument is not None]
    bound = isinstance(owner, ast.ClassDef) and names[:1] in (["self"], ["cls"])
    return names[1:] if bound else names
