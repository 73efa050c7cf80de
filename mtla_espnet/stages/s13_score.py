"""Stage 13: score the decoded sets, and write the experiment's RESULTS.md."""

import os
import shlex
import sys

from mtla_espnet.files import UserError
from mtla_espnet.jobs.marks import Part
from mtla_espnet.programs import run_program
from mtla_espnet.recipe.layout import used_options
from mtla_espnet.recipe.recipe import Recipe
from mtla_espnet.report.tables import write_results
from mtla_espnet.stages.shared.scores import scores_of

TITLE = "Score"
_LOCAL = "local/score.sh"


def parts(recipe: Recipe) -> list[Part]:
    """One part a set, then one for what is made of all of them."""
    layout = recipe.layout
    scores = scores_of(layout)
    names = [name for score in scores for name in score.options]
    result, all_results = [], []
    for name, data_dir in layout.eval_sets.items():
        directory = layout.inference_dir / name
        inputs = {directory / "text": 12}
        for score in scores:
            inputs |= score.inputs(layout, data_dir)
        results = [directory / file for score in scores for file in score.outputs(layout)]
        all_results += results
        result.append(
            Part(
                directory=directory,
                options=used_options(recipe.options, *names),
                inputs=inputs,
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
        UserError: ids do not match, a reference is not what the task's are, or local/score.sh
            failed.
    """
    layout = recipe.layout
    (layout.exp_dir / "RESULTS.md").unlink(missing_ok=True)
    if part.name:
        try:
            for score in scores_of(layout):
                score.run(recipe, layout.eval_sets[part.name], part.directory)
        except Exception:
            for path in part.outputs:  # one score without the others looks whole
                path.unlink(missing_ok=True)
            raise
        return
    write_results(layout.exp_dir)
    if _has_local(recipe):
        environment = {**os.environ, "python": sys.executable}
        code = run_program(_command(recipe), cwd=layout.root, env=environment).returncode
        if code:
            raise UserError(f"{_LOCAL} failed with exit code {code}")
