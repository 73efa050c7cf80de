"""`mtla-espnet study`: its arguments, and what they do."""

import argparse
import shlex
from pathlib import Path

from mtla_espnet.jobs.log import script_of_lines
from mtla_espnet.report.rows import BASELINE
from mtla_espnet.study.launch import commands, run_study
from mtla_espnet.study.plan import Study
from mtla_espnet.study.report import write_report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument("recipe_dir", type=Path, help="such as egs2/smarthome/asr1")
    parser.add_argument(
        "--attention",
        default="mha mqa gqa mla mtla",
        help='overlays to compare, as "mha mtla mtla_s3"; files or names in conf/attention '
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--seeds", type=_positive, default=3, help="trainings a kind: seeds 0, 1, ..."
    )
    parser.add_argument(
        "--baseline", default=BASELINE, help="the kind to compare with (default: %(default)s)"
    )
    parser.add_argument(
        "--margin",
        type=float,
        default=0.5,
        help="values that differ by less count as equal, in the measure's unit (default: 0.5)",
    )
    parser.add_argument("--name", default="study", help="of the experiments and the report")
    parser.add_argument("--expdir", default="exp", help="of the recipe")
    parser.add_argument(
        "--train_args", default="", help='of all trainings, as "--max_epoch 10"; the seed is added'
    )
    parser.add_argument(
        "--run_args", default="", help='of all calls of run.sh, as "--ngpu 1 --nj 8"'
    )
    parser.add_argument("--side", type=_positive, default=1, help="trainings at once (on each GPU)")
    parser.add_argument(
        "--gpus", default="", help='GPUs to take in turn, as "0 1"; default: as run.sh sees them'
    )
    parser.add_argument("--report_only", action="store_true", help="run nothing")
    parser.add_argument("--dry_run", action="store_true", help="print the commands, run nothing")


def run(arguments: argparse.Namespace) -> int:
    """Run a study and write its report.

    Returns:
        The exit code: 1 where a run failed; the report is of the others.

    Raises:
        UserError: an argument will not do, or nothing is scored.
    """
    study = Study(
        recipe=arguments.recipe_dir,
        kinds=tuple(arguments.attention.split()),
        seeds=arguments.seeds,
        baseline=arguments.baseline,
        name=arguments.name,
        expdir=arguments.expdir,
        train_args=arguments.train_args,
        run_args=arguments.run_args,
    )
    if arguments.dry_run:
        for name, command in commands(study):
            print(f"# {name}\n(cd {shlex.quote(str(study.recipe))} && {shlex.join(command)})")
        return 0
    script_of_lines("study")
    failed = []
    if not arguments.report_only:
        failed = run_study(study, arguments.side, arguments.gpus.replace(",", " ").split())
        if failed == ["prepare"]:
            return 1
    print(write_report(study, arguments.margin))
    return 1 if failed else 0


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1 on")
    return value
