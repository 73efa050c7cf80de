"""What a stage would do: `--dry_run`."""

from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from mtla_espnet.jobs.marks import Mark, Part
from mtla_espnet.jobs.processes import TRAININGS, is_submitted
from mtla_espnet.recipe.recipe import Recipe
from mtla_espnet.runner.parts import parts_of
from mtla_espnet.runner.training_job import describe_job


def describe_stage(recipe: Recipe, number: int, module: ModuleType, cluster: str = "") -> str:
    """Tell of each part of a stage whether it is done, what it reads, writes and runs.

    Args:
        recipe: the recipe.
        number: the stage.
        module: its body, as `mtla_espnet.runner.runner` describes it.
        cluster: what runs its jobs; empty: this machine.

    Returns:
        Indented lines. What is done is judged by the files that are there now.
    """
    lines = []
    for part in parts_of(recipe, number, module):
        name = f" [{part.name}]" if part.name else ""
        lines.append(f"  {part.directory}{name}: {_state(recipe, number, part)}")
        missing = {path: _missing(path, maker) for path, maker in part.inputs.items()}
        for remark in dict.fromkeys(missing.values()):
            paths = [path for path in missing if missing[path] == remark]
            lines += [f"    reads   {line}{remark}" for line in by_directory(paths)]
        lines += [f"    writes  {line}" for line in by_directory(part.outputs)]
        if number in TRAININGS and is_submitted(recipe.options):
            lines.append(f"    submits {describe_job(recipe, part)}")
            continue
        commands = module.commands(recipe, part) if hasattr(module, "commands") else []
        for command in commands or [f"{module.__name__} in this process"]:
            lines.append(f"    runs    {command}")
        if cluster:
            lines.append(f"    jobs    {cluster}")
    return "\n".join(lines)


def by_directory(paths: Iterable[Path]) -> list[str]:
    """Write paths as a shell would take them, those of one directory together.

    Example:
        >>> by_directory([Path("a/x"), Path("a/y"), Path("b/x")])
        ['a/{x,y}', 'b/x']
    """
    names: dict[Path, list[str]] = {}
    for path in paths:
        names.setdefault(path.parent, []).append(path.name)
    return [
        str(directory / (files[0] if len(files) == 1 else f"{{{','.join(files)}}}"))
        for directory, files in names.items()
    ]


def _missing(path: Path, maker: int) -> str:
    if path.exists():
        return ""
    return f" (missing: stage {maker} makes it)" if maker else " (missing)"


def _state(recipe: Recipe, number: int, part: Part) -> str:
    if recipe.options.force:
        return "runs (--force)"
    if not all(path.exists() for path in part.inputs):
        return "waits for its inputs"
    reason = Mark(part, number, recipe.root).missing_reason()
    return f"runs ({reason})" if reason else "done already"
