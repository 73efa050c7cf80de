"""Text as Moses' scripts leave it, by sacremoses, which is their port to Python.

Unlike the scripts' default, no character becomes an entity: `'s`, not `&apos;s`.
"""

import functools

from sacremoses import MosesDetokenizer, MosesPunctNormalizer, MosesTokenizer

from mtla_espnet.data.text.spaces import plain_spaces


@functools.cache
def _normalizer(language: str) -> MosesPunctNormalizer:
    return MosesPunctNormalizer(lang=language)


class _Tokenizer(MosesTokenizer):
    """The same; sacremoses makes these two sets anew at every full stop (2/3 of its time)."""

    _LOWER = frozenset(MosesTokenizer.IsLower)
    _ALPHA = frozenset(MosesTokenizer.IsAlpha)

    def islower(self, text: str) -> bool:
        return self._LOWER.issuperset(text)

    def isanyalpha(self, text: str) -> bool:
        return not self._ALPHA.isdisjoint(text)


@functools.cache
def _tokenizer(language: str) -> MosesTokenizer:
    return _Tokenizer(lang=language)


@functools.cache
def _detokenizer(language: str) -> MosesDetokenizer:
    return MosesDetokenizer(lang=language)


def normalise_punctuation(text: str, language: str) -> str:
    r"""Write quotation marks, dashes and the like in ASCII.

    Args:
        text: a sentence.
        language: such as `de`.

    Example:
        >>> normalise_punctuation("It’s “me” – really…", "en")
        'It\'s "me" - really...'
    """
    return _normalizer(language).normalize(text)


def tokenise(text: str, language: str, split_dashes: bool = False) -> str:
    """Tokenise a sentence.

    Args:
        text: a sentence.
        language: such as `de`.
        split_dashes: `a-b` becomes `a @-@ b` (the script's `-a`).

    Returns:
        Tokens joined by plain spaces.

    Example:
        >>> tokenise("Well-made, she's right.", "en", split_dashes=True)
        "Well @-@ made , she 's right ."
    """
    words = _tokenizer(language).tokenize(
        plain_spaces(text), aggressive_dash_splits=split_dashes, return_str=True, escape=False
    )
    return plain_spaces(words)


def detokenise(text: str, language: str) -> str:
    """Join tokens to a sentence, as `detokenizer.perl` does.

    Args:
        text: tokens and plain spaces.
        language: such as `de`.

    Example:
        >>> detokenise("Well @-@ made , she 's right .", "en")
        "Well-made, she's right."
    """
    return _detokenizer(language).detokenize(text.split(), unescape=False)
