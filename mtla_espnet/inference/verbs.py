"""The commands that run a trained model on files: their arguments, and what they print.

What loads torch is imported when a command runs, so that `--help` is instant.
"""

import argparse
import contextlib
import itertools
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mtla_espnet.files import UserError, write_text
from mtla_espnet.inference.formats import FORMATS, json_lines
from mtla_espnet.task import TASKS
from mtla_espnet.task.record import Task
from mtla_espnet.trust import add_trust_argument, files_trusted

if TYPE_CHECKING:
    from mtla_espnet.inference.from_files import Piece


def add_decoding_verb(verbs, task: Task) -> None:
    """Declare the command that decodes files by a model of a task."""
    verb, does = task.verb
    parser = verbs.add_parser(verb, help=does, description=does, allow_abbrev=False)
    parser.set_defaults(run=_decode, task=task.name)
    parser.add_argument(
        "--model",
        type=Path,
        action="append",
        required=True,
        help="an experiment's directory, or a pack of it (zip); given again: an ensemble",
    )
    parser.add_argument(
        "--inference_config",
        type=Path,
        help="decoding options (YAML), as of a recipe; default: those kept with the model",
    )
    parser.add_argument(
        "--inference_args", default="", help='options laid over it, as in "--lenpen 0.6 --nbest 1"'
    )
    parser.add_argument(
        "--beam_size", type=int, help="hypotheses kept; default: as the model's recipe, or 20"
    )
    parser.add_argument("--batch_size", type=int, default=8, help="decoded together; default: 8")
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each result")
    add_trust_argument(parser)
    if task.speech:
        parser.add_argument(
            "--ctc_weight",
            type=float,
            help="share of CTC, 0 to 1; default: as the model's recipe, or 0.5 (translation: 0)",
        )
        parser.add_argument(
            "--cut",
            choices=("silence", "length", "none", "vad"),
            default="silence",
            help="where a longer recording is cut; the times of its pieces are told; "
            "vad: keep what Silero VAD finds to be speech",
        )
        parser.add_argument(
            "--live",
            action="store_true",
            help="decode raw 16-bit samples of one channel from the standard input while they "
            "come, a piece after each pause",
        )
        parser.add_argument(
            "--rate_hz", type=int, help="samples a second of --live; default: as the model's"
        )
        parser.add_argument(
            "--longest", type=float, default=20.0, help="seconds of a piece; default: 20"
        )
        if task.name != "st":
            parser.add_argument(
                "--times", choices=("word", "token"), help="tell when each is spoken, by CTC"
            )
        _add_format(parser)
    what = "sound file" if task.speech else "text file, a document each"
    parser.add_argument(
        "--files", type=Path, metavar="LIST", help=f"names of such files, one a line ({what})"
    )
    help_ = f"{what}; a directory or a pattern of them; -: the standard input"
    parser.add_argument("file", type=Path, nargs="*", help=help_)


def add_align_verb(verbs) -> None:
    """Declare the command that finds when the words of a known text are spoken."""
    does = "tell when each word of a recording is spoken, of which the text is known"
    parser = verbs.add_parser("align", help=does, description=does, allow_abbrev=False)
    parser.set_defaults(run=_align)
    parser.add_argument("model", type=Path, help="an experiment's directory, or a pack of it (zip)")
    parser.add_argument("file", type=Path, help="sound file of any length; -: the standard input")
    parser.add_argument(
        "text", help="text file (UTF-8), or the words themselves if no file has that name"
    )
    spoken = [name for name, task in TASKS.items() if task.speech and name != "st"]
    parser.add_argument("--task", choices=spoken, default="asr", help="of the model")
    parser.add_argument("--times", choices=("word", "token"), default="word")
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto")
    parser.add_argument("--longest", type=float, default=20.0, help="seconds heard at once")
    add_trust_argument(parser)
    _add_format(parser)


def _add_format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--format",
        choices=tuple(FORMATS),
        help="of the results; ctm has the times of words, subtitles are better with --times word",
    )
    parser.add_argument(
        "--output_dir", type=Path, help="write a file for each recording; default: print"
    )


def _decode(arguments: argparse.Namespace) -> int:
    from mtla_espnet.inference.inputs import listed_paths

    if arguments.files is not None:
        arguments.file += listed_paths(arguments.files)
    is_live = getattr(arguments, "live", False)
    if is_live and arguments.file:
        raise UserError("--live decodes the standard input: name no files", exit_code=2)
    if not arguments.file and not is_live:
        raise UserError("name files to decode, or a list of them by --files", exit_code=2)
    with files_trusted(arguments.trust_files):
        speech = TASKS[arguments.task].speech
        return (_decode_recordings if speech else _decode_documents)(arguments)


