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
from mtla_espnet.recipe.layout import Layout, used_options
from mtla_espnet.recipe.recipe import Recipe

TITLE = "Prepare data"
_SCRIPT = "local/data.sh"


def _sets(layout: Layout) -> list[str]:
    return [layout.original_train_set, layout.valid_set, *layout.test_sets]


def parts(recipe: Recipe) -> list[Part]:
    """One part: local/data.sh, or Fairseq's manifests, make all sets."""
    layout = recipe.layout
    options, inputs = used_options(recipe.options, "local_data_opts"), {layout.root / _SCRIPT: 0}
    if layout.fairseq_dir:
        options = {}
        config = layout.fairseq_dir / "config.yaml"
        inputs = {layout.fairseq_dir / f"{name}.tsv": 0 for name in _sets(layout)}
        inputs |= {config: 0} if config.exists() else {}
        inputs |= {layout.fairseq.global_cmvn: 0} if layout.fairseq.global_cmvn else {}
    tables = [layout.data_dir(name) / table for name in _sets(layout) for table in _tables(layout)]
    made = [path for path, maker in layout.normalization.items() if maker == 1]
    return [Part(layout.root / "data", options, inputs, [*tables, *made])]


def _tables(layout: Layout) -> list[str]:
    if not layout.task.speech:
        return layout.tables
    # Features may be there instead of audio; which it is, the script knows.
    audio = [] if layout.speech.is_features else ["wav.scp"]
    return [*audio, *layout.tables, "utt2spk", "spk2utt"]


def commands(recipe: Recipe, part: Part) -> list[str]:
    """Return the command that makes the data; none where manifests are read."""
    return [] if recipe.layout.fairseq_dir else [shlex.join(_command(recipe))]


def _command(recipe: Recipe) -> list[str]:
    return [f"./{_SCRIPT}", *shlex.split(recipe.options.local_data_opts)]


def run(recipe: Recipe, part: Part) -> None:
    """Run local/data.sh in the recipe's directory, with this process's Python.

    Raises:
        UserError: it failed, or a set that it made is not sound; or a manifest is bad.
    """
    layout = recipe.layout
    if layout.fairseq_dir:
        _read_manifests(layout)
    else:
        _run_script(recipe)
    for name in _sets(layout):
        directory = layout.data_dir(name)
        if layout.task.speech:
            features = layout.speech.is_features and (directory / "feats.scp").exists()
            validate_data_dir(
                directory,
                audio=not features,
                features=features,
                allow_pipes=recipe.options.allow_pipes,
                texts=layout.tables,
            )
        else:
            validate_text_dir(directory, layout.tables)


def _read_manifests(layout: Layout) -> None:
    if layout.fairseq.unknown:
        path = layout.fairseq_dir / "config.yaml"
        say(f"{path}: without effect here: {', '.join(layout.fairseq.unknown)}")
    languages = [getattr(layout.options, name, "") for name in ("src_lang", "tgt_lang")]
    for name in _sets(layout):
        manifest = layout.fairseq_dir / f"{name}.tsv"
        data_dir_from_manifest(manifest, layout.data_dir(name), *languages)
        if (layout.data_dir(name) / "feats.scp").exists() and not layout.speech.is_features:
            raise UserError(f"{manifest}: holds features: give --feats_type fairseq_zip")
    for path, maker in layout.normalization.items():
        if maker == 1:
            write_global_cmvn(layout.fairseq.global_cmvn, path)


def _run_script(recipe: Recipe) -> None:
    layout = recipe.layout
    environment = {**os.environ, "python": sys.executable}
    try:
        code = run_program(_command(recipe), cwd=layout.root, env=environment).returncode
    except OSError as error:
        raise UserError(f"{_SCRIPT}: cannot be run: {error.strerror}") from None
    if code:
        raise UserError(f"{_SCRIPT} failed with exit code {code}")
