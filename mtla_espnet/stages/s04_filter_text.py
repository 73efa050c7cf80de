"""Stage 4 of tasks that read text: leave out lines that are too long or empty."""

from collections.abc import Mapping

from mtla_espnet.data.kaldi.tables import read_table, write_table
from mtla_espnet.jobs.marks import Part
from mtla_espnet.recipe.recipe import Recipe
from mtla_espnet.stages.shared.kept import tell_kept, write_lm_text

TITLE = "Remove long and empty texts"


def parts(recipe: Recipe) -> list[Part]:
    """One part for the training set and one for the validation set; test sets stay whole."""
    result = []
    for name in (recipe.sets.train, recipe.sets.valid):
        source, target = recipe.sets.formatted_dir(name), recipe.sets.dump_set_dir(name)
        outputs = [target / table for table in recipe.tables]
        if name == recipe.sets.train:
            outputs.append(recipe.sets.lm_train_text)
        result.append(
            Part(
                directory=target,
                options={},
                inputs={source / table: 3 for table in recipe.tables},
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
    tables = {name: read_table(source / name) for name in recipe.tables}
    target, document = (tables[text.table] for text in recipe.texts)
    kept, dropped = keep(document, target, options.max_src_words, options.max_tgt_words)
    tell_kept(part.name, source, kept, dropped, "text", "--max_src_words")
    for name, table in tables.items():
        write_table(part.directory / name, {key: table[key] for key in table if key in kept})
    if part.name == recipe.sets.train:
        write_lm_text(recipe)


def keep(
    source: Mapping[str, str], target: Mapping[str, str], most_source: int, most_target: int
) -> tuple[set[str], dict[str, int]]:
    """Choose texts with words on both sides, and not more of them than the limits.

    Args:
        source: id -> what is read.
        target: id -> what is written.
        most_source: words of the longest source; 0: any.
        most_target: words of the longest target; 0: any.

    Returns:
        The ids, and reason -> number of those left out for it.

    Example:
        >>> keep({"a": "x y", "b": "x", "c": ""}, {"a": "z", "b": "z", "c": "z"}, 1, 0)
        ({'b'}, {'empty': 1, 'with a long source': 1, 'with a long target': 0})
    """
    kept = set()
    dropped = {"empty": 0, "with a long source": 0, "with a long target": 0}
    for key, words in source.items():
        if not words or not target[key]:
            dropped["empty"] += 1
        elif most_source and len(words.split()) > most_source:
            dropped["with a long source"] += 1
        elif most_target and len(target[key].split()) > most_target:
            dropped["with a long target"] += 1
        else:
            kept.add(key)
    return kept, dropped
