"""While a model from elsewhere is built, nothing that came with it runs, whatever library reads it.

A pickle runs code by naming it, and libraries evaluate texts of checkpoints. Which library reads
which file is their own affair, and changes. So the interpreter itself is watched: inside
`nothing_runs` an unpickler that asks for a class or function, a shell, and a question to the
user are refused (by an audit hook, PEP 578); `torch.load` reads weights alone; `eval` takes plain
expressions alone; YAML names no Python. Imports are as ever: the code that runs is that of
installed packages.
"""

import argparse
import ast
import builtins
import contextlib
import contextvars
import math
import os
import pickle
import re
import sys
import threading
from collections.abc import Iterator

from mtla_espnet.files import UserError

HOW_TO_TRUST = (
    "store tensors and plain values alone in it (docs/trust.md), "
    "or say --trust_files true if you trust where it comes from"
)
# Tells processes that are spawned; set by the user's option, never by what is read.
_ENVIRONMENT = "MTLA_ESPNET_TRUST_FILES"
_SHELLS = frozenset(("sh", "bash", "dash", "zsh", "cmd.exe"))
_LONGEST_EXPRESSION = 10_000
_MOST_REPEATS = 10_000
_PLAIN = (
    *(ast.Expression, ast.Constant, ast.List, ast.Tuple, ast.Dict, ast.Name, ast.Attribute),
    *(ast.Subscript, ast.BinOp, ast.UnaryOp, ast.Add, ast.Sub, ast.Mult, ast.USub, ast.Load),
)

_trusted = contextvars.ContextVar("trusted", default=False)
_lock = threading.Lock()
# Open blocks -> the threads that were there before, which go on with their own work. A thread
# that a library starts inside a block is watched too.
_blocks: dict[object, frozenset[int]] = {}
_replaced: list[tuple[object, str, object]] = []
_watching = False


class _WouldRun(UserError):
    """Something was about to run that is not of an installed package."""


@contextlib.contextmanager
def files_trusted(trusted: bool = True) -> Iterator[None]:
    """Let what is loaded inside run code, where the user has said so.

    Args:
        trusted: False changes nothing.
    """
    token = _trusted.set(trusted or _trusted.get())
    try:
        yield
    finally:
        _trusted.reset(token)


@contextlib.contextmanager
def files_trusted_everywhere(trusted: bool) -> Iterator[None]:
    """Do the same in the processes, too, that are started inside.

    Args:
        trusted: False changes nothing.
    """
    before = os.environ.get(_ENVIRONMENT)
    if trusted:
        os.environ[_ENVIRONMENT] = "1"
    try:
        yield
    finally:
        if trusted and before is None:
            del os.environ[_ENVIRONMENT]


def add_trust_argument(parser: argparse.ArgumentParser) -> None:
    """Declare `--trust_files`, off by default, for commands that load models."""
    parser.add_argument(
        "--trust_files",
        type=_truth,
        default=False,
        metavar="true|false",
        help="let the model's files run code; for files whose maker you trust as yourself",
    )


def _truth(word: str) -> bool:
    if word not in ("true", "false"):
        raise ValueError(word)
    return word == "true"


def are_files_trusted() -> bool:
    """Tell whether the user said that what comes with models may run code."""
    return _trusted.get() or os.environ.get(_ENVIRONMENT) == "1"


@contextlib.contextmanager
def nothing_runs(name: str | os.PathLike) -> Iterator[None]:
    """Refuse inside whatever would run code out of a file; blocks may be nested.

    Does nothing where `are_files_trusted`. Threads that were running before are not watched.

    Args:
        name: of the file that is read; it begins the message.

    Raises:
        UserError: a file would have run code. It did not.

    Example:
        >>> with nothing_runs("a.pkl"):  # doctest: +ELLIPSIS
        ...     pickle.loads(pickle.dumps(print))
        Traceback (most recent call last):
        mtla_espnet.user_error.UserError: a.pkl: holds builtins.print, which would run as code: ...
    """
    if are_files_trusted():
        yield
        return
    try:
        with _watched():
            yield
    except Exception as error:
        refusal = _refusal(error)
        if refusal is None:
            raise
        raise UserError(f"{name}: {refusal}: {HOW_TO_TRUST}") from None


def _refusal(error: BaseException | None) -> _WouldRun | None:
    """Find what was refused; a library may have turned it into an error of its own."""
    while error is not None and not isinstance(error, _WouldRun):
        if isinstance(error, UserError):
            return None  # told already
        error = error.__cause__ or error.__context__
    return error


@contextlib.contextmanager
def _watched() -> Iterator[None]:
    global _watching
    block, me = object(), threading.get_ident()
    others = frozenset(each.ident for each in threading.enumerate()) - {me}
    with _lock:
        if not _watching:
            sys.addaudithook(_audit)  # it stays: Python has no way to remove one
            _watching = True
        if not _blocks:
            _replace()
        _blocks[block] = others
    try:
        yield
    finally:
        with _lock:
            del _blocks[block]
            if not _blocks:
                while _replaced:
                    setattr(*_replaced.pop())


