"""Stage 2: copies of the training set at other speeds."""

from mtla_espnet.data.audio.speed import join_speeds, perturb_speed
from mtla_espnet.files import UserError
from mtla_espnet.jobs.log import job_log
from mtla_espnet.jobs.marks import Part
from mtla_espnet.recipe.recipe import Recipe
from mtla_espnet.stages.shared.reading import reading_options

TITLE = "Perturb the speed"


def _tables(recipe: Recipe) -> list[str]:
    return ["wav.scp", *recipe.tables, "utt2spk", "spk2utt"]


def _copies(recipe: Recipe) -> dict[str, str]:
    """Return set -> factor of the copies."""
    original = recipe.sets.original_train
    return {f"{original}_sp{f}": f for f in recipe.sets.speed_factors if float(f) != 1.0}


def parts(recipe: Recipe) -> list[Part]:
    """One part a copy, then one that joins them, with the original set for factor 1.0."""
    original = recipe.sets.data_dir(recipe.sets.original_train)
    if (original / "feats.scp").exists() and not (original / "wav.scp").exists():
        raise UserError(
            f"{original}: has features alone, whose speed cannot be changed: leave out "
            "--speed_perturb_factors"
        )
    copies = _copies(recipe)
    tables = _tables(recipe)
    inputs = {original / table: 1 for table in tables}
    for table in ("segments", "utt2ref_channels"):
        if (original / table).exists():
            inputs[original / table] = 1
    result = []
    for name, factor in copies.items():
        target = recipe.sets.data_dir(name)
        files = (*tables, "utt2uniq", "data")
        outputs = [target / file for file in files]
        result.append(Part(target, {"factor": factor}, inputs, outputs, name))
    joined = {
        recipe.sets.data_dir(name) / table: 2 for name in copies for table in (*tables, "utt2uniq")
    }
    target = recipe.sets.data_dir(recipe.sets.train)
    result.append(
        Part(
            directory=target,
            options={"factors": recipe.sets.speed_factors},
            inputs=inputs | joined,
            outputs=[target / table for table in (*tables, "utt2uniq")],
            name=recipe.sets.train,
            unread=("channel", "max_rejected"),
        )
    )
    return result


def run(recipe: Recipe, part: Part) -> None:
    """Make one copy, or join them.

    Raises:
        UserError: a data directory is bad, too many utterances are left out, or two copies have
            the same id.
    """
    original = recipe.sets.data_dir(recipe.sets.original_train)
    copies = _copies(recipe)
    if part.name in copies:
        factor = copies[part.name]
        log = part.directory / "logs/perturb_speed.log"
        with job_log(log, f"perturb_speed {original} by {factor}", silent=False):
            perturb_speed(original, part.directory, factor, reading_options(recipe))
        return
    sources = [recipe.sets.data_dir(name) for name in copies]
    if len(copies) < len(recipe.sets.speed_factors):
        sources.append(original)
    join_speeds(sources, part.directory, recipe.tables)
