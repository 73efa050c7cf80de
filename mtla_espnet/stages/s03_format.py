"""Stage 3: format audio: cut segments, resample, one file an utterance or an archive."""

import os

from mtla_espnet.data.format import format_audio
from mtla_espnet.stages.layout import used_options
from mtla_espnet.stages.marks import Part
from mtla_espnet.stages.options import channel_number
from mtla_espnet.stages.recipe import Recipe

TITLE = "Format audio"
_TABLES = ("wav.scp", "utt2spk", "spk2utt")
_OPTIONAL = ("segments", "utt2ref_channels")
_WRITTEN = (*_TABLES, "utt2num_samples", "feats_type", "audio_format", "data")


def parts(recipe: Recipe) -> list[Part]:
    """One part a set."""
    layout = recipe.layout
    result = []
    for name in (layout.train_set, layout.valid_set, *layout.test_sets):
        source, target = layout.data_dir(name), layout.formatted_dir(name)
        maker = 1 if name != layout.train_set or not layout.speed_factors else 2
        present = [table for table in _OPTIONAL if (source / table).exists()]
        inputs = {source / table: maker for table in (*_TABLES, *layout.tables, *present)}
        result.append(
            Part(
                directory=target,
                options=used_options(recipe.options, "audio_format", "channel", "max_rejected")
                | {"fs": layout.rate},
                inputs=inputs,
                outputs=[target / file for file in (*_WRITTEN, *layout.tables)],
                name=name,
            )
        )
    return result


def run(recipe: Recipe, part: Part) -> None:
    """Format one set.

    Raises:
        UserError: see `format_audio`.
    """
    options = recipe.options
    format_audio(
        recipe.layout.data_dir(part.name),
        part.directory,
        recipe.layout.rate,
        audio_format=options.audio_format,
        nj=max(1, min(options.nj, os.cpu_count() or 1)),
        tables=recipe.layout.tables,
        max_rejected=options.max_rejected,
        allow_pipes=options.allow_pipes,
        channel=channel_number(options.channel),
        fresh=options.force,
    )
