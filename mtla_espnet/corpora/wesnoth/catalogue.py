r"""Reads pairs of sentences from the German catalogues of Wesnoth (gettext's `.mo`).

A message is a dialogue, a narration, a help page:

    female^What <i>was</i> that? It went away.   ->   Was war das? Es ist weggegangen.

What is before `^` tells translators apart two meanings. Tags are dropped; of one such as
`<ref>dst='orc' text='orcs'</ref>` the text stays. Sentences are paired where a message, line by
line, has as many in both languages. Quotation marks, which nobody says, are dropped.
"""

import gettext
import re
import struct
from collections.abc import Iterator
from pathlib import Path

from mtla_espnet.data.text.moses import normalise_punctuation
from mtla_espnet.data.text.sentences import split_sentences
from mtla_espnet.files import UserError, reading

_CONTEXT = re.compile(r"^[^^]*\^")
_SHOWN = re.compile(r"<(\w+)>[^<]*\btext='([^<]*)'\s*</\1>")
_HIDDEN = re.compile(r"<(img|jump|format)>[^<]*</\1>")
_TAG = re.compile(r"</?\w+[^<>]*>")
_LINES = re.compile(r"\s*\n\s*")
# What a program fills in, or reads.
_NOT_PROSE = re.compile(r"[$%{}<>|@_=\\*^~\[\]•→]")
_WORD = re.compile(r"[A-Za-z]{2,}")
_MOST_WORDS = 32
_MOST_RATIO = 2.2


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """Read the pairs of a catalogue.

    Args:
        path: a `.mo`.

    Returns:
        English and German sentences with at least two words, in the order of the messages.

    Raises:
        UserError: it is no catalogue.
    """
    with reading(path), open(path, "rb") as stream:
        try:
            # Python reads all messages at once, and keeps them here.
            messages = gettext.GNUTranslations(stream)._catalog
        except (OSError, struct.error, UnicodeDecodeError, ValueError):
            raise UserError(f"{path}: is not a catalogue of gettext (.mo)") from None
    pairs = []
    for english, german in messages.items():
        if isinstance(english, str) and english:  # a plural is a tuple; "" is about the file
            pairs += _sentences(_prose(english), _prose(german))
    return [pair for pair in pairs if _is_usable(*pair)]


def _prose(message: str) -> str:
    """Return a message without what is not read aloud; lines stay.

    Example:
        >>> _prose("he^A <b>big</b> <ref>dst='orc' text='orc'</ref>")
        'A big orc'
    """
    text = _CONTEXT.sub("", message.rpartition("\x04")[2])
    return _TAG.sub("", _HIDDEN.sub("", _SHOWN.sub(r"\2", text))).strip()


def _sentences(english: str, german: str) -> Iterator[tuple[str, str]]:
    lines = [_LINES.split(text) for text in (english, german)]
    if len(lines[0]) != len(lines[1]):
        lines = [[" ".join(own)] for own in lines]
    for pair in zip(*lines, strict=True):
        plain = [
            " ".join(normalise_punctuation(text, language).replace('"', "").split())
            for text, language in zip(pair, ("en", "de"), strict=True)
        ]
        parts = [split_sentences(text) for text in plain]
        if len(parts[0]) == len(parts[1]):
            yield from zip(*parts, strict=True)
        else:
            yield tuple(plain)


def _is_usable(english: str, german: str) -> bool:
    """Say whether a pair is prose, said in one breath, and translated."""
    words = len(english.split())
    ratio = len(german) / max(len(english), 1)
    return (
        2 <= words <= _MOST_WORDS
        and english.isascii()
        and 1 / _MOST_RATIO <= ratio <= _MOST_RATIO
        and english != german
        and _WORD.search(english) is not None
        and not _NOT_PROSE.search(english + german)
        and german.isprintable()
    )
