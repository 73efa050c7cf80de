"""Cases of a text, as ESPnet's translation recipes name them.

`tc` is the true case as written, `lc` is lower case, and `lc.rm` is lower case without
punctuation but the apostrophe.
"""

import string
import unicodedata

CASES = ("tc", "lc", "lc.rm")

_APOSTROPHE = "'"


def to_case(text: str, case: str) -> str:
    """Write a true-case text in another case.

    Punctuation is dropped without a blank in its place: Unicode's punctuation, and what ASCII
    has beside it (as `[[:punct:]]` of Perl, which ESPnet's recipes use).

    Args:
        text: as written.
        case: one of `CASES`.

    Example:
        >>> to_case("Schalt's ein, bitte!", "lc.rm")
        "schalt's ein bitte"
        >>> to_case("Well-known", "lc")
        'well-known'
    """
    if case not in CASES:
        raise ValueError(f"a case is one of {', '.join(CASES)}, not {case!r}")
    if case == "tc":
        return text
    text = text.lower()
    if case == "lc":
        return text
    return " ".join("".join(c for c in text if not _is_punctuation(c)).split())


def is_in_case(text: str, case: str) -> bool:
    """Say whether a text could be one of a case.

    Example:
        >>> is_in_case("Licht an!", "tc"), is_in_case("Licht an", "lc"), is_in_case("an!", "lc.rm")
        (True, False, False)
    """
    return to_case(text, case).split() == text.split()


def _is_punctuation(character: str) -> bool:
    if character == _APOSTROPHE:
        return False
    return character in string.punctuation or unicodedata.category(character).startswith("P")
