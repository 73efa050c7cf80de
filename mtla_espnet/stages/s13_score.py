"""Stage 13: score the decoded sets, and write the experiment's RESULTS.md."""

import os
import shlex
import sys

from mtla_espnet.files import UserError
from mtla_espnet.jobs.marks import Part
from mtla_espnet.programs import run_program
from mtla_espnet.recipe.recipe import Recipe
from mtla_espnet.report.tables import write_results
from mtla_espnet.stages.shared.scores import made_by, scored_set, scores_of

TITLE = "Score"
_LOCAL = "local/score.sh"


def parts(recipe: Recipe) -> list[Part]:
    """One part a set, then one for what is made of all of them."""
    scores = scores_of(recipe)
    names = [name for score in scores for name in score.options]
    result, all_results = [], []
    for name in recipe.sets.evaluated:
        scored = scored_set(recipe, name)
        directory, stages = scored.directory, made_by(recipe, scored)
        read = [path for score in scores for path in score.inputs(scored)]
        inputs = {scored.hypotheses: 12} | {path: stages[path] for path in read}
        results = [directory / file for score in scores for file in score.outputs(scored)]
        all_results += results
        result.append(
            Part(
                directory=directory,
                options={name: getattr(recipe.options, name) for name in names},
                inputs=inputs,
                outputs=results,
                name=name,
                unread=("local_score_opts",),
            )
        )
    local = [recipe.root / _LOCAL] if _has_local(recipe) else []
    result.append(
        Part(
            directory=recipe.paths.exp_dir,
            options={},
            inputs={path: 13 for path in all_results} | {path: 0 for path in local},
            outputs=[recipe.paths.exp_dir / "RESULTS.md"],
        )
    )
    return result


def commands(recipe: Recipe, part: Part) -> list[str]:
    """Return the command of local/score.sh, where it exists."""
    return [] if part.name or not _has_local(recipe) else [shlex.join(_command(recipe))]


def _has_local(recipe: Recipe) -> bool:
    return (recipe.root / _LOCAL).exists()


def _command(recipe: Recipe) -> list[str]:
    options = shlex.split(recipe.options.local_score_opts)
    return [f"./{_LOCAL}", *options, os.path.relpath(recipe.paths.exp_dir, recipe.root)]


def run(recipe: Recipe, part: Part) -> None:
    """Score one set, or write RESULTS.md and run local/score.sh where it exists.

    Raises:
        UserError: ids do not match, a reference is not what the task's are, or local/score.sh
            failed.
    """
    (recipe.paths.exp_dir / "RESULTS.md").unlink(missing_ok=True)
    if part.name:
        try:
            for score in scores_of(recipe):
                score.write(scored_set(recipe, part.name))
        except Exception:
            for path in part.outputs:  # one score without the others looks whole
                path.unlink(missing_ok=True)
            raise
        return
    write_results(recipe.paths.exp_dir)
    if _has_local(recipe):
        environment = {**os.environ, "python": sys.executable}
        code = run_program(_command(recipe), cwd=recipe.root, env=environment).returncode
        if code:
            raise UserError(f"{_LOCAL} failed with exit code {code}")
