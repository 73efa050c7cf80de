"""Stage 4: leave out utterances that are too short, too long or without text."""

from pathlib import Path

from mtla_espnet.data.tables import read_table, spk2utt_from, write_table
from mtla_espnet.files import UserError, write_text
from mtla_espnet.stages.layout import Layout, used_options
from mtla_espnet.stages.log import say
from mtla_espnet.stages.marks import Part
from mtla_espnet.stages.recipe import Recipe

TITLE = "Remove short, long and empty utterances"
_TABLES = ("wav.scp", "text", "utt2spk", "utt2num_samples")
_COPIED = ("feats_type", "audio_format")


def parts(recipe: Recipe) -> list[Part]:
    """One part for the training set and one for the validation set; test sets stay whole."""
    layout = recipe.layout
    options = used_options(recipe.options, "min_wav_duration", "max_wav_duration")
    result = []
    for name in (layout.train_set, layout.valid_set):
        source, target = layout.formatted_dir(name), layout.dump_set_dir(name)
        inputs = {source / table: 3 for table in (*_TABLES, *_COPIED)}
        outputs = [target / table for table in (*_TABLES, "spk2utt", *_COPIED)]
        if name == layout.train_set:
            inputs |= _train_text(layout)
            outputs.append(layout.lm_train_text)
        result.append(
            Part(
                directory=target,
                options=options | {"fs": layout.rate},
                inputs=inputs,
                outputs=outputs,
                name=name,
            )
        )
    return result


def _train_text(layout: Layout) -> dict[Path, int]:
    """Return the table that lm_train.txt is made of -> the stage that makes it.

    Copies at other speeds would say everything again: a token list or a language model
    is the same with and without them.
    """
    if layout.speed_factors:
        return {layout.data_dir(layout.original_train_set) / "text": 1}
    return {layout.formatted_dir(layout.train_set) / "text": 3}


def run(recipe: Recipe, part: Part) -> None:
    """Write the filtered copy of one set, and for the training set lm_train.txt.

    Raises:
        UserError: nothing is left.
    """
    layout, options = recipe.layout, recipe.options
    source = layout.formatted_dir(part.name)
    kept, dropped = keep(
        {key: int(value) for key, value in read_table(source / "utt2num_samples").items()},
        read_table(source / "text"),
        round(options.min_wav_duration * layout.rate),
        round(options.max_wav_duration * layout.rate),
    )
    counts = ", ".join(f"{count} {reason}" for reason, count in dropped.items() if count)
    say(f"{part.name}: {len(kept)} utterances kept{f'; left out: {counts}' if counts else ''}")
    if not kept:
        raise UserError(f"{source}: no utterance is left ({counts}): see --max_wav_duration")
    write_subset(source, part.directory, kept)
    if part.name == layout.train_set:
        (text,) = _train_text(layout)
        lines = [f"{key} {words}\n" for key, words in read_table(text).items() if words]
        write_text(layout.lm_train_text, "".join(lines))


def keep(
    num_samples: dict[str, int], text: dict[str, str], least: int, most: int
) -> tuple[set[str], dict[str, int]]:
    """Choose utterances with least < samples < most and some text.

    Args:
        num_samples: utterance -> samples.
        text: utterance -> words.
        least: samples that are too few.
        most: samples that are too many.

    Returns:
        The utterances, and reason -> number of those left out for it.

    Example:
        >>> keep({"a": 5, "b": 9, "c": 5}, {"a": "hi", "b": "hi", "c": ""}, 2, 9)
        ({'a'}, {'too short': 0, 'too long': 1, 'without text': 1})
    """
    kept = set()
    dropped = {"too short": 0, "too long": 0, "without text": 0}
    for utterance, samples in num_samples.items():
        if samples <= least:
            dropped["too short"] += 1
        elif samples >= most:
            dropped["too long"] += 1
        elif not text.get(utterance):
            dropped["without text"] += 1
        else:
            kept.add(utterance)
    return kept, dropped


def write_subset(source: Path, target: Path, kept: set[str]) -> None:
    """Write the part of a formatted directory that `kept` names.

    Args:
        source: a formatted directory.
        target: directory to write; its audio stays in `source`.
        kept: utterances.
    """
    for name in _TABLES:
        table = read_table(source / name)
        write_table(target / name, {key: table[key] for key in table if key in kept})
    write_table(target / "spk2utt", spk2utt_from(read_table(target / "utt2spk")))
    for name in _COPIED:
        write_text(target / name, (source / name).read_text(encoding="utf-8"))
