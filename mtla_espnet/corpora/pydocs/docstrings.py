"""Docstrings of installed Python packages as pairs of a document and its summary.

Sources are parsed (`ast`), never imported. A docstring's first paragraph is the summary, and the
rest is the document:

    def square(x):
        \"\"\"Return the square of a number.          <- summary
                                                      <- blank line
        Parameters                                    <- document ...
        ----------
        x : float
            The number.
        \"\"\"
"""

import ast
import importlib.metadata
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from mtla_espnet.corpora.pydocs.heading import Documented, heading
from mtla_espnet.corpora.shared.summary_pairs import Pair, is_usable
from mtla_espnet.files import UserError

# The standard library, as the name of a package.
STANDARD_LIBRARY = "python"
SUMMARY_WORDS = (4, 25)
DOCUMENT_WORDS_LEAST = 25

# Directories of tests, and of other packages' code that a package carries with it.
_SKIPPED = {"test", "tests", "testing", "idlelib", "site-packages", "_vendor", "vendored"} | {
    "externals",
    "_vendored",
    "thirdparty",
}
_BLANK_LINE = re.compile(r"\n\s*\n")


def version(package: str) -> str | None:
    """Return the version of an installed package; None where it is not installed."""
    if package == STANDARD_LIBRARY:
        return ".".join(map(str, sys.version_info[:3]))
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def source_files(package: str) -> list[tuple[Path, str]]:
    """List the Python files of an installed package, but for tests and vendored code.

    Args:
        package: name of a distribution, or `STANDARD_LIBRARY`.

    Returns:
        Path and name of each module, sorted by name.

    Raises:
        UserError: it is not installed, or does not list its files.
    """
    if package == STANDARD_LIBRARY:
        root = Path(sysconfig.get_path("stdlib"))
        names = [path.relative_to(root) for path in root.rglob("*.py")]
    else:
        try:
            distribution = importlib.metadata.distribution(package)
        except importlib.metadata.PackageNotFoundError:
            raise UserError(f"{package} is not installed: pip install {package}") from None
        if distribution.files is None:
            raise UserError(f"{package} does not list its files: install it by pip")
        root = Path(str(distribution.locate_file("")))
        names = [Path(file) for file in distribution.files]
    found = []
    for name in names:
        parts = name.with_suffix("").parts
        outside = name.is_absolute() or ".." in parts
        if name.suffix == ".py" and not outside and not _SKIPPED.intersection(parts):
            module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found.append((root / name, module))
    return sorted(found, key=lambda file: file[1])


def read_pairs(path: Path, module: str) -> list[Pair]:
    """Read the pairs of one file, in its order.

    Args:
        path: Python source. One that this Python cannot parse has no pairs.
        module: its name.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what the sources' authors are told
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError, OSError):
        return []
    pairs = []
    for name, node, owner in _documented(tree, module):
        parts = split_docstring(ast.get_docstring(node) or "")
        if parts is not None:
            pairs.append(Pair(name, heading(node, module, owner), *parts))
    return pairs


def split_docstring(docstring: str) -> tuple[str, str] | None:
    r"""Split a docstring into summary and document; None where one has not the length.

    Example:
        >>> text = "Return the square of x.\n\n" + "It multiplies. " * 13
        >>> split_docstring(text)[0]
        'Return the square of x.'
        >>> split_docstring("Return the square of x.") is None
        True
    """
    first, *rest = _BLANK_LINE.split(docstring.strip(), maxsplit=1)
    summary, document = first.split(), " ".join(rest).split()
    least, most = SUMMARY_WORDS
    if not least <= len(summary) <= most or len(document) < DOCUMENT_WORDS_LEAST:
        return None
    if not is_usable(summary) or not is_usable(document):
        return None
    return " ".join(summary), " ".join(document)


def _documented(tree: ast.Module, module: str) -> Iterator[tuple[str, Documented, Documented]]:
    """Yield a module and every class and function in it: name, node, and in whose body it is."""
    yield module, tree, tree
    pending: list[tuple[str, ast.AST, Documented]] = [(module, tree, tree)]
    while pending:
        name, node, owner = pending.pop()
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            name = f"{name}.{node.name}"
            yield name, node, owner
            owner = node
        for child in reversed(list(ast.iter_child_nodes(node))):
            if isinstance(child, ast.stmt):
                pending.append((name, child, owner))
