"""ESPnet's training program, as statistics and training call it."""

import contextlib
import io
import logging
from pathlib import Path

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
    layout, options = recipe.layout, recipe.options
    arguments = [
        *("--use_preprocessor", "true"),
        *("--bpemodel", str(layout.bpe_model or "none")),
        *("--token_type", options.token_type),
        *("--token_list", str(layout.token_list)),
        *("--non_linguistic_symbols", options.nlsyms_txt),
        *("--cleaner", options.cleaner),
        *("--g2p", options.g2p),
        *("--frontend_conf", f"fs={layout.rate}"),
    ]
    kind = "kaldi_ark" if options.audio_format.endswith(".ark") else "sound"
    for mode, directory in (("train", train_dir), ("valid", valid_dir)):
        for entry in (f"{directory}/wav.scp,speech,{kind}", f"{directory}/text,text,text"):
            arguments += [f"--{mode}_data_path_and_name_and_type", entry]
    return arguments


def load_espnet() -> None:
    """Load ESPnet's tasks with our classes, once, which takes about ten seconds.

    What ESPnet prints meanwhile about optional packages goes to the log.
    """
    printed = io.StringIO()
    with contextlib.redirect_stderr(printed):
        import mtla_espnet.tasks  # noqa: F401  (here: a skipped stage need not wait for it)
    for line in printed.getvalue().splitlines():
        logging.debug(line)


def run_training_program(argv: list[str]) -> None:
    """Run ESPnet's training program in this process.

    Raises:
        RuntimeError: it refused an argument.
        Exception: whatever it raises.
    """
    load_espnet()
    from mtla_espnet.tasks.register import run_espnet

    try:
        run_espnet("espnet2.bin.asr_train", argv)
    except SystemExit as stop:
        if stop.code:
            raise RuntimeError(f"asr_train refused its arguments (code {stop.code})") from None
