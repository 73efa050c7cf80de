"""Stage 8: the perplexity of the language model on a test text."""

import shlex
from pathlib import Path

from mtla_espnet.data.kaldi.tables import write_table
from mtla_espnet.jobs.log import job_log, say
from mtla_espnet.jobs.marks import Part
from mtla_espnet.jobs.processes import number_of_gpus
from mtla_espnet.recipe.espnet_arguments import run_espnet_program
from mtla_espnet.recipe.recipe import Recipe
from mtla_espnet.stages.shared.joined_text import join_text

TITLE = "Perplexity of the language model"


def _sources(recipe: Recipe) -> dict[Path, int]:
    given = {recipe.root / name: 0 for name in recipe.options.lm_test_text.split()}
    first_set = next(iter(recipe.sets.tests), None)
    directory = (
        recipe.sets.dump_set_dir(first_set)
        if first_set
        else recipe.sets.formatted_dir(recipe.sets.valid)
    )
    return given or {directory / recipe.texts[0].table: 3}


def parts(recipe: Recipe) -> list[Part]:
    """One part."""
    directory = recipe.paths.lm_exp_dir / "perplexity_test"
    return [
        Part(
            directory=directory,
            options={},
            inputs={path: 7 for path in recipe.paths.lm_files.values()} | _sources(recipe),
            outputs=[directory / "ppl", directory / "text"],
        )
    ]


def commands(recipe: Recipe, part: Part) -> list[str]:
    """Return the command that measures."""
    return [shlex.join(["lm_calc_perplexity", *_arguments(recipe, part)])]


def run(recipe: Recipe, part: Part) -> None:
    """Write the perplexity, and the text that it is of: the lines that have words.

    Raises:
        UserError: there is no text.
        JobFailed: ESPnet's program failed.
    """
    write_table(part.directory / "text", join_text(list(_sources(recipe))))
    log = part.directory / "lm_calc_perplexity.log"
    (command,) = commands(recipe, part)
    with job_log(log, command):
        run_espnet_program("lm_calc_perplexity", _arguments(recipe, part))
    ppl = float((part.directory / "ppl").read_text(encoding="utf-8"))
    say(f"Perplexity: {ppl:.2f} ({part.directory / 'ppl'})")


def _arguments(recipe: Recipe, part: Part) -> list[str]:
    files = recipe.paths.lm_files
    return [
        *("--ngpu", str(min(1, number_of_gpus(recipe.options)))),
        *("--num_workers", "0"),
        *("--data_path_and_name_and_type", f"{part.directory / 'text'},text,text"),
        *("--train_config", str(files["lm_train_config"])),
        *("--model_file", str(files["lm_file"])),
        *("--output_dir", str(part.directory)),
    ]
