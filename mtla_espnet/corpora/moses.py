"""Text as Moses' scripts leave it, by sacremoses, which is their port to Python.

Like the scripts, the tokeniser writes `& | < > ' " [ ]` as entities (`&apos;`); detokenising
turns them back.
"""

import functools
import string
import unicodedata

from sacremoses import MosesPunctNormalizer, MosesTokenizer

from mtla_espnet.corpora.raw_files import plain_spaces

CASES = ("raw", "tc", "lc", "lc.rm")


@functools.cache
def _normalizer(language: str) -> MosesPunctNormalizer:
    return MosesPunctNormalizer(lang=language)


@functools.cache
def _tokenizer(language: str) -> MosesTokenizer:
    return MosesTokenizer(lang=language)


def normalise_and_tokenise(text: str, language: str, split_dashes: bool = False) -> str:
    """Normalise punctuation, then tokenise.

    Args:
        text: a sentence.
        language: such as `de`.
        split_dashes: `a-b` becomes `a @-@ b` (the script's `-a`).

    Returns:
        Tokens joined by plain spaces.

    Example:
        >>> normalise_and_tokenise("“Well-made”, she said.", "en", split_dashes=True)
        '&quot; Well @-@ made , &quot; she said .'
    """
    return tokenise(_normalizer(language).normalize(text), language, split_dashes)


def tokenise(text: str, language: str, split_dashes: bool = False) -> str:
    """Tokenise a sentence; arguments and result as in `normalise_and_tokenise`."""
    words = _tokenizer(language).tokenize(
        plain_spaces(text), aggressive_dash_splits=split_dashes, return_str=True
    )
    return plain_spaces(words)


def in_case(text: str, case: str, language: str) -> str:
    """Return a sentence in one of the forms of ESPnet's translation recipes.

    Args:
        text: as distributed.
        case: `raw`: with plain spaces, else untouched; `tc`: normalised and tokenised; `lc`:
            lower-cased in between; `lc.rm`: without punctuation but apostrophes, too.
        language: such as `de`.

    Example:
        >>> [in_case("(Applause) So, it’s me.", case, "en") for case in ("tc", "lc.rm")]
        ['( Applause ) So , it &apos;s me .', 'applause so it &apos;s me']
    """
    if case == "raw":
        return plain_spaces(text)
    text = _normalizer(language).normalize(text)
    if case != "tc":
        text = text.lower()
    if case == "lc.rm":
        text = "".join(character for character in text if not _is_punctuation(character))
    return tokenise(text, language)


def _is_punctuation(character: str) -> bool:
    if character == "'":
        return False
    return character in string.punctuation or unicodedata.category(character).startswith("P")
