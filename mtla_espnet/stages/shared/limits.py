"""What a model cannot be trained on, looked for before its training, left out and listed."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from mtla_espnet.data.kaldi.rejected import Rejection, report_rejected, write_rejections
from mtla_espnet.data.kaldi.tables import read_table, write_table
from mtla_espnet.files import UserError
from mtla_espnet.jobs.log import job_log, say
from mtla_espnet.jobs.processes import training_place
from mtla_espnet.recipe.espnet_arguments import load_espnet, training_sets
from mtla_espnet.recipe.recipe import Recipe

UNALIGNED = "unaligned.tsv"


def limits_dir(exp_dir: Path, mode: str) -> Path:
    """Return where the lists of a set are, and the shapes of what is not left out."""
    return exp_dir / "limits" / mode


def leave_out(
    recipe: Recipe, argv: Sequence[str], shape_files: Sequence[str], exp_dir: Path
) -> dict[str, Collection[str]]:
    """Leave out the utterances that the encoder cannot take, and list texts too long for CTC.

    In `limits/<mode>/` of the experiment `rejected.tsv` has the former, with files of shapes that
    lack them (ESPnet trains on what these name), and `unaligned.tsv` the latter, from which the
    other losses learn. All processes of a training write the same.

    Args:
        recipe: its options `max_rejected` and `max_unaligned` say how many there may be.
        argv: arguments of the training.
        shape_files: names of the files of shapes in the directory of statistics.
        exp_dir: of the experiment.

    Returns:
        train and valid -> ids that are left out.

    Raises:
        UserError: there are too many.
        JobFailed: the model cannot be built.
    """
    options = recipe.options
    sets = training_sets(recipe)
    if not recipe.speech:
        return {mode: () for mode in sets}
    load_espnet()
    from mtla_espnet.tasks.limits import ModelLimits  # here: it loads ESPnet
    from mtla_espnet.tasks.register import task_class

    tables = {"speech": recipe.speech.scp} | {text.name: text.table for text in recipe.texts}
    result: dict[str, Collection[str]] = {}
    remarks = []
    log = exp_dir / training_place(options).log_name
    with job_log(log, "look for what the model cannot be trained on", append=True):
        limits = ModelLimits(task_class(recipe.task), argv)
        for mode, data_dir in sets.items():
            target, stats_dir = limits_dir(exp_dir, mode), recipe.paths.stats_dir / mode
            shapes = _read_shapes(stats_dir / "speech_shape")
            files = {name: str(data_dir / table) for name, table in tables.items()}
            reasons = {key: ("speech", why) for key, why in limits.refused(shapes).items()}
            refused = _rejections(reasons, files, shapes)
            ids = report_rejected(target, refused, len(shapes), options.max_rejected)
            for name in shape_files if ids else []:
                table = read_table(stats_dir / name)
                write_table(target / name, {key: table[key] for key in table if key not in ids})
            if ids:
                remarks.append(f"{mode}: {len(ids)} utterances are left out, see {target}")
            result[mode] = ids
            reasons = limits.unaligned(
                {key: shape for key, shape in shapes.items() if key not in ids},
                {name: _read_shapes(stats_dir / f"{name}_shape") for name in limits.ctc_texts},
                {name: read_table(files[name]) for name in limits.ctc_texts},
            )
            unaligned = write_rejections(target / UNALIGNED, _rejections(reasons, files, shapes))
            if unaligned:
                counted = _counted(target, unaligned, len(shapes), options.max_unaligned)
                remarks.append(f"{mode}: {counted}, see {target}: the other losses have them")
    for remark in remarks:
        say(remark)
    return result


def _counted(
    directory: Path, unaligned: Sequence[Rejection], n_utterances: int, max_percent: float
) -> str:
    """Say how many texts CTC cannot align.

    Raises:
        UserError: they are more than `max_percent` of the utterances.
    """
    counted = f"CTC cannot align the texts of {len(unaligned)} of {n_utterances} utterances"
    percent = 100.0 * len(unaligned) / n_utterances
    if percent > max_percent:
        raise UserError(
            f"{directory / UNALIGNED}: {counted} ({percent:.3g} %, more than --max_unaligned "
            f"{max_percent:g} %): sub-sample less, take larger tokens, or leave CTC out; "
            f"the first: {unaligned[0]}"
        )
    return counted


def _rejections(
    reasons: Mapping[str, tuple[str, str]], files: Mapping[str, str], keys: Collection[str]
) -> list[Rejection]:
    """Say which file and line each is about.

    Args:
        reasons: id -> name of the input, reason.
        files: name of the input -> its table.
        keys: ids, in the order of the tables.
    """
    lines = {key: number for number, key in enumerate(keys, 1)}
    return [
        Rejection(key, files[name], lines[key], reason) for key, (name, reason) in reasons.items()
    ]


def _read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    return {key: tuple(map(int, shape.split(","))) for key, shape in read_table(path).items()}
