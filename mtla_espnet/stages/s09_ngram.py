"""Stage 9: an n-gram of the training text's tokens, by KenLM.

ESPnet's asr.sh hands the words to KenLM, and of each line the first one only; its scorer asks
for tokens. Here the n-gram is one of tokens.
"""

import os
import shlex
from pathlib import Path

from mtla_espnet.data.kaldi.tables import read_table
from mtla_espnet.directories import scratch_directory
from mtla_espnet.files import UserError, atomic_path, write_text
from mtla_espnet.jobs.log import JobFailed, job_log
from mtla_espnet.jobs.marks import Part
from mtla_espnet.programs import run_program
from mtla_espnet.recipe.recipe import Recipe
from mtla_espnet.recipe.tokens import text_inputs, tokenizer

TITLE = "Train the n-gram"
PROGRAMS = ("lmplz", "build_binary")


def parts(recipe: Recipe) -> list[Part]:
    """One part."""
    inputs = {recipe.sets.lm_train_text: 4, recipe.tokens.token_list: 5} | text_inputs(recipe)
    if recipe.tokens.bpe_model:
        inputs[recipe.tokens.bpe_model] = 5
    arpa = _arpa(recipe)
    return [
        Part(
            directory=recipe.paths.ngram_exp_dir,
            options={"token_type": recipe.tokens.token_type},
            inputs=inputs,
            outputs=[arpa, arpa.with_suffix(".bin")],
        )
    ]


def _arpa(recipe: Recipe) -> Path:
    return recipe.paths.ngram_exp_dir / f"{recipe.options.ngram_num}gram.arpa"


def commands(recipe: Recipe, part: Part) -> list[str]:
    """Return the commands; the first one reads the tokens from its input."""
    arpa, binary = part.outputs
    estimate = shlex.join(_estimate(recipe, part.directory))
    return [f"{estimate} > {arpa}", shlex.join(_convert(arpa, binary))]


def _estimate(recipe: Recipe, temporary: Path) -> list[str]:
    # A small text has too few n-grams that occur once to three times to tell the discounts.
    order = str(recipe.options.ngram_num)
    options = ["-S", "20%", "--discount_fallback", "--skip_symbols", "-T", str(temporary)]
    return ["lmplz", "-o", order, *options]


def _convert(arpa: Path, binary: Path) -> list[str]:
    return ["build_binary", "-s", str(arpa), str(binary)]


def run(recipe: Recipe, part: Part) -> None:
    """Write the ARPA file and its binary form.

    Raises:
        UserError: KenLM is not installed, or there is no text.
        JobFailed: KenLM failed; its log says why.
    """
    tokens = tokenizer(recipe)
    texts = read_table(recipe.sets.lm_train_text).values()
    lines = "".join(" ".join(tokens(text)) + "\n" for text in texts)
    if not lines:
        raise UserError(f"{recipe.sets.lm_train_text}: has no text for an n-gram")
    write_text(part.directory / "train.txt", lines)
    arpa, binary = part.outputs
    log = part.directory / "ngram.log"
    with (
        job_log(log, "; ".join(commands(recipe, part))),
        scratch_directory(part.directory) as scratch,
        atomic_path(binary) as new_binary,
        atomic_path(arpa) as new_arpa,
    ):
        with open(part.directory / "train.txt", "rb") as text, open(new_arpa, "wb") as output:
            _call(_estimate(recipe, scratch), log, stdin=text, stdout=output)
        _call(_convert(new_arpa, new_binary), log)


def _call(command: list[str], log: Path, **streams) -> None:
    """Run a program of KenLM; what it says goes to the log, where stdout and stderr lead."""
    try:
        done = run_program(command, env={**os.environ, "LC_ALL": "C"}, **streams)
    except FileNotFoundError:
        raise UserError(missing_program(command[0])) from None
    if done.returncode:
        raise JobFailed(
            f"{command[0]} failed with exit code {done.returncode}, log is in {log}", log
        )


def missing_program(name: str) -> str:
    """Return the line that says how to get a program of KenLM."""
    return (
        f"--use_ngram true needs KenLM's program {name}, which is not on PATH: build KenLM "
        "(https://github.com/kpu/kenlm, needs cmake and boost) and add its bin directory to "
        "PATH, or say --use_ngram false"
    )
