"""The command line of a recipe: parsing, checks and help follow from the table of options."""

import dataclasses
import functools
import os
import re
import shlex
import textwrap
from collections.abc import Sequence
from types import SimpleNamespace

from mtla_espnet.config import nearest
from mtla_espnet.files import UserError
from mtla_espnet.recipe.espnet_options import where_given
from mtla_espnet.recipe.model_option_table import MODEL_OPTIONS
from mtla_espnet.recipe.option_table import DATA_OPTIONS
from mtla_espnet.task import TASKS
from mtla_espnet.task.option import Option
from mtla_espnet.yaml_files import load_yaml

_FACTOR = re.compile(r"[0-9]+(\.[0-9]+)?")
_RATE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(k?)(?:hz)?", re.IGNORECASE)
# Endings of options that are words of a command line, and of those that are lists of symbols.
_PROGRAM_TEXTS = ("_args", "_opts")
_LISTS = ("_nlsyms",)
USUAL_RATE_HZ = 16000  # that configurations are made for
LONGEST_NAME = 255  # bytes, on the file systems of Linux
_SIDES = {"": "", "src_": "Source: ", "tgt_": "Target: "}


@functools.cache
def options_of(task: str) -> dict[str, list[Option]]:
    """Return the options that a task's recipes have: group -> options.

    Example:
        >>> [option.name for option in options_of("st")["Tokens"]][:3]
        ['token_joint', 'tgt_token_type', 'src_token_type']
    """
    record = TASKS[task]
    return {
        group: [
            named
            for option in (*options, *record.options.get(group, ()))
            if not option.of or record.traits.intersection(option.of)
            for named in _for_task(option, task)
        ]
        for group, options in (DATA_OPTIONS | MODEL_OPTIONS).items()
    }


def default_of(task: str, name: str) -> bool | int | float | str | None:
    """Return the default of an option of a task's recipes."""
    return next(
        option.default
        for options in options_of(task).values()
        for option in options
        if option.name == name
    )


def _for_task(option: Option, task: str) -> list[Option]:
    model, name = TASKS[task].model, option.name
    sides = TASKS[task].sides if "{side}" in name else ("",)
    return [
        dataclasses.replace(
            option,
            name=name.replace("{model}", model).replace("{side}", side),
            help=_SIDES[side] + option.help.replace("{model}", model),
        )
        for side in sides
    ]


def parse_options(
    argv: Sequence[str], program: str = "run.sh", task: str = "asr"
) -> SimpleNamespace | None:
    """Parse a recipe's command line.

    `--a_b V`, `--a-b V`, `--a_b=V` and `--a-b=V` are the same; the last one wins. The
    options of `--config FILE` (YAML) are read first, wherever it stands.

    Args:
        argv: the words of the command line.
        program: name in front of the messages.
        task: name of the recipe's task, which says what options there are.

    Returns:
        One attribute an option, of its type, and `task`. None: the help is asked for.

    Raises:
        UserError: an unknown option (exit code 1), a positional argument, a missing or
            wrong value (2).
    """
    table = {option.name: option for group in options_of(task).values() for option in group}
    given: list[tuple[str, str]] = []
    words = list(argv)
    while words:
        word = words.pop(0)
        if word in ("--help", "-h"):
            return None
        if not word.startswith("--"):
            raise UserError(f"{program}: unexpected argument {word!r}{_advice(word, given)}", 2)
        name, equals, value = word[2:].partition("=")
        name = name.replace("-", "_")
        if name != "config" and name not in table:
            place = where_given(name, TASKS[task].model, TASKS[task].program, table)
            advice = f"(ESPnet's: give it by {place})" if place else nearest(name, table)
            message = f"{program}: invalid option {word.partition('=')[0]}"
            raise UserError(f"{message} {advice}; --help lists all")
        if not equals:
            if not words:
                raise UserError(f"{program}: option --{name} needs a value", exit_code=2)
            value = words.pop(0)
        given.append((name, value))

    values = {name: option.default for name, option in table.items()}
    for path in [value for name, value in given if name == "config"]:
        for name, value in load_yaml(path).items():
            if name not in table:
                raise UserError(f"{path}: invalid option {name!r} {nearest(name, table)}")
            values[name] = _convert(table[name], _as_word(value), f"{path}: {name}")
    for name, value in given:
        if name != "config":
            values[name] = _convert(table[name], value, f"{program}: --{name}")
    return SimpleNamespace(task=task, **values)


def _advice(word: str, given: Sequence[tuple[str, str]]) -> str:
    """Return what to do about a word that is no option's value, in view of those before it."""
    name, value = given[-1] if given else ("", "")
    if name.endswith(("_args", "_opts")) and value.startswith("--"):
        return f': quote what --{name} takes, as in --{name} "{value} {word}"'
    return "; options are --name value"


