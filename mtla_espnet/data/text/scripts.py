"""Scripts of the world, as far as scores depend on them: who has case, who puts no blanks."""

import functools
import unicodedata
from collections.abc import Callable, Iterable

# First words of the names that Unicode gives to characters of scripts without blanks between words.
_HAN = ("CJK", "IDEOGRAPHIC ITERATION", "IDEOGRAPHIC NUMBER")
_KANA = ("HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "HALFWIDTH KATAKANA")
_UNSPACED = (*_HAN, *_KANA, "BOPOMOFO", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")


@functools.lru_cache(maxsize=2**16)
def is_kana(character: str) -> bool:
    """Say whether a character is of a Japanese syllabary."""
    return unicodedata.name(character, "").startswith(_KANA)


@functools.lru_cache(maxsize=2**16)
def is_hangul(character: str) -> bool:
    """Say whether a character is Korean: a syllable or a part of one."""
    return unicodedata.name(character, "").startswith("HANGUL")


@functools.lru_cache(maxsize=2**16)
def is_han(character: str) -> bool:
    """Say whether a character is a Chinese one, which Japanese writes too."""
    return unicodedata.name(character, "").startswith(_HAN)


@functools.lru_cache(maxsize=2**16)
def is_unspaced(character: str) -> bool:
    """Say whether a character is of a script that writes words without blanks between them.

    Example:
        >>> [is_unspaced(character) for character in "天かกaж한"]
        [True, True, True, False, False, False]
    """
    return unicodedata.name(character, "").startswith(_UNSPACED)


def has_case(character: str) -> bool:
    """Say whether a letter is written in capitals at the beginning of a sentence, or is one.

    Georgian's letters have capitals in Unicode, for whole words in headings alone: no case.

    Example:
        >>> [has_case(character) for character in "aÄжა天ا"]
        [True, True, True, False, False, False]
    """
    return character.lower() != character or character.title() != character


def share_of_letters(texts: Iterable[str], is_such: Callable[[str], bool]) -> float:
    """Return how many of the letters of some texts are of a kind, from 0 to 1; 0 without any.

    Args:
        texts: any.
        is_such: says so of a letter.
    """
    letters = [character for text in texts for character in text if character.isalpha()]
    return sum(map(is_such, letters)) / len(letters) if letters else 0.0
