"""Run the stages of a recipe: choose, check, skip what is done, lock, log.

A stage's body is a module `sNN_*.py` of this package with `TITLE`, `parts(recipe)`,
which says what there is to do, and `run(recipe, part)`, which does it. One that runs
programs names them by `commands(recipe, part)`, for `--dry_run`; none: the body is Python.
"""

import contextlib
import functools
import importlib
import os
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace

from mtla_espnet.directories import remove_leftovers
from mtla_espnet.files import UserError, place_error, write_text
from mtla_espnet.inference.named_files import own_experiments
from mtla_espnet.jobs.cluster_config import jobs_run_by_file, read_cluster_config
from mtla_espnet.jobs.lock import directory_lock, locked_above, reading_locks
from mtla_espnet.jobs.log import say, script_of_lines
from mtla_espnet.jobs.marks import Mark, Part, check_inputs, other_options
from mtla_espnet.jobs.processes import TRAININGS, check_stages, is_submitted, training_place
from mtla_espnet.jobs.stamps import files_of, is_table_of_places
from mtla_espnet.recipe.load import load_recipe
from mtla_espnet.recipe.options import help_text, options_of_stage, parse_options
from mtla_espnet.recipe.recipe import Recipe
from mtla_espnet.runner.checks import check_needs, check_room
from mtla_espnet.runner.download import use_downloaded
from mtla_espnet.runner.dry_run import describe_stage
from mtla_espnet.runner.ending import ending
from mtla_espnet.runner.parts import parts_of
from mtla_espnet.runner.training_job import check_training_job, train_as_job
from mtla_espnet.task import TASKS
from mtla_espnet.trust import files_trusted_everywhere

BODIES = {
    1: "s01_data",
    2: "s02_speed",
    3: "s03_format",
    4: "s04_filter",
    5: "s05_tokens",
    6: "s06_lm_stats",
    7: "s07_lm_train",
    8: "s08_perplexity",
    9: "s09_ngram",
    10: "s10_stats",
    11: "s11_train",
    12: "s12_decode",
    13: "s13_score",
    14: "s14_pack",
    15: "s15_upload",
}
# The copies at other speeds, and the formatted audio.
_FILLS_THE_DUMP = (2, 3)
# Whose jobs may run on a cluster.
_FANS_OUT = {2, 3, 6, 10, 12}
# What is formatted, and what is chosen of it.
_MAKE_THE_DUMP = (3, 4)


def run_recipe(argv: Sequence[str], root: str | os.PathLike = ".", task: str = "asr") -> None:
    """Run the stages that a command line asks for, all in this process.

    Args:
        argv: the options of `run.sh`.
        root: the recipe's directory.
        task: name of the recipe's task.

    Raises:
        UserError: an option, a configuration, an input or a job is wrong.
    """
    script_of_lines(f"{task}.sh")
    options = parse_options(argv, task=task)
    if options is None:
        print(help_text(task=task), end="")
        return
    with files_trusted_everywhere(options.trust_files), own_experiments(root):
        _run(options, root, argv)


def _run(options: SimpleNamespace, root: str | os.PathLike, argv: Sequence[str]) -> None:
    begin = time.monotonic()
    chosen = chosen_stages(options)
    if options.download_model and not options.dry_run:
        running = [number for number in chosen if not why_left_out(options, number)]
        use_downloaded(options, Path(root), running)
    recipe = load_recipe(options, root)
    for note in recipe.notes:
        say(f"Note: {note}")
    if not options.dry_run:
        running = [number for number in chosen if not why_left_out(options, number)]
        check_stages(training_place(options), running)
        check_needs(recipe, running)
        for number in TRAININGS if is_submitted(options) else ():
            if number in running:
                for part in parts_of(recipe, number, body_of(recipe, number)):
                    check_training_job(recipe, number, part)
    cluster = read_cluster_config(Path(options.parallel)) if options.parallel else None
    with _jobs_run(recipe, chosen) as engine:
        for number in chosen:
            left_out = why_left_out(options, number)
            if left_out:
                say(f"Stage {number}: skipped ({left_out})")
            elif options.dry_run:
                module = body_of(recipe, number)
                say(f"Stage {number}: {module.TITLE}")
                where = cluster.describe() if cluster and number in _FANS_OUT else ""
                print(describe_stage(recipe, number, module, where), flush=True)
            else:
                if number in _FILLS_THE_DUMP:
                    check_room(recipe)
                if number in TRAININGS and engine:
                    engine.close()  # its jobs would wait for hours
                if run_stage(recipe, number, argv):
                    leave_command(recipe, number, argv)
    if options.dry_run:
        say("--dry_run true: nothing was run")
    else:
        if 13 in chosen and not why_left_out(options, 13):
            for line in ending(recipe):
                say(line)
        say(f"Successfully finished. [elapsed={round(time.monotonic() - begin)}s]")


