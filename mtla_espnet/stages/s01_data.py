"""Stage 1: make the data directories with local/data.sh, and check them."""

import os
import shlex
import sys

from mtla_espnet.data.fairseq.config import write_global_cmvn
from mtla_espnet.data.fairseq.from_fairseq import data_dir_from_manifest
from mtla_espnet.data.kaldi.datadir import validate_data_dir, validate_text_dir
from mtla_espnet.files import UserError
from mtla_espnet.jobs.log import say
from mtla_espnet.jobs.marks import Part
from mtla_espnet.programs import run_program
from mtla_espnet.recipe.recipe import Recipe

TITLE = "Prepare data"
_SCRIPT = "local/data.sh"


def _sets(recipe: Recipe) -> list[str]:
    return [recipe.sets.original_train, recipe.sets.valid, *recipe.sets.tests]


def parts(recipe: Recipe) -> list[Part]:
    """One part: local/data.sh, or Fairseq's manifests, make all sets."""
    inputs, unread = {recipe.root / _SCRIPT: 0}, ()
    if recipe.fairseq_dir:
        unread = ("local_data_opts",)
        config = recipe.fairseq_dir / "config.yaml"
        inputs = {recipe.fairseq_dir / f"{name}.tsv": 0 for name in _sets(recipe)}
        inputs |= {config: 0} if config.exists() else {}
        inputs |= {recipe.fairseq.global_cmvn: 0} if recipe.fairseq.global_cmvn else {}
    tables = [
        recipe.sets.data_dir(name) / table for name in _sets(recipe) for table in _tables(recipe)
    ]
    made = [path for path, maker in recipe.normalization.items() if maker == 1]
    return [Part(recipe.root / "data", {}, inputs, [*tables, *made], unread=unread)]


def _tables(recipe: Recipe) -> list[str]:
    if not recipe.task.speech:
        return recipe.tables
    # Features may be there instead of audio; which it is, the script knows.
    audio = [] if recipe.speech.is_features else ["wav.scp"]
    return [*audio, *recipe.tables, "utt2spk", "spk2utt"]


def commands(recipe: Recipe, part: Part) -> list[str]:
    """Return the command that makes the data; none where manifests are read."""
    return [] if recipe.fairseq_dir else [shlex.join(_command(recipe))]


def _command(recipe: Recipe) -> list[str]:
    return [f"./{_SCRIPT}", *shlex.split(recipe.options.local_data_opts)]


def run(recipe: Recipe, part: Part) -> None:
    """Run local/data.sh in the recipe's directory, with this process's Python.

    Raises:
        UserError: it failed, or a set that it made is not sound; or a manifest is bad.
    """
    if recipe.fairseq_dir:
        _read_manifests(recipe)
    else:
        _run_script(recipe)
    for name in _sets(recipe):
        directory = recipe.sets.data_dir(name)
        if recipe.task.speech:
            features = recipe.speech.is_features and (directory / "feats.scp").exists()
            validate_data_dir(
                directory,
                audio=not features,
                features=features,
                allow_pipes=recipe.options.allow_pipes,
                texts=recipe.tables,
            )
        else:
            validate_text_dir(directory, recipe.tables)


def _read_manifests(recipe: Recipe) -> None:
    if recipe.fairseq.unknown:
        path = recipe.fairseq_dir / "config.yaml"
        say(f"{path}: without effect here: {', '.join(recipe.fairseq.unknown)}")
    languages = [getattr(recipe.options, name, "") for name in ("src_lang", "tgt_lang")]
    for name in _sets(recipe):
        manifest = recipe.fairseq_dir / f"{name}.tsv"
        data_dir_from_manifest(manifest, recipe.sets.data_dir(name), *languages)
        if (recipe.sets.data_dir(name) / "feats.scp").exists() and not recipe.speech.is_features:
            raise UserError(f"{manifest}: holds features: give --feats_type fairseq_zip")
    for path, maker in recipe.normalization.items():
        if maker == 1:
            write_global_cmvn(recipe.fairseq.global_cmvn, path)


def _run_script(recipe: Recipe) -> None:
    environment = {**os.environ, "python": sys.executable}
    try:
        code = run_program(_command(recipe), cwd=recipe.root, env=environment).returncode
    except OSError as error:
        raise UserError(f"{_SCRIPT}: cannot be run: {error.strerror}") from None
    if code:
        raise UserError(f"{_SCRIPT} failed with exit code {code}")
