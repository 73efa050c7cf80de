"""Sentences of a text on one line."""

import re

# The end of a sentence: what follows does not go on in lower case.
_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?![a-z])")


def split_sentences(text: str) -> list[str]:
    """Split a text into sentences.

    A sentence ends at `.`, `!` or `?` before white space, unless a small letter follows; closing
    quotation marks and brackets at its end are dropped.

    Example:
        >>> split_sentences("Sorts it (e.g. by size). Then it stops.")
        ['Sorts it (e.g. by size).', 'Then it stops.']
    """
    return [sentence for sentence in _END.split(text) if sentence]