def _jobs_run(recipe: Recipe, chosen: Sequence[int]) -> contextlib.AbstractContextManager:
    """Return the context that stages run in; its value is the cluster, if there is one."""
    options = recipe.options
    running = {number for number in chosen if not why_left_out(options, number)}
    wanted = options.parallel and not options.dry_run and not _FANS_OUT.isdisjoint(running)
    surroundings = (
        functools.partial(files_trusted_everywhere, options.trust_files),
        functools.partial(own_experiments, str(recipe.root.absolute())),
    )
    path = Path(options.parallel) if wanted else None
    return jobs_run_by_file(path, Path(options.expdir), surroundings)


def chosen_stages(options: SimpleNamespace) -> list[int]:
    """Return the numbers of the stages that the options choose, in order.

    Raises:
        UserError: `skip_stages` is not a list of numbers.
    """
    words = options.skip_stages.split()
    if not all(word.isdigit() for word in words):
        raise UserError(f"--skip_stages must be numbers, not {options.skip_stages!r}", exit_code=2)
    skipped = set(map(int, words))
    if options.skip_data_prep:
        skipped |= {1, 2, 3, 4, 5}
    if options.skip_train:
        skipped |= {2, *range(4, 12)}
    if options.skip_eval:
        skipped |= {12, 13}
    return [
        number
        for number in sorted(BODIES)
        if options.stage <= number <= options.stop_stage and number not in skipped
    ]


def why_left_out(options: SimpleNamespace, number: int) -> str | None:
    """Return what leaves out a stage which only some recipes need; None: it runs."""
    left_out = TASKS[options.task].left_out
    if number in left_out:
        return left_out[number]
    if number == 2 and not options.speed_perturb_factors.strip():
        return "no --speed_perturb_factors"
    if number in (6, 7, 8) and not options.use_lm:
        return "--use_lm false"
    if number == 9 and not options.use_ngram:
        return "--use_ngram false"
    if number == 14 and options.skip_packing:
        return "--skip_packing true"
    if number in (14, 15) and options.download_model:
        return "--download_model: the model is packed already"
    if number == 15 and options.skip_upload_hf:
        return "--skip_upload_hf true"
    return None


def leave_command(recipe: Recipe, number: int, argv: Sequence[str]) -> None:
    """Leave a `run.sh` that resumes at this stage where a long one writes its results."""
    places = {6: recipe.paths.lm_stats_dir, 7: recipe.paths.lm_exp_dir}
    places |= {10: recipe.paths.stats_dir, 11: recipe.paths.exp_dir, 12: recipe.paths.inference_dir}
    if number in places:
        path = places[number] / "run.sh"
        command = shlex.join([f"./{recipe.task.name}.sh", *argv, "--stage", str(number)])
        write_text(path, f'#!/usr/bin/env bash\nexec {command} "$@"\n')
        path.chmod(0o755)


