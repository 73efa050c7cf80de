"""YAML as data alone, within bounds: a text costs no more than its length promises.

Aliases let a few hundred bytes stand for billions of values, or for a value that holds itself.
The events of a text are therefore counted, with every alias as large as what it stands for,
before anything is made of them.
"""

import os
import re
from collections.abc import Hashable

import yaml

from mtla_espnet.files import UserError, open_file, reading

MOST_BYTES = 16 << 20
MOST_VALUES = 1_000_000
MOST_LEVELS = 64

_NUMBER_AS_TEXT = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+")
# libyaml is about ten times as fast, and is not in every build of PyYAML.
_SAFE_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_SAFE_LOADER):
    """The safe loader, which names the line of every value that cannot be made.

    It refuses a doubled key instead of keeping the last one.
    """

    def construct_object(self, node, deep=False):
        try:
            return super().construct_object(node, deep)
        except yaml.YAMLError:
            raise
        except Exception as error:  # of a date, a huge number or a tag that does not fit
            raise yaml.constructor.ConstructorError(
                None, None, str(error) or type(error).__name__, node.start_mark
            ) from None

    def construct_mapping(self, node, deep=False):
        keys = set()
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=deep)
            if not isinstance(key, Hashable):
                break  # the base class says so
            if key in keys:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is given twice", key_node.start_mark
                )
            keys.add(key)
        return super().construct_mapping(node, deep)


def parse_yaml(text: str, source: str | os.PathLike, line: int | None = 1) -> object:
    """Return the value that a YAML text holds; None: it is empty.

    Args:
        text: one document.
        source: the file or option that holds it, for messages.
        line: the number of the text's first line in the source; None: it has no lines.

    Raises:
        UserError: it is not YAML, gives a key twice, asks for something else than data, or is
            larger or deeper than the bounds of this module; names the line.

    Example:
        >>> parse_yaml("[1, 2.5, {a: true}]", "--asr_args")
        [1, 2.5, {'a': True}]
    """
    try:
        _check_bounds(text)
        return yaml.load(text, _Loader)  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark, reason = error.problem_mark, error.problem or error.context
        where = f":{line + mark.line}" if line is not None and mark else ""
    except yaml.YAMLError as error:
        where, reason = "", " ".join(str(error).split())
    raise UserError(f"{source}{where}: not valid YAML: {str(reason)[:200]}")


def _check_bounds(text: str) -> None:
    """Count the values of a text and their levels, aliases as what they stand for."""
    anchors: dict[str, tuple[int, int] | None] = {}  # (values, levels); None: not yet ended
    open_collections: list[tuple[str | None, int, int]] = [(None, 0, 0)]  # anchor, values, levels
    for event in yaml.parse(text, _SAFE_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            anchors[event.anchor] = None
            open_collections.append((event.anchor, 1, 0))
            size = (0, 0)
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, values, levels = open_collections.pop()
            size = anchors[anchor] = (values, levels + 1)
        elif isinstance(event, yaml.ScalarEvent):
            size = anchors[event.anchor] = (1, 0)
        elif isinstance(event, yaml.AliasEvent):
            size = anchors.get(event.anchor, (1, 0))  # one that is not there is told later
        else:
            continue
        anchor, values, levels = open_collections[-1]
        problem = None
        if size is None:
            problem = f"the value of &{event.anchor} holds itself"
        elif values + size[0] > MOST_VALUES:
            problem = f"it stands for more than {MOST_VALUES} values"
        elif len(open_collections) - 1 + size[1] > MOST_LEVELS:
            problem = f"it is nested more than {MOST_LEVELS} levels deep"
        if problem:
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
        open_collections[-1] = (anchor, values + size[0], max(levels, size[1]))


def read_yaml(path: str | os.PathLike) -> object:
    """Return the value that a YAML file holds; None: it is empty.

    Raises:
        UserError: it is not a regular file, not UTF-8, or what `parse_yaml` refuses.
    """
    with open_file(path) as stream, reading(path):
        content = stream.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise UserError(f"{path}: is larger than {MOST_BYTES >> 20} MiB, which no YAML here is")
    with reading(path, "not UTF-8 text"):
        text = content.decode("utf-8")
    return parse_yaml(text, path)


def load_yaml(path: str | os.PathLike) -> dict:
    """Return the mapping that a configuration holds; an empty file gives {}.

    Raises:
        UserError: `read_yaml` refuses the file, or it holds something other than a mapping,
            or a number that YAML reads as text.
    """
    value = read_yaml(path)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UserError(f"{path}: must hold `key: value` lines, not {type(value).__name__}")
    check_numbers(value, path)
    return value


def dump_yaml(config: dict) -> str:
    """Return YAML text that `load_yaml` reads back, keys in their order."""
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True)


def check_numbers(value: object, source: str | os.PathLike, where: str = "") -> None:
    """Refuse `lr: 1e-3`: YAML 1.1 asks for a point, so it is the text "1e-3".

    Args:
        value: of `parse_yaml`.
        source: the file or option that holds it, for messages.
        where: dotted path of the value in it; empty at the top.

    Raises:
        UserError: names the key and how to write the number.
    """
    if isinstance(value, dict):
        for key, inner in value.items():
            check_numbers(inner, source, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list):
        for inner in value:
            check_numbers(inner, source, where)
    elif isinstance(value, str) and _NUMBER_AS_TEXT.fullmatch(value):
        mantissa, exponent = re.split("[eE]", value)
        mantissa += "0" if mantissa.endswith(".") else "" if "." in mantissa else ".0"
        sign = "" if exponent[0] in "+-" else "+"
        raise UserError(
            f"{source}: {where}: YAML reads {value} as text; write {mantissa}e{sign}{exponent}"
        )
