"""The command line: `mtla-espnet` and `python -m mtla_espnet`. Arguments only.

Modules are imported by the verb that needs them, so that `--help` is instant.
"""

import argparse
import importlib
import logging
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from mtla_espnet import missing_recipes
from mtla_espnet.files import UserError, place_error
from mtla_espnet.inference.verbs import add_align_verb, add_decoding_verb
from mtla_espnet.other_user import give_what_is_missing
from mtla_espnet.signals import end_by_exception
from mtla_espnet.task import TASKS, task_named

_INTERRUPTED = 130
_SHELLS = ("bash", "zsh", "fish", "tcsh")

# Verbs: name -> module with `add_arguments(parser)` and `run(arguments)`, which returns the exit
# code; help.
_VERBS = {
    "demo": ("mtla_espnet.demo.verb", "show trained models on a page in the browser"),
    "study": (
        "mtla_espnet.study.verb",
        "train attention kinds over several seeds and compare them with intervals",
    ),
    "convert": (
        "mtla_espnet.convert.verb",
        "make MLA or MTLA of a trained model, an experiment or a Llama",
    ),
    "export": (
        "mtla_espnet.convert.export",
        "write a trained summarisation model for Hugging Face transformers",
    ),
    "import_whisper": (
        "mtla_espnet.frontend.ctranslate2",
        "turn a Whisper of CTranslate2's format into a folder for `frontend: transformers`",
    ),
}

