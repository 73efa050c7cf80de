"""Stage 2: copies of the training set at other speeds."""

from mtla_espnet.data.audio.speed import join_speeds, perturb_speed
from mtla_espnet.files import UserError
from mtla_espnet.jobs.log import job_log
from mtla_espnet.jobs.marks import Part
from mtla_espnet.recipe.layout import Layout, used_options
from mtla_espnet.recipe.recipe import Recipe
from mtla_espnet.stages.s03_format import reading_options

TITLE = "Perturb the speed"


def _tables(layout: Layout) -> list[str]:
    return ["wav.scp", *layout.tables, "utt2spk", "spk2utt"]


def _copies(layout: Layout) -> dict[str, str]:
    """Return set -> factor of the copies."""
    original = layout.original_train_set
    return {f"{original}_sp{f}": f for f in layout.speed_factors if float(f) != 1.0}


def parts(recipe: Recipe) -> list[Part]:
    """One part a copy, then one that joins them, with the original set for factor 1.0."""
    layout = recipe.layout
    original = layout.data_dir(layout.original_train_set)
    if (original / "feats.scp").exists() and not (original / "wav.scp").exists():
        raise UserError(
            f"{original}: has features alone, whose speed cannot be changed: leave out "
            "--speed_perturb_factors"
        )
    copies = _copies(layout)
    tables = _tables(layout)
    inputs = {original / table: 1 for table in tables}
    for table in ("segments", "utt2ref_channels"):
        if (original / table).exists():
            inputs[original / table] = 1
    result = []
    for name, factor in copies.items():
        target = layout.data_dir(name)
        files = (*tables, "utt2uniq", "data")
        outputs = [target / file for file in files]
        options = used_options(recipe.options, "channel", "max_rejected") | {"factor": factor}
        result.append(Part(target, options, inputs, outputs, name))
    joined = {
        layout.data_dir(name) / table: 2 for name in copies for table in (*tables, "utt2uniq")
    }
    target = layout.data_dir(layout.train_set)
    result.append(
        Part(
            directory=target,
            options={"factors": layout.speed_factors},
            inputs=inputs | joined,
            outputs=[target / table for table in (*tables, "utt2uniq")],
            name=layout.train_set,
        )
    )
    return result


def run(recipe: Recipe, part: Part) -> None:
    """Make one copy, or join them; see `perturb_speed` and `join_speeds` for the errors."""
    layout = recipe.layout
    original = layout.data_dir(layout.original_train_set)
    copies = _copies(layout)
    if part.name in copies:
        factor = copies[part.name]
        log = part.directory / "logs/perturb_speed.log"
        with job_log(log, f"perturb_speed {original} by {factor}", silent=False):
            perturb_speed(original, part.directory, factor, **reading_options(recipe))
        return
    sources = [layout.data_dir(name) for name in copies]
    if len(copies) < len(layout.speed_factors):
        sources.append(original)
    join_speeds(sources, part.directory, layout.tables)
