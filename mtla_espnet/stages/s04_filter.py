"""Stage 4: leave out utterances that are too short, too long or without text."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mtla_espnet.data.kaldi.tables import read_table, spk2utt_from, write_table
from mtla_espnet.files import write_text
from mtla_espnet.jobs.marks import Part
from mtla_espnet.recipe.recipe import Recipe
from mtla_espnet.stages.shared.kept import tell_kept, write_lm_text

TITLE = "Remove short, long and empty utterances"


def parts(recipe: Recipe) -> list[Part]:
    """One part for the training set and one for the validation set; test sets stay whole."""
    result = []
    for name in (recipe.sets.train, recipe.sets.valid):
        source, target = recipe.sets.formatted_dir(name), recipe.sets.dump_set_dir(name)
        tables, facts = _tables(recipe), recipe.speech.facts_of(source)
        inputs = {source / table: 3 for table in (*tables, *facts)}
        outputs = [target / table for table in (*tables, "spk2utt", *facts)]
        if name == recipe.sets.train:
            inputs |= recipe.sets.text_of_training(recipe.texts[0].table)
            outputs.append(recipe.sets.lm_train_text)
        result.append(
            Part(
                directory=target,
                options={"fs": recipe.rate},
                inputs=inputs,
                outputs=outputs,
                name=name,
            )
        )
    return result


def run(recipe: Recipe, part: Part) -> None:
    """Write the filtered copy of one set, and for the training set lm_train.txt.

    Raises:
        UserError: nothing is left.
    """
    options = recipe.options
    source = recipe.sets.formatted_dir(part.name)
    units_per_s = recipe.speech.units_per_s(source)
    kept, dropped = keep(
        recipe.speech.read_lengths(source),
        [read_table(source / text.table) for text in recipe.texts],
        round(options.min_wav_duration * units_per_s),
        round(options.max_wav_duration * units_per_s),
    )
    tell_kept(part.name, source, kept, dropped, "utterance", "--max_wav_duration")
    write_subset(source, part.directory, kept, _tables(recipe), recipe.speech.facts_of(source))
    if part.name == recipe.sets.train:
        write_lm_text(recipe)


def _tables(recipe: Recipe) -> list[str]:
    """Return the tables by utterance, beside `spk2utt`."""
    return [recipe.speech.scp, recipe.speech.lengths, "utt2spk", *recipe.tables]


def keep(
    lengths: dict[str, int], texts: Sequence[Mapping[str, str]], least: int, most: int
) -> tuple[set[str], dict[str, int]]:
    """Choose utterances with least < length < most and some words in each text.

    Args:
        lengths: utterance -> samples or frames.
        texts: utterance -> words, of each text.
        least: a length that is too short.
        most: a length that is too long.

    Returns:
        The utterances, and reason -> number of those left out for it.

    Example:
        >>> keep({"a": 5, "b": 9, "c": 5}, [{"a": "hi", "b": "hi", "c": ""}], 2, 9)
        ({'a'}, {'too short': 0, 'too long': 1, 'without text': 1})
    """
    kept = set()
    dropped = {"too short": 0, "too long": 0, "without text": 0}
    for utterance, length in lengths.items():
        if length <= least:
            dropped["too short"] += 1
        elif length >= most:
            dropped["too long"] += 1
        elif not all(text.get(utterance) for text in texts):
            dropped["without text"] += 1
        else:
            kept.add(utterance)
    return kept, dropped


def write_subset(
    source: Path, target: Path, kept: set[str], tables: Sequence[str], facts: Sequence[str]
) -> None:
    """Write the part of a formatted directory that `kept` names.

    Args:
        source: a formatted directory.
        target: directory to write; its audio stays in `source`.
        kept: utterances.
        tables: its tables by utterance, with `utt2spk`.
        facts: files that are copied as they are.
    """
    for name in tables:
        table = read_table(source / name)
        write_table(target / name, {key: table[key] for key in table if key in kept})
    write_table(target / "spk2utt", spk2utt_from(read_table(target / "utt2spk")))
    for name in facts:
        write_text(target / name, (source / name).read_text(encoding="utf-8"))
