"""What a recipe that has been scored says at its end: the scores, where they are, what is next."""

from mtla_espnet.recipe.recipe import Recipe
from mtla_espnet.report.decodes import find_decodes
from mtla_espnet.score.registry import SCORES


def ending(recipe: Recipe) -> list[str]:
    """Return the last lines of a run whose decoded sets are scored.

    Raises:
        UserError: a file of results cannot be read.
    """
    exp_dir = recipe.paths.exp_dir
    tag = recipe.paths.inference_dir.relative_to(exp_dir).as_posix()
    lines = []
    for decode in find_decodes(exp_dir):
        if not decode.results or not decode.name.startswith(f"{tag}/"):
            continue
        told = []
        for score, result in decode.results.items():
            for measure in SCORES[score].measures:
                value = result.values.get(measure.name)
                if measure.heading and value is not None:
                    name, percent, _ = measure.heading.partition(" %")
                    told.append(f"{name} {value:{measure.form}}{percent}")
        count = f" of {decode.utterances} utterances" if decode.utterances else ""
        lines.append(f"{decode.name.removeprefix(f'{tag}/')}{count}: {', '.join(told)}")
        lines += [f"Note: {warning}" for warning in decode.warnings]
    verb, file = recipe.task.verb[0], "a.wav" if recipe.task.speech else "a.txt"
    return [
        *lines,
        f"All results are in {exp_dir / 'RESULTS.md'}",
        f"Next: mtla-espnet {verb} --model {exp_dir} {file} (a file of yours), or the same recipe "
        "with another --attention, and mtla-espnet report . to compare",
    ]