def check_supported(options: SimpleNamespace, program: str = "run.sh") -> None:
    """Refuse what this project cannot do yet, instead of leaving it out in silence.

    Raises:
        UserError: an option asks for it; says why or what to do.
    """
    for option in (option for group in options_of(options.task).values() for option in group):
        value = getattr(options, option.name)
        reason = option.unsupported.get(value)
        if value != option.default:
            reason = reason or option.unsupported.get(...)
        if reason:
            raise UserError(f"{program}: --{option.name} {_as_word(value)}: {reason}", exit_code=2)


def _as_word(value) -> str:
    """Write a YAML value as the command line would: true, `a b` for a list, "" for null."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "" if value is None else str(value)


def _convert(option: Option, text: str, where: str) -> bool | int | float | str | None:
    default = option.default
    _check_text(option.name, text, where)
    if isinstance(default, bool):
        if text not in ("true", "false"):
            raise UserError(f"{where} must be true or false, not {text!r}", exit_code=2)
        return text == "true"
    if default is None or isinstance(default, int | float):
        kind = float if isinstance(default, float) else int
        try:
            value = kind(text)
        except ValueError:
            what = "a number" if kind is float else "a whole number"
            raise UserError(f"{where} must be {what}, not {text!r}", exit_code=2) from None
        if not 0 <= value < float("inf"):
            raise UserError(f"{where} must be a number from 0 on, not {text!r}", exit_code=2)
        return value
    if option.choices and text not in option.choices:
        raise UserError(f"{where} must be one of {', '.join(option.choices)}, not {text!r}", 2)
    return text


def options_of_stage(task: str, number: int) -> list[Option]:
    """Return the options of a task's recipes that change what a stage makes.

    Example:
        >>> [option.name for option in options_of_stage("asr", 3)]
        ['audio_format', 'channel', 'max_rejected']
    """
    every = (option for options in options_of(task).values() for option in options)
    return [option for option in every if number in option.changes]


def _check_text(name: str, text: str, where: str) -> None:
    """Refuse what no program and no file can be given."""
    if "\0" in text:
        raise UserError(f"{where} has a zero byte", exit_code=2)
    if name.endswith(_PROGRAM_TEXTS):
        try:
            shlex.split(text)
        except ValueError as error:
            raise UserError(f"{where} {text!r}: {error}", exit_code=2) from None
    elif not name.endswith(_LISTS):
        for part in text.replace("/", " ").split():
            if len(os.fsencode(part)) > LONGEST_NAME:
                raise UserError(
                    f"{where}: {part[:40]}... has {len(os.fsencode(part))} bytes, and the name "
                    f"of a file has {LONGEST_NAME} at most",
                    exit_code=2,
                )


def sampling_rate(text: str) -> int:
    """Return the rate in Hz that `--fs` names.

    Raises:
        UserError: it is not a rate.

    Example:
        >>> sampling_rate("16k"), sampling_rate("22.05 kHz"), sampling_rate("8000")
        (16000, 22050, 8000)
    """
    match = _RATE.fullmatch(text.strip())
    rate = round(float(match[1]) * (1000 if match[2] else 1)) if match else 0
    if rate < 1:
        raise UserError(f"run.sh: --fs must be a rate such as 16k or 16000, not {text!r}", 2)
    return rate


def rate_tag(fs: str) -> str:
    """Return what names have of a sampling rate; those of the usual one have nothing.

    Example:
        >>> rate_tag("16k"), rate_tag("8000"), rate_tag("22.05k")
        ('', '_8k', '_22.05k')
    """
    rate_hz = sampling_rate(fs)
    return "" if rate_hz == USUAL_RATE_HZ else f"_{rate_hz / 1000:g}k"


def speed_factors(text: str) -> list[str]:
    """Return the factors that `--speed_perturb_factors` names, as they are written.

    Raises:
        UserError: one is not a number from 0.1 to 10, or is there twice.

    Example:
        >>> speed_factors("0.9 1.0 1.1")
        ['0.9', '1.0', '1.1']
    """
    factors = text.split()
    where = "run.sh: --speed_perturb_factors"
    for word in factors:
        if not _FACTOR.fullmatch(word) or not 0.1 <= float(word) <= 10:
            raise UserError(f"{where} must be numbers from 0.1 to 10, not {word!r}", 2)
    if len(set(map(float, factors))) < len(factors):
        raise UserError(f"{where} {text!r} names a factor twice", 2)
    return factors


def help_text(program: str = "run.sh", task: str = "asr") -> str:
    """Return the table of all options of a task's recipes, as `--help` prints it."""
    lines = [
        f"usage: ./{program} [--config FILE] [--option value] ...",
        "",
        "Options (--a_b V, --a-b V and --a_b=V are the same):",
    ]
    for group, options in options_of(task).items():
        lines += ["", f"{group}:"]
        for option in options:
            default = _as_word(option.default)
            name = f"  --{option.name}"
            text = option.help
            if option.choices:
                text += f" One of {', '.join(option.choices)}."
            if ... in option.unsupported:
                text += " Only the default is supported yet."
            if default:
                text += f" Default: {default}."
            wrapped = textwrap.wrap(text, 66)
            lines.append(f"{name:<27} {wrapped[0]}")
            lines += [" " * 28 + line for line in wrapped[1:]]
    return "\n".join(lines) + "\n"
