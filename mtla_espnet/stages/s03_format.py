"""Stage 3: format audio: cut segments, resample, one file an utterance or an archive."""

import os

from mtla_espnet.data.audio import format_audio
from mtla_espnet.stages.layout import used_options
from mtla_espnet.stages.marks import Part
from mtla_espnet.stages.recipe import Recipe

TITLE = "Format audio"
_TABLES = ("wav.scp", "text", "utt2spk", "spk2utt")
_WRITTEN = (*_TABLES, "utt2num_samples", "feats_type", "audio_format", "data")


def parts(recipe: Recipe) -> list[Part]:
    """One part a set."""
    layout = recipe.layout
    result = []
    for name in (layout.train_set, layout.valid_set, *layout.test_sets):
        source, target = layout.data_dir(name), layout.formatted_dir(name)
        maker = 1 if name != layout.train_set or not layout.speed_factors else 2
        inputs = {source / table: maker for table in _TABLES}
        if (source / "segments").exists():
            inputs[source / "segments"] = maker
        result.append(
            Part(
                directory=target,
                options=used_options(recipe.options, "audio_format") | {"fs": layout.rate},
                inputs=inputs,
                outputs=[target / file for file in _WRITTEN],
                name=name,
            )
        )
    return result


def run(recipe: Recipe, part: Part) -> None:
    """Format one set."""
    workers = min(recipe.options.nj, os.cpu_count() or 1)
    format_audio(
        recipe.layout.data_dir(part.name),
        part.directory,
        recipe.layout.rate,
        audio_format=recipe.options.audio_format,
        nj=max(1, workers),
    )
