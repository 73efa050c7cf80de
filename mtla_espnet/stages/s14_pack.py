"""Stage 14: pack the model into a zip file that ESPnet's `from_pretrained` loads."""

import shlex
from pathlib import Path

from mtla_espnet.files import atomic_path
from mtla_espnet.stages.espnet_arguments import run_espnet_program
from mtla_espnet.stages.log import job_log, say
from mtla_espnet.stages.marks import Part
from mtla_espnet.stages.recipe import Recipe

TITLE = "Pack the model"


def parts(recipe: Recipe) -> list[Part]:
    """One part."""
    layout = recipe.layout
    results = layout.exp_dir / "RESULTS.md"
    inputs = {layout.model_file: 11, layout.exp_dir / "config.yaml": 11}
    inputs |= {path: 7 for path in layout.lm_files.values()}
    if layout.bpe_model:
        inputs[layout.bpe_model] = 5
    if recipe.options.feats_normalize == "global_mvn":
        inputs[layout.feature_statistics] = 10
    if results.exists():
        inputs[results] = 13
    return [
        Part(directory=layout.exp_dir, options={}, inputs=inputs, outputs=[layout.packed_model])
    ]


def commands(recipe: Recipe, part: Part) -> list[str]:
    """Return the command that packs."""
    (packed,) = part.outputs
    return [shlex.join(["espnet2.bin.pack", *_arguments(recipe, part, packed)])]


def run(recipe: Recipe, part: Part) -> None:
    """Pack the model, and what its configuration names.

    Raises:
        JobFailed: ESPnet's program failed.
    """
    (packed,) = part.outputs
    (command,) = commands(recipe, part)
    with atomic_path(packed) as unfinished, job_log(part.directory / "pack.log", command):
        run_espnet_program("pack", _arguments(recipe, part, unfinished))
    say(f"The model is {packed}")


def _arguments(recipe: Recipe, part: Part, packed: Path) -> list[str]:
    layout = recipe.layout
    models = {
        "asr_train_config": layout.exp_dir / "config.yaml",
        "asr_model_file": layout.model_file,
        **layout.lm_files,
    }
    others = [path for path in part.inputs if path not in models.values()]
    images = layout.exp_dir / "images"
    return [
        "asr",
        *(word for name, path in models.items() for word in (f"--{name}", str(path))),
        *(word for path in others for word in ("--option", str(path))),
        *(["--option", str(images)] if images.is_dir() else []),
        *("--outpath", str(packed)),
    ]
