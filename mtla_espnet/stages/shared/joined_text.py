"""Texts of language models, from several tables: what stages 6 and 8 share."""

from pathlib import Path

from mtla_espnet.data.kaldi.tables import read_table
from mtla_espnet.files import UserError


def join_text(tables: list[Path]) -> dict[str, str]:
    """Return the lines of tables of text that have words.

    Raises:
        UserError: two tables have the same id, or there is no line with words.
    """
    joined: dict[str, str] = {}
    for path in tables:
        text = read_table(path)
        twice = joined.keys() & text.keys()
        if twice:
            raise UserError(f"{path}: id {min(twice)!r} is also in another text of the same set")
        joined |= {key: words for key, words in text.items() if words}
    if not joined:
        raise UserError(f"{', '.join(map(str, tables))}: no line has words")
    return joined