def _is_watched() -> bool:
    me = threading.get_ident()
    return any(me not in others for others in tuple(_blocks.values()))


def _audit(event: str, arguments: tuple) -> None:
    if event in _EVENTS and _blocks and _is_watched():
        reason = _EVENTS[event](arguments)
        if reason:
            raise _WouldRun(reason)


def _starts(arguments: tuple) -> str | None:
    """Refuse shells; libraries look for the machine's own properties by other programs."""
    program = os.path.basename(os.fsdecode(arguments[0] or ""))
    return f"would start {program}" if program in _SHELLS else None


_EVENTS = {
    "pickle.find_class": lambda names: f"holds {names[0]}.{names[1]}, which would run as code",
    "os.system": lambda command: "would start a program",
    "os.exec": lambda command: "would start a program",
    "os.posix_spawn": lambda command: "would start a program",
    "pty.spawn": lambda command: "would start a program",
    "subprocess.Popen": _starts,
    # transformers and ESPnet ask whether code may run
    "builtins.input": lambda prompt: "needs code that came with it",
}


def _replace() -> None:
    """Put careful functions in the place of what would run code without an audit event."""
    import torch  # here: this module lies below those that need no torch
    from yaml.constructor import FullConstructor

    def refuse(*arguments, **keywords):
        raise _WouldRun("asks for code that came with it")

    for place, name, function in (
        (builtins, "eval", _careful_eval(builtins.eval)),
        (torch, "load", _weights_alone(torch.load)),
        (torch.jit, "load", refuse),
        (torch.hub, "load", refuse),
        (FullConstructor, "find_python_name", refuse),
        (FullConstructor, "find_python_module", refuse),
    ):
        _replaced.append((place, name, getattr(place, name)))
        setattr(place, name, function)


def _weights_alone(load):
    """Return `torch.load` that reads weights alone, whatever its caller asks for."""

    def load_weights(f, map_location=None, pickle_module=None, **keywords):
        if not _is_watched():
            return load(f, map_location, pickle_module, **keywords)
        from torch.serialization import safe_globals

        keywords["weights_only"] = True
        try:
            with safe_globals([argparse.Namespace]):  # holds values alone
                return load(f, map_location, **keywords)
        except pickle.UnpicklingError as error:
            named = re.search(r"GLOBAL ([\w.]+)", str(error))
            if named is None:  # it is no such file
                raise
            raise _WouldRun(f"holds {named[1]}, which would run as code") from None

    return load_weights


def _careful_eval(evaluate):
    """Return `eval` that takes plain expressions alone from functions of other packages."""

    def careful(source, /, globals=None, locals=None):
        caller = sys._getframe(1)
        if isinstance(source, str | bytes) and _is_watched() and not _is_at_home(caller):
            _check_expression(source if isinstance(source, str) else source.decode())
        if globals is None:
            globals = caller.f_globals
            locals = caller.f_locals if locals is None else locals
        return evaluate(source, globals, locals)

    return careful


def _is_at_home(caller) -> bool:
    """Tell whether a text to evaluate is the program's: of the standard library, or at import."""
    package = caller.f_globals.get("__name__", "").partition(".")[0]
    return package in sys.stdlib_module_names or caller.f_code.co_name == "<module>"


def _check_expression(source: str) -> None:
    """Refuse what calls something or grows; lists, sums, products and names are plain.

    Example:
        >>> _check_expression("[(512, 10, 5)] + [(512, 3, 2)] * 4")
        >>> _check_expression("print(1)")
        Traceback (most recent call last):
        mtla_espnet.trust._WouldRun: asks to evaluate 'print(1)'
    """
    if len(source) <= _LONGEST_EXPRESSION:
        try:
            nodes = list(ast.walk(ast.parse(source.strip(), mode="eval")))
        except SyntaxError:
            return  # `eval` says so
        names = [each.attr if isinstance(each, ast.Attribute) else each.id
                 for each in nodes if isinstance(each, ast.Attribute | ast.Name)]  # fmt: skip
        factors = [
            side.value
            for node in nodes
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult)
            for side in (node.left, node.right)
            if isinstance(side, ast.Constant) and isinstance(side.value, int)
        ]
        is_plain = all(isinstance(each, _PLAIN) for each in nodes)
        if (
            is_plain
            and math.prod(map(abs, factors)) <= _MOST_REPEATS
            and not any(name.startswith("__") for name in names)
        ):
            return
    shown = source if len(source) <= 60 else f"{source[:60]}..."
    raise _WouldRun(f"asks to evaluate {shown!r}")