def run_stage(recipe: Recipe, number: int, argv: Sequence[str] = ()) -> bool:
    """Run the parts of one stage that are not done; return whether there were any.

    Args:
        recipe: the recipe.
        number: the stage.
        argv: the options of the run, for a training that is submitted as a job.

    Raises:
        UserError: an input is missing, a directory is in use, or the stage failed.
    """
    module = body_of(recipe, number)
    title = f"Stage {number}: {module.TITLE}"
    begin = time.monotonic()
    ran = []
    for part in parts_of(recipe, number, module):
        try:
            ran.append(_run_part(recipe, number, module, part, title, argv))
        except OSError as error:
            if told := place_error(error, part.directory):
                raise told from None
            raise
    if any(ran):
        say(f"Stage {number}: finished in {time.monotonic() - begin:.1f} s")
    else:
        say(f"{title}: done already, skipped (--force redoes it)")
    return any(ran)


def read_directories(part: Part) -> set[Path]:
    """Return where the audio and the features of a part are, as far as stages write there.

    They are read all the time that the part runs, and not only when it begins.
    """
    tables = [path for path in part.inputs if is_table_of_places(path)]
    places = {os.path.dirname(file) for table in tables for file in files_of(table)}
    return locked_above([*tables, *(Path(place) / "a file" for place in places)]) - {part.directory}


def check_made_alike(recipe: Recipe, part: Part) -> None:
    """Check that the formatted data which a part reads were made with this run's options.

    They were not where the stages that make them are left out by `--stage`.

    Raises:
        UserError: they were made with others, such as another sampling rate; names them.
    """
    for maker in sorted({number for number in part.inputs.values() if number in _MAKE_THE_DUMP}):
        if why_left_out(recipe.options, maker):
            continue
        for made in parts_of(recipe, maker, body_of(recipe, maker)):
            if part.inputs.keys().isdisjoint(made.outputs):
                continue
            check_made_alike(recipe, made)
            changes = other_options(made, maker)
            options = options_of_stage(recipe.options.task, maker)
            passing = {option.name for option in options if option.of_the_pass}
            other = [change for change in changes if change.split(":")[0] not in passing]
            if other:
                raise UserError(
                    f"{made.directory} was made with other options ({'; '.join(other)}): give "
                    f"the same ones, or make it again (--stage {maker})"
                )


def body_of(recipe: Recipe, number: int) -> ModuleType:
    """Return the module of a stage, which the task may have of its own."""
    name = recipe.task.bodies.get(number, BODIES[number])
    return importlib.import_module(f"mtla_espnet.stages.{name}")


def _run_part(
    recipe: Recipe, number: int, module: ModuleType, part: Part, title: str, argv: Sequence[str]
) -> bool:
    check_inputs(part)
    force = recipe.options.force
    mark = Mark(part, number, recipe.root)
    if mark.missing_reason() is None and not force:
        return False
    check_made_alike(recipe, part)
    if number in TRAININGS and is_submitted(recipe.options):
        _check_unchanged(recipe, part, mark)
        say(title)
        train_as_job(recipe, number, part, argv)
        return True
    place = training_place(recipe.options)
    if place.rank:
        say(f"{title}: process {place.rank + 1} of {place.size}")
        module.run(recipe, part)
        return True
    with directory_lock(part.directory), reading_locks(read_directories(part)):
        reason = mark.missing_reason()  # again: another run may have done it meanwhile
        if reason is None and not force:
            return False
        _check_unchanged(recipe, part, mark)
        why = "" if reason in (None, "not done yet") else f" (again: {reason})"
        say(f"{title}{f' [{part.name}]' if part.name else ''}{why}")
        mark.begin()
        remove_leftovers(part.directory)
        module.run(recipe, part)
        mark.finish()
    return True


def _check_unchanged(recipe: Recipe, part: Part, mark: Mark) -> None:
    forbidden = mark.forbidden_changes()
    if forbidden and not recipe.options.force:
        raise UserError(
            f"{part.directory} was made with other settings ({'; '.join(forbidden[:3])}): "
            f"name another one by --{recipe.task.model}_tag, or start anew by --force"
        )
