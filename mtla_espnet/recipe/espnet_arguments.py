"""ESPnet's programs, as the stages call them."""

import contextlib
import io
import logging
from collections.abc import Mapping
from pathlib import Path

from mtla_espnet.files import UserError
from mtla_espnet.recipe.recipe import Recipe
from mtla_espnet.recipe.texts import Text


def training_sets(recipe: Recipe) -> dict[str, Path]:
    """Return mode -> the formatted set that is trained or validated on."""
    return {
        "train": recipe.sets.dump_set_dir(recipe.sets.train),
        "valid": recipe.sets.dump_set_dir(recipe.sets.valid),
    }


def training_inputs(recipe: Recipe) -> dict[Path, int]:
    """Return the files that training reads, or that say it changed -> the stage of each."""
    speech = recipe.speech
    tables = [speech.scp, speech.lengths] if speech else []
    tables += [text.table for text in recipe.texts]
    files = {}
    for path in training_sets(recipe).values():
        facts = speech.facts_of(path) if speech else []
        files |= {path / name: 4 for name in (*tables, *facts)}
    return {text.tokens.token_list: 5 for text in recipe.texts} | files


def frontend_files(recipe: Recipe, conf: Mapping | None = None) -> list[Path]:
    """Return the files of a pretrained encoder that a front end reads, where they are local.

    Args:
        recipe: whose directory they are relative to.
        conf: options of the front end; None: of the training configuration.
    """
    if conf is None:
        conf = recipe.train_config.get("frontend_conf") or {}
    inner = conf.get("frontend_conf") or {}
    names = [conf.get("model"), inner.get("path_or_url")]
    paths = [recipe.root / str(name) for name in names if name]
    files = [path for each in paths for path in ([each] if each.is_file() else each.glob("*"))]
    return sorted(path for path in files if path.is_file())


def common_arguments(recipe: Recipe) -> list[str]:
    """Return tokens, preprocessing and data, as ESPnet2's scripts give them."""
    options = recipe.options
    arguments = _text_arguments(recipe, recipe.texts)
    for text in recipe.texts:
        for name in text.kind.passed_on:
            arguments += [f"--{name}", str(getattr(options, name)).lower()]
    data = {text.table: f"{text.name},text" for text in recipe.texts}
    if recipe.speech:
        sets = list(training_sets(recipe).values())
        arguments += recipe.speech.model_arguments(sets, recipe.train_config)
        data = {recipe.speech.scp: f"speech,{recipe.speech.loader}"} | data
    for mode, directory in training_sets(recipe).items():
        for table, entry in data.items():
            arguments += [f"--{mode}_data_path_and_name_and_type", f"{directory / table},{entry}"]
    return arguments


def lm_arguments(recipe: Recipe) -> list[str]:
    """Return tokens, preprocessing and data of a language model, as ESPnet2's asr.sh does."""
    arguments = _text_arguments(recipe, recipe.texts[:1])
    for mode in ("train", "valid"):
        entry = f"{recipe.paths.lm_stats_dir / mode / 'text'},text,text"
        arguments += [f"--{mode}_data_path_and_name_and_type", entry]
    return arguments


def _text_arguments(recipe: Recipe, texts: list[Text]) -> list[str]:
    options = recipe.options
    arguments = ["--use_preprocessor", "true"]
    for text in texts:
        prefix, tokens = text.kind.prefix, text.tokens
        if not text.kind.words:
            arguments += [f"--{prefix}bpemodel", str(tokens.bpe_model or "none")]
            arguments += [f"--{prefix}token_type", tokens.token_type]
        arguments += [f"--{prefix}token_list", str(tokens.token_list)]
    return [
        *arguments,
        *("--non_linguistic_symbols", options.nlsyms_txt),
        *("--cleaner", options.cleaner),
        *("--g2p", options.g2p),
    ]


def kept_models_arguments(config: Mapping) -> list[str]:
    """Return how many models are averaged, which may be fewer than a configuration's file says.

    Args:
        config: of the training; what stands behind its file and its arguments holds.
    """
    kept = config.get("keep_nbest_models")
    numbers = kept if isinstance(kept, list) else [kept]
    return [] if kept is None else ["--keep_nbest_models", *map(str, numbers)]


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
        UserError: it refused an argument; argparse's reason is printed before.
        Exception: whatever it raises.
    """
    load_espnet()
    from mtla_espnet.tasks.register import run_espnet

    try:
        run_espnet(f"espnet2.bin.{program}", argv)
    except SystemExit as stop:
        if stop.code:
            raise UserError(
                f"ESPnet's {program} refused its arguments; its reason is above in the log", 2
            ) from None
