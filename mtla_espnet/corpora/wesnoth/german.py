"""German as people write it, from texts in capitals and without umlauts."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping

_WORD = re.compile(r"[^\W\d_]+")
_UMLAUTS = {"ae": "ä", "oe": "ö", "ue": "ü"}
_DIGRAPH = re.compile("|".join(_UMLAUTS))
# `ue` after these is no umlaut: neue, Mauer, quer.
_CERTAIN = re.compile(r"(?<![aeq])ue|(?<!u)ae|oe")
_START = re.compile(r"((?:^|[.!?] )[\"']?)([^\W\d_])")


def usual_forms(texts: Iterable[str]) -> dict[str, str]:
    """Return how words are mostly written inside of sentences: in lower case -> so.

    Example:
        >>> usual_forms(["Der Ork kam.", "Ein Ork, der kam."])
        {'ork': 'Ork', 'kam': 'kam', 'der': 'der'}
    """
    counts: dict[str, Counter[str]] = {}
    for text in texts:
        for word in _WORD.findall(text)[1:]:
            counts.setdefault(word.lower(), Counter())[word] += 1
    return {word: forms.most_common(1)[0][0] for word, forms in counts.items()}


def write_usually(text: str, forms: Mapping[str, str], umlauts: bool = False) -> str:
    """Return a text without capitals for stress.

    Args:
        text: in which words, or all of it, are in capitals.
        forms: by `usual_forms`; a word in capitals that it has not is written as a noun.
        umlauts: the text has ae, oe, ue and ss where German may have ä, ö, ü and ß; among
            capitals they are in lower case, as in `KueCHE`.

    Example:
        >>> forms = {"groß": "groß", "neue": "neue", "die": "die"}
        >>> write_usually("DIE KueCHE ist GROSS! Die neue Tuer auch.", forms, umlauts=True)
        'Die Küche ist groß! Die neue Tür auch.'
    """

    def written(match: re.Match) -> str:
        word = match[0]
        bare = _DIGRAPH.sub("", word) if umlauts else word
        stressed = len(word) > 1 and len(bare) > 0 and bare == bare.upper()
        lower = _spelling(word, stressed, forms) if umlauts else word.lower()
        if stressed:
            return forms.get(lower, lower.capitalize())
        if lower == word.lower():
            return word
        return lower.capitalize() if word[0].isupper() else lower

    return _START.sub(lambda match: match[1] + match[2].upper(), _WORD.sub(written, text))


def _spelling(word: str, stressed: bool, forms: Mapping[str, str]) -> str:
    """Return a word in lower case, with umlauts and ß: a known spelling, or else the likely one."""
    if stressed:  # only what is in lower case is an umlaut
        spellings = [_umlauts(word, _DIGRAPH).lower()]
    else:
        lower = word.lower()
        spellings = [lower, _umlauts(lower, _DIGRAPH), _umlauts(lower, _CERTAIN)]
    sharp = [each.replace("ss", "ß") for each in spellings]
    return next((each for each in spellings + sharp if each in forms), spellings[-1])


def _umlauts(word: str, where: re.Pattern) -> str:
    return where.sub(lambda match: _UMLAUTS[match[0]], word)
