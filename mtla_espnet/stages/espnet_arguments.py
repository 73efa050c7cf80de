"""ESPnet's programs, as the stages call them."""

import contextlib
import io
import logging
from pathlib import Path

from mtla_espnet.files import write_text
from mtla_espnet.stages.log import job_log
from mtla_espnet.stages.recipe import Recipe


def tables_of(set_dir: Path) -> list[Path]:
    """Return the tables of a formatted set that training reads, or that say it changed."""
    return [set_dir / name for name in ("wav.scp", "text", "utt2num_samples")]


def common_arguments(recipe: Recipe, train_dir: Path, valid_dir: Path) -> list[str]:
    """Return tokens, preprocessing and data, as ESPnet2's asr.sh gives them.

    Args:
        recipe: the recipe.
        train_dir: formatted training set.
        valid_dir: formatted validation set.
    """
    arguments = [*_text_arguments(recipe), "--frontend_conf", f"fs={recipe.layout.rate}"]
    kind = "kaldi_ark" if recipe.options.audio_format.endswith(".ark") else "sound"
    for mode, directory in (("train", train_dir), ("valid", valid_dir)):
        for entry in (f"{directory}/wav.scp,speech,{kind}", f"{directory}/text,text,text"):
            arguments += [f"--{mode}_data_path_and_name_and_type", entry]
    return arguments


def lm_arguments(recipe: Recipe) -> list[str]:
    """Return tokens, preprocessing and data of a language model, as ESPnet2's asr.sh does."""
    arguments = _text_arguments(recipe)
    for mode in ("train", "valid"):
        entry = f"{recipe.layout.lm_stats_dir / mode / 'text'},text,text"
        arguments += [f"--{mode}_data_path_and_name_and_type", entry]
    return arguments


def _text_arguments(recipe: Recipe) -> list[str]:
    layout, options = recipe.layout, recipe.options
    return [
        *("--use_preprocessor", "true"),
        *("--bpemodel", str(layout.bpe_model or "none")),
        *("--token_type", options.token_type),
        *("--token_list", str(layout.token_list)),
        *("--non_linguistic_symbols", options.nlsyms_txt),
        *("--cleaner", options.cleaner),
        *("--g2p", options.g2p),
    ]


def load_espnet() -> None:
    """Load ESPnet's tasks with our classes, once, which takes about ten seconds.

    What ESPnet prints meanwhile about optional packages goes to the log.
    """
    printed = io.StringIO()
    with contextlib.redirect_stderr(printed):
        import mtla_espnet.tasks  # noqa: F401  (here: a skipped stage need not wait for it)
    for line in printed.getvalue().splitlines():
        logging.debug(line)


def run_espnet_program(program: str, argv: list[str]) -> None:
    """Run a program of ESPnet in this process.

    Args:
        program: a module of `espnet2.bin`, such as `asr_train`.
        argv: its arguments.

    Raises:
        RuntimeError: it refused an argument.
        Exception: whatever it raises.
    """
    load_espnet()
    from mtla_espnet.tasks.register import run_espnet

    try:
        run_espnet(f"espnet2.bin.{program}", argv)
    except SystemExit as stop:
        if stop.code:
            raise RuntimeError(f"{program} refused its arguments (code {stop.code})") from None


def aggregate_statistics(
    inputs: list[Path], output: Path, token_list: Path, token_type: str
) -> None:
    """Add up the statistics of jobs, and write shapes with the number of tokens beside them.

    Args:
        inputs: output directories of the jobs, in order.
        output: directory of the sums.
        token_list: of the text.
        token_type: ending of the shapes' file, `text_shape.<token_type>`.
    """
    load_espnet()
    from espnet2.bin.aggregate_stats_dirs import aggregate_stats_dirs

    with job_log(output / "logdir/aggregate.log", f"aggregate_stats_dirs to {output}"):
        aggregate_stats_dirs(inputs, output, log_level="INFO", skip_sum_stats=False)
    n_tokens = len(token_list.read_text(encoding="utf-8").splitlines())
    for mode in ("train", "valid"):
        lines = (output / mode / "text_shape").read_text(encoding="utf-8").splitlines()
        shapes = "".join(f"{line},{n_tokens}\n" for line in lines)
        write_text(output / mode / f"text_shape.{token_type}", shapes)
