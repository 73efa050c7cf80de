"""Stage 13: score the decoded sets, and write the experiment's RESULTS.md."""

import os
import shlex
import subprocess
import sys

from mtla_espnet.files import UserError
from mtla_espnet.report.tables import write_results
from mtla_espnet.score.wer import score_set
from mtla_espnet.stages.layout import used_options
from mtla_espnet.stages.marks import Part
from mtla_espnet.stages.recipe import Recipe
from mtla_espnet.stages.tokens import text_cleaner

TITLE = "Score"
_LOCAL = "local/score.sh"


def parts(recipe: Recipe) -> list[Part]:
    """One part a set, then one for what is made of all of them."""
    layout = recipe.layout
    names = ["wer", "cer", *(["ter"] if layout.bpe_model else [])]
    result, all_results = [], []
    for name, data_dir in layout.eval_sets.items():
        directory = layout.inference_dir / name
        results = [directory / f"score_{kind}" / "result.txt" for kind in names]
        all_results += results
        result.append(
            Part(
                directory=directory,
                options=used_options(recipe.options, "cleaner"),
                inputs={directory / "text": 12, data_dir / "text": 3, data_dir / "utt2spk": 3}
                | ({layout.bpe_model: 5} if layout.bpe_model else {}),
                outputs=results,
                name=name,
            )
        )
    local = [layout.root / _LOCAL] if _has_local(recipe) else []
    result.append(
        Part(
            directory=layout.exp_dir,
            options=used_options(recipe.options, "local_score_opts"),
            inputs={path: 13 for path in all_results} | {path: 0 for path in local},
            outputs=[layout.exp_dir / "RESULTS.md"],
        )
    )
    return result


def commands(recipe: Recipe, part: Part) -> list[str]:
    """Return the command of local/score.sh, where it exists."""
    return [] if part.name or not _has_local(recipe) else [shlex.join(_command(recipe))]


def _has_local(recipe: Recipe) -> bool:
    return (recipe.layout.root / _LOCAL).exists()


def _command(recipe: Recipe) -> list[str]:
    layout = recipe.layout
    options = shlex.split(recipe.options.local_score_opts)
    return [f"./{_LOCAL}", *options, os.path.relpath(layout.exp_dir, layout.root)]


def run(recipe: Recipe, part: Part) -> None:
    """Score one set, or write RESULTS.md and run local/score.sh where it exists.

    Raises:
        UserError: ids do not match, or local/score.sh failed.
    """
    layout = recipe.layout
    if part.name:
        data_dir = layout.eval_sets[part.name]
        score_set(
            data_dir / "text",
            part.directory / "text",
            data_dir / "utt2spk",
            part.directory,
            bpemodel=layout.bpe_model,
            cleaner=text_cleaner(recipe.options.cleaner),
        )
        return
    write_results(layout.exp_dir)
    if _has_local(recipe):
        environment = {**os.environ, "python": sys.executable}
        code = subprocess.run(
            _command(recipe), cwd=layout.root, env=environment, check=False
        ).returncode
        if code:
            raise UserError(f"{_LOCAL} failed with exit code {code}")
