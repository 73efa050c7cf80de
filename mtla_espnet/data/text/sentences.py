"""Sentences of a text on one line."""

import re

# The end of a sentence: what follows does not go on in lower case; or the full stop of a script
# that needs no white space behind it (Chinese, Japanese, Devanagari, Burmese, Ethiopic).
_END = re.compile(
    r"(?<=[.!?\u061f\u06d4])[\"')\]]*\s+(?![a-z])"
    r"|(?<=[。！？\u0964\u0965\u104b\u1362])[」』”’）\"')\]]*\s*"
)


def split_sentences(text: str) -> list[str]:
    """Split a text into sentences.

    A sentence ends at `.`, `!` or `?` before white space, unless a small letter follows, and at
    full stops of other scripts, such as `。`; closing quotation marks and brackets at its end are
    dropped.

    Example:
        >>> split_sentences("Sorts it (e.g. by size). Then it stops.")
        ['Sorts it (e.g. by size).', 'Then it stops.']
    """
    return [sentence for sentence in _END.split(text) if sentence]