def _decode_recordings(arguments: argparse.Namespace) -> int:
    times = getattr(arguments, "times", None)
    form = FORMATS[_format_of(arguments)]
    if form.times and times != form.times:
        if times or arguments.task == "st":
            raise UserError(f"--format {arguments.format} needs the times of words", exit_code=2)
        times = form.times
    model = arguments.task, arguments.model[0]
    given = {
        "inference_config": arguments.inference_config,
        "options": _options(arguments, "beam_size", "ctc_weight"),
        "device": arguments.device,
        "cut_at": arguments.cut,
        "longest_s": arguments.longest,
        "times": times,
    }
    if arguments.live:
        from mtla_espnet.inference.live import recognise_live

        with contextlib.suppress(KeyboardInterrupt):  # the way to end it
            _write(recognise_live(*model, sys.stdin.buffer, arguments.rate_hz, **given), arguments)
        return 0
    from mtla_espnet.inference.from_files import decode_recordings

    bar = _has_place_for_a_bar(arguments.output_dir)
    more = {"batch_size": arguments.batch_size, "shows_progress": bar}
    _write(decode_recordings(*model, arguments.file, **given, **more), arguments)
    return 0


def _align(arguments: argparse.Namespace) -> int:
    from mtla_espnet.inference.from_files import align_recording, read_document

    text = arguments.text
    if Path(text).suffix == ".txt" or _is_file(text):
        text = read_document(Path(text))
    with files_trusted(arguments.trust_files):
        piece = align_recording(
            arguments.model,
            arguments.file,
            text,
            task=arguments.task,
            times=arguments.times,
            device=arguments.device,
            longest_s=arguments.longest,
        )
    _write([piece], arguments)
    return 0


def _decode_documents(arguments: argparse.Namespace) -> int:
    from mtla_espnet.inference.from_files import summarise_documents

    found = summarise_documents(
        arguments.model[0],
        arguments.file,
        inference_config=arguments.inference_config,
        options=_options(arguments, "beam_size"),
        device=arguments.device,
        batch_size=arguments.batch_size,
        shows_progress=_has_place_for_a_bar(None),
    )
    import json

    for path, text in found:
        if arguments.json:
            value = {"file": str(path), "text": text}
            print(json.dumps(value, ensure_ascii=_output_is_not_utf_8()), flush=True)
        else:
            print(f"{path}: {text}", flush=True)
    return 0


def _write(pieces: Iterable["Piece"], arguments: argparse.Namespace) -> None:
    """Print what was recognised as it comes, or write a file for each recording."""
    name = _format_of(arguments)
    form, directory = FORMATS[name], arguments.output_dir
    write = form.write
    if name == "json" and directory is None:
        # JSON has escapes of its own for what the output cannot take.
        write = partial(json_lines, ascii_only=_output_is_not_utf_8())
    if directory is None and form.by_piece:
        for piece in pieces:
            print(write([piece]), end="", flush=True)
        return
    written: dict[Path, Path] = {}
    for path, own in itertools.groupby(pieces, key=lambda piece: piece.path):
        if directory is None:
            if written:
                raise UserError(f"--format {name} is one file a recording: give --output_dir")
            written[path] = path
            print(write(list(own)), end="", flush=True)
            continue
        target = directory / f"{'stdin' if str(path) == '-' else path.stem}{form.suffix}"
        if target in written:
            raise UserError(f"{path}: {target} is that of {written[target]}: rename one of them")
        directory.mkdir(parents=True, exist_ok=True)
        write_text(target, write(list(own)))
        written[target] = path


def _format_of(arguments: argparse.Namespace) -> str:
    if getattr(arguments, "json", False):
        if arguments.format not in (None, "json"):
            raise UserError(f"--json and --format {arguments.format}: give one", exit_code=2)
        return "json"
    return arguments.format or "text"


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except OSError:  # a text that is too long for a name
        return False


def _has_place_for_a_bar(directory: Path | None) -> bool:
    """Tell whether a progress bar would disturb nothing: results do not go to its terminal."""
    return sys.stderr.isatty() and (directory is not None or not sys.stdout.isatty())


def _options(arguments: argparse.Namespace, *names: str) -> dict[str, object]:
    """Return the options that the command line has a value for, and the rest of an ensemble."""
    # here: they load torch and yaml
    from mtla_espnet.config import apply_arguments, check_keys
    from mtla_espnet.inference.trained_model import DECODING_OPTIONS

    given = apply_arguments({}, arguments.inference_args, "--inference_args")
    check_keys(given, sorted(DECODING_OPTIONS), "--inference_args")
    values = {name: getattr(arguments, name) for name in names}
    given |= {name: value for name, value in values.items() if value is not None}
    return given | {"ensemble": arguments.model[1:]}


def _output_is_not_utf_8() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
