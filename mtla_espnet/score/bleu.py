"""BLEU, chrF and TER of a decoded translation, by sacrebleu, in ESPnet's files."""

import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from mtla_espnet.data.text.scripts import has_case, is_unspaced, share_of_letters
from mtla_espnet.data.text.text_case import CASES, is_in_case, to_case
from mtla_espnet.files import UserError, write_text
from mtla_espnet.score.bleu_tokenizer import check_tokenizer, tokenizer_of
from mtla_espnet.score.items import Items
from mtla_espnet.score.pairs import read_pairs, read_speakers
from mtla_espnet.score.record import Measure, Result, Score, ScoredSet, Table, read_each

METRICS = ("BLEU", "chrF2", "TER")  # by their names in results
# sacrebleu's TER takes minutes for one pair of sentences of more words.
_LONGEST_FOR_TER = 300

DIRECTORY = "score_bleu"
# By what is scored: true case, or lower case without punctuation.
RESULTS = {"tc": "result.tc.txt", "lc": "result.lc.txt"}
_FILES = {case: f"{DIRECTORY}/{name}" for case, name in RESULTS.items()}
_CASE_NAMES = {"tc": "true case", "lc": "lower case, no punctuation"}
# Name of a measure -> case and metric of sacrebleu.
_VALUES = {
    "bleu": ("tc", "BLEU"),
    "chrf2": ("tc", "chrF2"),
    "edit_rate": ("tc", "TER"),
    "bleu_lc": ("lc", "BLEU"),
}
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
        tokenizer: what BLEU cuts texts into words by, one of sacrebleu's; empty: that of the
            language, or of the script of the references.
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
        tokenizer: of BLEU, one of sacrebleu's.
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
    """Write a result; an older one that differs is kept under another name."""
    if path.exists():
        if path.read_text(encoding="utf-8") == text:
            return
        _rotate(path)
    write_text(path, text)


def _rotate(path: Path) -> None:
    """Move a result on to `result.tc.1.txt`, that to `result.tc.2.txt`, and so on."""
    number = 1
    while _rotated(path, number).exists():
        number += 1
    for older in range(number, 1, -1):
        _rotated(path, older - 1).rename(_rotated(path, older))
    path.rename(_rotated(path, 1))


def _rotated(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}.{number}{path.suffix}")


def _tokenizer(options: SimpleNamespace) -> str:
    """Return the tokenizer that is asked for; empty: none.

    Raises:
        UserError: it is not installed.
    """
    if options.bleu_tokenize == "auto":
        return ""
    check_tokenizer(options.bleu_tokenize)
    return options.bleu_tokenize


def _write(scored: ScoredSet) -> None:
    options = scored.options
    score_translation(
        scored.reference,
        scored.hypotheses,
        scored.utt2spk,
        scored.directory,
        case=options.tgt_case,
        detokenizer=scored.detokenizer(options.tgt_lang),
        tokenizer=_tokenizer(options),
        language=options.tgt_lang,
    )


def _outputs(scored: ScoredSet) -> Iterable[str]:
    return _FILES.values() if scored.options.tgt_case == "tc" else [_FILES["lc"]]


def _read(directory: Path) -> Result:
    found = read_each(directory, _FILES, read_bleu)
    values = {
        name: found[case][metric]["score"]
        for name, (case, metric) in _VALUES.items()
        if metric in found.get(case, ())
    }
    bleu, metrics = [], []
    for case, scores in found.items():
        name, score = f" ({_CASE_NAMES[case]})", scores["BLEU"]
        bleu.append([name, f"{score['score']:.2f}", score["verbose_score"]])
        numbers = [f"{scores[each]['score']:.2f}" if each in scores else "-" for each in METRICS]
        metrics.append([name, *numbers, f"`{score.get('signature', '-')}`"])
    return Result(
        utterances=None,
        values=values,
        tables=[
            Table("### BLEU", ("score", "verbose_score"), bleu),
            Table("### BLEU, chrF and TER", (*METRICS, "signature of BLEU"), metrics),
        ],
    )


def _items(directory: Path) -> dict[str, Items]:
    """Return what BLEU and, of true case alone, chrF2 sum: matches and counts of n-grams."""
    from sacrebleu.metrics import BLEU, CHRF  # here: only translations need it

    found = read_each(directory, _FILES, read_bleu)
    case, suffix = ("tc", "") if "tc" in found else ("lc", ".lc.rm")
    signature = found[case]["BLEU"].get("signature", "")
    tokenizer = re.search(r"tok:([^|]+)", signature)
    metric = BLEU(
        lowercase=case == "lc", tokenize=tokenizer[1] if tokenizer else None, effective_order=True
    )
    texts = directory / DIRECTORY
    references, hypotheses, named = (
        _lines(texts / name)
        for name in (f"ref.trn.detok{suffix}", f"hyp.trn.detok{suffix}", "ref.trn.org")
    )
    if not len(references) == len(hypotheses) == len(named):
        raise UserError(f"{texts}: files of different lengths; score the set again")
    statistics = []
    for hypothesis, reference in zip(hypotheses, references, strict=True):
        score = metric.sentence_score(hypothesis, [reference])
        statistics.append([*score.counts, *score.totals, score.sys_len, score.ref_len])
    ids = tuple(line.rpartition("\t")[2] for line in named)
    name = next(name for name, of in _VALUES.items() if of == (case, "BLEU"))
    items = {name: Items(ids, np.array(statistics, float), _bleu)}
    if case == "tc":
        # What sacrebleu's own bootstrap sums.
        sums = CHRF()._extract_corpus_statistics(hypotheses, [references])
        items["chrf2"] = Items(ids, np.array(sums, float), _chrf2)
    return items


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; score the set again (stage 13)") from None


def _bleu(sums: np.ndarray) -> np.ndarray:
    from sacrebleu.metrics import BLEU

    def of_one(row: np.ndarray) -> float:
        *counts, length, reference_length = map(int, row)
        order = len(counts) // 2
        return BLEU.compute_bleu(
            counts[:order], counts[order:], length, reference_length, smooth_method="exp"
        ).score

    return np.apply_along_axis(of_one, -1, sums)


def _chrf2(sums: np.ndarray) -> np.ndarray:
    """Return chrF2 of sums: n-grams said, wanted, and both, for n = 1 to 6."""
    said, wanted, both = (sums[..., place::3] for place in range(3))
    counted = (said > 0) & (wanted > 0)
    orders = np.maximum(counted.sum(axis=-1), 1)
    precision, recall = (
        (both * counted / np.maximum(total, 1)).sum(axis=-1) / orders for total in (said, wanted)
    )
    weighted = 4 * precision + recall
    return 100 * 5 * precision * recall / np.where(weighted > 0, weighted, 1)


SCORE = Score(
    name="translation",
    measures=(
        Measure("bleu", "BLEU"),
        Measure("chrf2", "chrF2"),
        Measure("edit_rate", "TER", lower_is_better=True),
        Measure("bleu_lc", "BLEU (lc)", instead_of="bleu"),
    ),
    note="BLEU is sacrebleu's of detokenised text, case-sensitive, as are chrF2 and TER "
    "(RESULTS.md has the signatures); `BLEU (lc)` is of lower case without punctuation.",
    files=tuple(_FILES.values()),
    read=_read,
    write=_write,
    outputs=_outputs,
    inputs=lambda scored: [scored.reference, scored.utt2spk],
    options=("tgt_case", "tgt_lang", "detokenize", "bleu_tokenize"),
    check=_tokenizer,
    retire=_rotate,
    items=_items,
)