# Of `mtla-espnet data`: name -> module with `add_arguments(parser)` and `run(arguments)`, help.
_DATA_COMMANDS = {
    "check": ("mtla_espnet.data.checks.check", "say whether a data directory is sound, or mend it"),
    "stats": ("mtla_espnet.report.data_stats", "hours, speakers and words; lengths as PNG"),
    "from-fairseq": (
        "mtla_espnet.data.fairseq.from_fairseq",
        "make a data directory of a manifest of Fairseq S2T",
    ),
    "to-fairseq": (
        "mtla_espnet.data.fairseq.to_fairseq",
        "write a manifest of Fairseq S2T of a data directory",
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run what a command line asks for.

    Args:
        argv: without the program's name; None: that of this process.

    Returns:
        The exit code: 0, 1 (a mistake in files or data), 2 (in the command line) or 130
        (interrupted). A mistake is one line on stderr.
    """
    _open_standard_streams()
    end_by_exception()
    give_what_is_missing()
    # Names of files, and letters that a terminal lacks, are escaped.
    sys.stdout.reconfigure(errors="backslashreplace")
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        if argv[:1] == ["recipe"]:
            # Its options have rules of their own: `--a_b V`, `--a-b V`, `--a_b=V`.
            return _recipe(argv[1:])
        parser = _parser(argv)
        arguments = parser.parse_args(argv)
        return arguments.run(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted: the same command goes on from here", file=sys.stderr)
        return _INTERRUPTED
    except ModuleNotFoundError as error:
        advice = missing_recipes(error)
        if advice is None:
            raise
        print(f"error: this command {advice}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except OSError as error:
        told = place_error(error)
        if told is None:
            raise
        print(f"error: {told}", file=sys.stderr)
        return told.exit_code


def _open_standard_streams() -> None:
    """Make printing safe: of letters that the output cannot take, and where a stream is closed.

    A letter is then escaped. A file that is opened next would else get the number of the closed
    stream, and what a library writes there.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


class _Version(argparse.Action):
    """Print the versions that a report of a fault needs; nothing is imported for it."""

    def __call__(self, parser, namespace, values, option=None):
        from importlib.metadata import PackageNotFoundError, version

        for name in ("mtla-espnet", "espnet", "torch"):
            try:
                print(name, version(name))
            except PackageNotFoundError:
                print(name, "is not installed")
        parser.exit()


def _parser(argv: Sequence[str] | None) -> argparse.ArgumentParser:
    """Return the parser of a command line.

    Args:
        argv: verbs have their arguments where it names them; None: all have.
    """

    def named(*words: str) -> bool:
        return argv is None or tuple(argv[: len(words)]) == words

    parser = argparse.ArgumentParser(
        prog="mtla-espnet",
        description="Decoder-only speech models for ESPnet2: recipes, reports, transcription.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    from mtla_espnet.corpora import CORPORA

    prepare = verbs.add_parser(
        "prepare", help="make data directories of a corpus", allow_abbrev=False
    )
    corpora = prepare.add_subparsers(metavar="CORPUS", required=True)
    for name, (module, what) in CORPORA.items():
        corpus = corpora.add_parser(name, help=what, allow_abbrev=False)
        corpus.set_defaults(run=_prepare, corpus=module)
        if named("prepare", name):
            importlib.import_module(module).add_arguments(corpus)

    data = verbs.add_parser("data", help="look at and convert data", allow_abbrev=False)
    commands = data.add_subparsers(metavar="COMMAND", required=True)
    for name, (module, what) in _DATA_COMMANDS.items():
        command = commands.add_parser(name, help=what, allow_abbrev=False)
        command.set_defaults(run=_data, module=module)
        if named("data", name):
            importlib.import_module(module).add_arguments(command)

    from mtla_espnet.frontend import FEATS  # names only

    feats = verbs.add_parser("feats", help="write files of features", allow_abbrev=False)
    kinds = feats.add_subparsers(metavar="KIND", required=True)
    for name, (module, form, what) in FEATS.items():
        kind = kinds.add_parser(name, help=what, allow_abbrev=False)
        kind.set_defaults(run=_feats, module=module, form=form)
        if named("feats", name):
            importlib.import_module(module).add_arguments(kind)

    # Dispatched before argparse; here for the help.
    recipe = verbs.add_parser("recipe", help="run the stages of a recipe (what its run.sh does)")
    if argv is None:
        _add_recipe_options(recipe)

    report = verbs.add_parser(
        "report", help="compare the experiments of a recipe", allow_abbrev=False
    )
    report.add_argument(
        "recipe_dir",
        type=Path,
        nargs="+",
        help="such as egs2/smarthome/asr1",
    )
    report.set_defaults(run=_report)

    for name, (module, what) in _VERBS.items():
        verb = verbs.add_parser(name, help=what, allow_abbrev=False)
        verb.set_defaults(run=_run_verb, module=module)
        if named(name):
            importlib.import_module(module).add_arguments(verb)

    for task in TASKS.values():
        add_decoding_verb(verbs, task)
    add_align_verb(verbs)

    completion = verbs.add_parser(
        "completion", help="print what completes the words of this command in a shell"
    )
    completion.add_argument("shell", choices=_SHELLS)
    completion.set_defaults(run=_completion)
    return parser


def _prepare(arguments: argparse.Namespace) -> int:
    _log_to_console()
    importlib.import_module(arguments.corpus).prepare(arguments)
    return 0


def _data(arguments: argparse.Namespace) -> int:
    _log_to_console()
    importlib.import_module(arguments.module).run(arguments)
    return 0


def _feats(arguments: argparse.Namespace) -> int:
    _log_to_console()
    importlib.import_module(arguments.module).write(arguments, arguments.form)
    return 0


def _recipe(argv: Sequence[str]) -> int:
    if argv[:1] in (["--help"], ["-h"], []):
        print(f"usage: mtla-espnet recipe {'|'.join(TASKS)} [--option value] ...")
        print("       mtla-espnet recipe TASK --help  lists the task's options")
        return 0 if argv else 2
    task = task_named(argv[0])
    from mtla_espnet.jobs.log import JobFailed, tail
    from mtla_espnet.runner.runner import run_recipe

    _log_to_console()
    _continue_in_other_python(argv)
    try:
        run_recipe(argv[1:], task=task.name)
    except UserError as error:
        # The words of Kaldi's scripts stand for themselves.
        told = str(error).startswith(("run.sh: ", "run.pl: "))
        print(f"{error}" if told else f"Error: {error}", file=sys.stderr)
        if isinstance(error, JobFailed) and error.log:
            print(tail(error.log), file=sys.stderr, end="")
        return error.exit_code
    return 0


def _continue_in_other_python(argv: Sequence[str]) -> None:
    """Replace this process by the Python that `--python` names, if that is another one."""
    for place, word in enumerate(argv):
        if word != "--python" and not word.startswith("--python="):
            continue
        _, equals, name = word.partition("=")
        if not equals:
            name = argv[place + 1] if place + 1 < len(argv) else ""
        python = shutil.which(name)
        if name == "python3" or not name:
            return
        if python is None:
            raise UserError(f"--python {name}: no such program", exit_code=2)
        rest = [*argv[:place], *argv[place + (1 if equals else 2) :]]
        sys.stdout.flush()
        os.execv(python, [python, "-m", "mtla_espnet", "recipe", *rest])


def _add_recipe_options(recipe: argparse.ArgumentParser) -> None:
    from mtla_espnet.recipe.options import options_of

    tasks = recipe.add_subparsers(metavar="TASK")
    for task in TASKS.values():
        parser = tasks.add_parser(task.name, help=task.does)
        for option in (each for group in options_of(task.name).values() for each in group):
            words = ("true", "false") if isinstance(option.default, bool) else option.choices
            help_ = option.help.replace("%", "%%")
            parser.add_argument(f"--{option.name}", choices=words or None, help=help_)


def _completion(arguments: argparse.Namespace) -> int:
    import shtab

    parser = _parser(None)
    for action in _actions(parser):
        if action.type is Path:
            action.complete = shtab.FILE
    print(shtab.complete(parser, arguments.shell))
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield the arguments of a parser and of its verbs."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for verb in action.choices.values():
                yield from _actions(verb)


def _report(arguments: argparse.Namespace) -> int:
    from mtla_espnet.report.comparison import write_comparisons

    print(write_comparisons(arguments.recipe_dir))
    return 0


def _run_verb(arguments: argparse.Namespace) -> int:
    return importlib.import_module(arguments.module).run(arguments)


def _log_to_console() -> None:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s", stream=sys.stderr)
