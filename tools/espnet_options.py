#!/usr/bin/env python3
"""Write the table of ESPnet's options that recipes' YAML files are checked by.

Importing ESPnet's tasks costs 9 s, so a recipe checks its files by this table. A test
compares it with the installed ESPnet.

usage: tools/espnet_options.py          write mtla_espnet/recipe/espnet_options.json
       tools/espnet_options.py --print  print it instead
"""

import importlib
import inspect
import json
import sys
from pathlib import Path

TABLE = Path(__file__).resolve().parents[1] / "mtla_espnet/recipe/espnet_options.json"


def collect() -> dict:
    """Read the options of training and decoding, with this project's classes registered.

    Returns:
        Program -> `options`: names of its options; for training also `choices`: option that
        names a class -> `default` and `classes`: name -> arguments (None: it takes any).
    """
    import mtla_espnet.tasks  # noqa: F401  (registers)

    search = importlib.import_module("mtla_espnet.inference.trained_model")
    return {
        "asr_train": _training("asr", "ASRTask"),
        "st_train": _training("st", "STTask"),
        "slu_train": _training("slu", "SLUTask"),
        "mt_train": _training("mt", "MTTask"),
        "lm_train": _training("lm", "LMTask"),
        # Decoding is our own, by ESPnet's names.
        "inference": {"options": sorted(search.DECODING_OPTIONS)},
    }


def _training(name: str, task_name: str) -> dict:
    from espnet2.tasks import abs_task

    task = getattr(importlib.import_module(f"espnet2.tasks.{name}"), task_name)
    parser = task.get_parser()
    choices = {
        choice.name: {
            "default": choice.default,
            "classes": {name: _arguments(cls) for name, cls in sorted(choice.classes.items())},
        }
        for choice in task.class_choices_list
    }
    if "model" not in choices:  # one class, which ESPnet does not let choose
        module = importlib.import_module(f"espnet2.{name}.espnet_model")
        model = getattr(module, f"ESPnet{name.upper()}Model")
        choices["model"] = {"default": name, "classes": {name: _arguments(model)}}
    for name, classes in (
        ("optim", abs_task.optim_classes),
        ("scheduler", abs_task.scheduler_classes),
    ):
        choices[name] = {
            "default": parser.get_default(name),
            "classes": {key: _arguments(cls) for key, cls in sorted(classes.items())},
        }
    return {"options": _options(parser), "choices": choices}


def _options(parser) -> list[str]:
    return sorted({action.dest for action in parser._actions} - {"help", "config"})


def _arguments(cls) -> list[str] | None:
    parameters = inspect.signature(cls).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return sorted(p.name for p in parameters if p.kind is not p.VAR_POSITIONAL)


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
