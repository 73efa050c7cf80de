"""Stage 3: format audio: cut segments, resample, one file an utterance or an archive.

With `--feats_type extracted` or `fairseq_zip` features are checked or computed instead.
"""

from pathlib import Path

from mtla_espnet.data.audio.format import format_audio
from mtla_espnet.data.features.format import EXTRACTOR_FILE, format_features
from mtla_espnet.jobs.log import job_log
from mtla_espnet.jobs.marks import Part
from mtla_espnet.recipe.recipe import Recipe
from mtla_espnet.stages.shared.reading import reading_options

TITLE = "Format audio"
_SPEAKERS = ("utt2spk", "spk2utt")
_OF_AUDIO = ("segments", "utt2ref_channels")


def parts(recipe: Recipe) -> list[Part]:
    """One part a set."""
    speech = recipe.speech
    written = [speech.scp, speech.lengths, *speech.facts, *_SPEAKERS, *recipe.tables]
    written += ["content_digest", "data"]
    result = []
    for name in recipe.sets.formatted:
        source, target = recipe.sets.data_dir(name), recipe.sets.formatted_dir(name)
        maker = 1 if name != recipe.sets.train or not recipe.sets.speed_factors else 2
        tables = (*_sources(recipe, source), *_SPEAKERS, *recipe.tables)
        result.append(
            Part(
                directory=target,
                options={"fs": recipe.rate},
                inputs={source / table: maker for table in tables},
                outputs=[target / file for file in written],
                name=name,
                unread=("audio_format",) if speech.is_features else (),
            )
        )
    return result


def _sources(recipe: Recipe, data_dir: Path) -> list[str]:
    """Return the files of a data directory that say where its audio or its features are."""
    if recipe.speech.is_features and (data_dir / "feats.scp").exists():
        facts = ("frame_shift", EXTRACTOR_FILE)
        return ["feats.scp", *(name for name in facts if (data_dir / name).exists())]
    return ["wav.scp", *(table for table in _OF_AUDIO if (data_dir / table).exists())]


def run(recipe: Recipe, part: Part) -> None:
    """Format one set.

    Raises:
        UserError: the data directory is bad, or too many utterances are left out; names utterance
            and file.
        JobFailed: a job failed; its traceback is in `logs/format.log`.
    """
    options = recipe.options
    reading = reading_options(recipe)
    source, rate_hz = recipe.sets.data_dir(part.name), recipe.rate
    log = part.directory / "logs/format.log"
    with job_log(log, f"format {source} as {options.feats_type}", silent=False):
        if recipe.speech.is_features:
            # Here: it loads torch.
            from mtla_espnet.frontend.fbank import fbank_extractor

            extract = fbank_extractor()
            feats_type = options.feats_type
            format_features(source, part.directory, feats_type, extract, rate_hz, reading)
        else:
            format_audio(source, part.directory, rate_hz, options.audio_format, reading)
