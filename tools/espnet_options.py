#!/usr/bin/env python3
"""Write the table of ESPnet's options that recipes' YAML files are checked by.

Importing ESPnet's tasks costs 9 s, so a recipe checks its files by this table. A test
compares it with the installed ESPnet.

usage: tools/espnet_options.py          write mtla_espnet/recipe/espnet_options.json
       tools/espnet_options.py --print  print it instead
"""

import importlib
import json
import sys
from pathlib import Path

TABLE = Path(__file__).resolve().parents[1] / "mtla_espnet/recipe/espnet_options.json"


def collect() -> dict:
    """Read the options of training and decoding, with this project's classes registered.

    Returns:
        Program -> `options`: name -> what its value may be (see `_values`); for training also
        `choices`: option that names a class -> `default` and `classes`: name -> arguments
        (None: it takes any).
    """
    import mtla_espnet.tasks  # noqa: F401  (registers)
    from mtla_espnet.task import TASKS

    search = importlib.import_module("mtla_espnet.inference.trained_model")
    return {
        **{task.program: _training(task.model, task.espnet_task) for task in TASKS.values()},
        "lm_train": _training("lm", "LMTask"),
        # Decoding is our own, by ESPnet's names.
        "inference": {"options": {name: {} for name in search.DECODING_OPTIONS}},
    }


def _training(name: str, task_name: str) -> dict:
    from espnet2.tasks import abs_task

    from mtla_espnet.tasks.choices import class_arguments, class_choices

    task = getattr(importlib.import_module(f"espnet2.tasks.{name}"), task_name)
    parser = task.get_parser()
    choices = class_choices(task)
    if "model" not in choices:  # one class, which ESPnet does not let choose
        module = importlib.import_module(f"espnet2.{name}.espnet_model")
        model = getattr(module, f"ESPnet{name.upper()}Model")
        choices["model"] = {"default": name, "classes": {name: class_arguments(model)}}
    for name, classes in (
        ("optim", abs_task.optim_classes),
        ("scheduler", abs_task.scheduler_classes),
    ):
        choices[name] = {
            "default": parser.get_default(name),
            "classes": {key: class_arguments(cls) for key, cls in sorted(classes.items())},
        }
    # what names a class is checked by the classes
    options = _options(parser) | {name: {} for name in choices if name != "model"}
    return {"options": options, "choices": choices}


# Functions by which ESPnet's parsers read a value -> kind of value, and whether none is one.
_KINDS = {
    "int": ("int", False),
    "int_or_none": ("int", True),
    "float": ("float", False),
    "float_or_none": ("float", True),
    "str2bool": ("bool", False),
    "parse_size": ("size", False),
    "humanfriendly_parse_size_or_none": ("size", True),
}


def _options(parser) -> dict[str, dict]:
    names = {action.dest: action for action in parser._actions}
    return {name: _values(names[name]) for name in names.keys() - {"help", "config"}}


def _values(action) -> dict:
    """Return what an option's value may be.

    Returns:
        `kind`: int, float, bool, size or mapping, where it is known; `none`: it may be unset;
        `many`: it is a list; `choices`: words that it may be. What is not there holds for no
        value: an empty mapping stands for any.
    """
    kind, none = _KINDS.get(getattr(action.type, "__name__", ""), (None, False))
    choices = [choice for choice in action.choices or () if choice is not None]
    found = {
        "kind": "mapping" if type(action).__name__ == "NestedDictAction" else kind,
        "none": none or action.default is None or len(choices) < len(action.choices or ()),
        "many": action.nargs in ("+", "*") or type(action).__name__ == "_AppendAction",
        "choices": choices,
    }
    return {name: value for name, value in found.items() if value}


def main() -> None:
    """Write or print the table."""
    text = json.dumps(collect(), indent=None, sort_keys=True)
    text = text.replace('"}, "', '"},\n"').replace('], "', '],\n"') + "\n"
    if sys.argv[1:] == ["--print"]:
        print(text, end="")
    elif sys.argv[1:]:
        sys.exit(__doc__)
    else:
        TABLE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(TABLE.parents[2]))
    main()
