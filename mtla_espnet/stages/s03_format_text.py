"""Stage 3 of tasks that read text: copy the tables, with single blanks between words."""

from mtla_espnet.data.kaldi.datadir import validate_text_dir
from mtla_espnet.data.kaldi.tables import read_table, write_table
from mtla_espnet.jobs.marks import Part
from mtla_espnet.recipe.recipe import Recipe

TITLE = "Format text"


def parts(recipe: Recipe) -> list[Part]:
    """One part a set."""
    return [
        Part(
            directory=recipe.sets.formatted_dir(name),
            options={},
            inputs={recipe.sets.data_dir(name) / table: 1 for table in recipe.tables},
            outputs=[recipe.sets.formatted_dir(name) / table for table in recipe.tables],
            name=name,
        )
        for name in recipe.sets.formatted
    ]


def run(recipe: Recipe, part: Part) -> None:
    """Copy the tables of one set.

    Raises:
        UserError: a table is missing, empty or malformed, or two have not the same ids; names the
            file and the line or id.
    """
    tables = recipe.tables
    validate_text_dir(recipe.sets.data_dir(part.name), tables)
    for source, target in zip(part.inputs, part.outputs, strict=True):
        lines = read_table(source)
        write_table(target, {key: " ".join(words.split()) for key, words in lines.items()})
