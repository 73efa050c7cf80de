"""The verb `convert`: what it is told, where the result goes, and what it prints."""

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path

from mtla_espnet.directories import replace_directory, scratch_directory
from mtla_espnet.files import UserError
from mtla_espnet.json_files import write_json
from mtla_espnet.report.markdown import markdown_table

KINDS = ("mla", "mtla")
# What a conversion cost, beside the model.
REPORT = "conversion.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.description = (
        "Make MLA or MTLA of a trained model: an experiment with mha, gqa, mqa or mla, or a Llama "
        "of transformers. It is exact where the sizes keep everything; else train it on."
    )
    parser.add_argument("--to", choices=KINDS, required=True, help="kind of attention")
    parser.add_argument(
        "model",
        type=Path,
        metavar="MODEL",
        help="directory of an experiment or of a Llama (safetensors), or its .gguf file",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="new directory")
    parser.add_argument("--kv_lora_rank", type=int, help="numbers of a latent (4 head widths)")
    parser.add_argument("--qk_rope_head_dim", type=int, help="rotary numbers (half a head width)")
    parser.add_argument("--down_rate", type=int, help="positions a slot of mtla (2)")
    parser.add_argument(
        "--calibration",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="of a Llama: texts of the kind that it is for",
    )
    parser.add_argument(
        "--calibration_tokens", type=int, default=1 << 15, help="of a Llama (%(default)s)"
    )
    parser.add_argument(
        "--calibration_utterances", type=int, default=64, help="of an experiment (%(default)s)"
    )
    parser.add_argument("--device", default="cpu", help="such as cuda (%(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Convert.

    Raises:
        UserError: what is given cannot be converted; says what to do.
    """
    if arguments.to == "mla" and arguments.down_rate is not None:
        raise UserError("--down_rate is of mtla: say --to mtla, or leave it out", 2)
    if arguments.down_rate is not None and arguments.down_rate < 2:
        raise UserError(f"--down_rate {arguments.down_rate}: say 2 or more", 2)
    for name in ("calibration_tokens", "calibration_utterances"):
        if getattr(arguments, name) < 1:
            raise UserError(f"--{name} {getattr(arguments, name)}: say 1 or more", 2)
    arguments.down_rate = arguments.down_rate or 2
    source = arguments.model
    if (source / "config.yaml").is_file():
        from mtla_espnet.convert.experiment import convert
    elif (source / "config.json").is_file() or source.suffix == ".gguf":
        from mtla_espnet.convert.llama import convert
    else:
        raise UserError(
            f"{source}: neither the directory of an experiment (config.yaml), nor of a Llama of "
            "transformers (config.json), nor a .gguf file"
        )
    with new_directory(arguments.out) as made:
        rows, advice = convert(arguments, made)
        write_json(made / REPORT, {"source": str(source), "models": rows})
    names = list(rows[0])
    print(markdown_table(names, [[_cell(row[n]) for n in names] for row in rows], aligned=True))
    print(advice)
    return 0


@contextlib.contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """Yield a directory to write in, which is at `path` once all is written.

    Raises:
        UserError: there is something already.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path}: is there already; say a new directory, or remove it")
    with scratch_directory(path.absolute().parent) as scratch:
        made = scratch / "made"
        made.mkdir()
        yield made
        replace_directory(made, path)


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
