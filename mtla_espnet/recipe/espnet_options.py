"""ESPnet's options, from a table: which there are, what their values may be, where they are given.

Importing ESPnet's tasks costs ten seconds, so `tools/espnet_options.py` writes the table, and a
test compares it with the installed ESPnet.
"""

import difflib
import functools
import math
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from mtla_espnet.config import nearest
from mtla_espnet.files import UserError
from mtla_espnet.json_files import read_json

_TABLE = Path(__file__).with_name("espnet_options.json")
_SIZE = re.compile(r"[0-9.]+\s*[A-Za-z]*")
_NONE = ("none", "null", "nil")
_TRUTH = {"y", "yes", "t", "true", "on", "1", "n", "no", "f", "false", "off", "0"}
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "size": "a size such as 2GB",
    "mapping": "`key: value` lines",
}
# ESPnet takes less, and fails in the middle of a stage.
_LEAST = {
    "accum_grad": 1,
    "batch_bins": 1,
    "batch_size": 1,
    "log_interval": 1,
    "max_epoch": 1,
    "min_batch_size": 1,
    "num_iters_per_epoch": 1,
    "num_workers": 0,
    "save_interval_updates": 0,
    "seed": 0,
    "train_graphs": 0,
    "valid_batch_bins": 1,
    "valid_batch_size": 1,
}


@functools.cache
def espnet_table() -> dict:
    """Return program -> `options` and `choices`, as `tools/espnet_options.py` describes them."""
    return read_json(_TABLE)


def check_values(config: Mapping, source: str, program: str) -> None:
    """Check the values of ESPnet's options: their kinds, and what they may be.

    Args:
        config: option -> value, as YAML reads it; the options are known.
        source: the file or option that holds them, for messages.
        program: of ESPnet, which has the options.

    Raises:
        UserError: names the option and what its value may be.

    Example:
        >>> check_values({"max_epoch": 3}, "train.yaml", "asr_train")
        >>> check_values({"max_epoch": "three"}, "train.yaml", "asr_train")
        Traceback (most recent call last):
        mtla_espnet.user_error.UserError: train.yaml: max_epoch must be a whole number, not 'three'
    """
    rules = espnet_table()[program]["options"]
    for name, value in config.items():
        rule = rules[name]
        is_list = isinstance(value, list) and rule.get("many")
        for each in value if is_list else [value]:
            _check_value(name, each, rule, source)


def _check_value(name: str, value: object, rule: Mapping, source: str) -> None:
    if value is None or str(value).lower() in _NONE:
        # an empty mapping in YAML is None too
        if rule.get("none") or rule.get("kind") in (None, "mapping") and "choices" not in rule:
            return
    choices = rule.get("choices")
    if choices and not {str(value), str(value).lower(), str(value).upper()} & set(choices):
        raise UserError(f"{source}: {name}: unknown {value!r} {nearest(str(value), choices)}")
    kind = rule.get("kind")
    if kind and not _is_of_kind(value, kind):
        alternative = " or none" if rule.get("none") else ""
        raise UserError(f"{source}: {name} must be {_WORDS[kind]}{alternative}, not {value!r}")
    if name in _LEAST and int(value) < _LEAST[name]:
        raise UserError(f"{source}: {name} must be {_LEAST[name]} or more, not {value!r}")


def _is_of_kind(value: object, kind: str) -> bool:
    """Tell whether ESPnet's parser takes a value; it reads texts as those of a command line."""
    if kind == "mapping":
        return value is None or isinstance(value, Mapping)
    if kind == "bool":
        return str(value).lower() in _TRUTH
    if isinstance(value, bool):
        return False
    if kind == "size":
        return isinstance(value, int | float) or bool(_SIZE.fullmatch(str(value)))
    if isinstance(value, str):
        try:
            value = (int if kind == "int" else float)(value)
        except ValueError:
            return False
    if kind == "int":
        return isinstance(value, int)
    return isinstance(value, int | float) and not math.isnan(value)


def where_given(name: str, model: str, program: str, known: Collection[str] = ()) -> str | None:
    """Return how a recipe's command line gives an option of ESPnet's programs; None: no such one.

    Args:
        name: of the option, or of an argument of a class that an option chooses.
        model: `asr`, `st`, `slu` or `mt`.
        program: of ESPnet, which trains the model.
        known: other options; who spells one of them nearly right means none of ESPnet's.

    Example:
        >>> where_given("max_epoch", "asr", "asr_train")
        '--asr_args "--max_epoch ..."'
        >>> where_given("lr", "asr", "asr_train")
        '--asr_args "--optim_conf lr=..."'
    """
    table = espnet_table()
    if name in table[program]["options"]:
        return f'--{model}_args "--{name} ..."'
    if name in table["inference"]["options"]:
        return f'--inference_args "--{name} ..."'
    places = [
        f'--{model}_args "--{choice}_conf {name}=..."'
        for choice, chosen in table[program]["choices"].items()
        if any(name in (arguments or ()) for arguments in chosen["classes"].values())
    ]
    if places:
        return " or ".join(places[:3])
    if difflib.get_close_matches(name, known, n=1, cutoff=0.8):
        return None
    names = [*table[program]["options"], *table["inference"]["options"]]
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.8)
    return where_given(close[0], model, program) if close else None
