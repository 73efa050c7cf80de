"""Stage 14: pack the model into a zip file that ESPnet's `from_pretrained` loads.

By ESPnet's own function: its program `espnet2.bin.pack` knows no SLU and no MT, and no language
model of ST. The names in the file are the arguments of ESPnet's classes.
"""

import shlex
from pathlib import Path

from mtla_espnet.files import atomic_path
from mtla_espnet.jobs.log import job_log, say
from mtla_espnet.jobs.marks import Part
from mtla_espnet.recipe.espnet_arguments import frontend_files, load_espnet
from mtla_espnet.recipe.recipe import Recipe
from mtla_espnet.recipe.tokens import text_inputs
from mtla_espnet.stages.shared.decoding import (
    extractor_conf,
    keep_beside_model,
    kept_files,
)

TITLE = "Pack the model"


def parts(recipe: Recipe) -> list[Part]:
    """One part."""
    results = recipe.paths.exp_dir / "RESULTS.md"
    inputs = {recipe.paths.model_file: 11, recipe.paths.exp_dir / "config.yaml": 11}
    inputs |= {path: 7 for path in recipe.paths.lm_files.values()}
    inputs |= {path: 9 for path in recipe.paths.ngram_files.values()}
    inputs |= {text.tokens.bpe_model: 5 for text in recipe.texts if text.tokens.bpe_model}
    inputs |= recipe.normalization | text_inputs(recipe)
    for conf in (None, extractor_conf(recipe)):  # of the front end, and of stored features
        inputs |= {path: 0 for path in frontend_files(recipe, conf)}
    if results.exists():
        inputs[results] = 13
    options = {"config": recipe.inference_config}
    return [
        Part(
            directory=recipe.paths.exp_dir,
            options=options,
            inputs=inputs,
            outputs=[recipe.paths.packed_model],
        )
    ]


def commands(recipe: Recipe, part: Part) -> list[str]:
    """Return what is packed, as arguments of ESPnet's program."""
    (packed,) = part.outputs
    named = (word for name, path in _named(recipe).items() for word in (f"--{name}", str(path)))
    others = (word for path in _others(recipe, part) for word in ("--option", str(path)))
    task = recipe.task.model
    return [shlex.join(["pack", task, *named, *others, "--outpath", str(packed)])]


def run(recipe: Recipe, part: Part) -> None:
    """Pack the model, and what its configuration names.

    Raises:
        JobFailed: ESPnet's function failed.
    """
    load_espnet()
    from espnet2.main_funcs.pack_funcs import pack

    (packed,) = part.outputs
    (command,) = commands(recipe, part)
    keep_beside_model(recipe)
    named = _named(recipe)
    configs = {name: path for name, path in named.items() if name.endswith("_config")}
    files = {name: path for name, path in named.items() if name not in configs}
    with atomic_path(packed) as unfinished, job_log(part.directory / "pack.log", command):
        pack(files, configs, unfinished, _others(recipe, part))
    say(f"The model is {packed}")


def _named(recipe: Recipe) -> dict[str, Path]:
    """Return what the arguments of ESPnet's class are: argument -> file."""
    return {
        f"{recipe.task.model}_train_config": recipe.paths.exp_dir / "config.yaml",
        f"{recipe.task.model}_model_file": recipe.paths.model_file,
        **recipe.paths.lm_files,
        **recipe.paths.ngram_files,
    }


def _others(recipe: Recipe, part: Part) -> list[Path]:
    """Return what else is packed: files that the configuration names, options, results, plots."""
    named = set(_named(recipe).values())
    images = recipe.paths.exp_dir / "images"
    others = [path for path in part.inputs if path not in named]
    others += kept_files(recipe)
    return [*others, images] if images.is_dir() else others
