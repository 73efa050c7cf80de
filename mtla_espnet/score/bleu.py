"""BLEU, chrF and TER of a decoded translation, by sacrebleu, in ESPnet's files."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mtla_espnet.data.text.text_case import CASES, is_in_case, to_case
from mtla_espnet.files import UserError, write_text
from mtla_espnet.score.pairs import read_pairs, read_speakers

METRICS = ("BLEU", "chrF2", "TER")  # by their names in results

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
) -> dict[str, list[dict]]:
    """Score the translations of a set against one reference each.

    Writes to `<output_dir>/score_bleu`: `{ref,hyp}.trn.org` (text and id), `{ref,hyp}.trn`
    (text), `{ref,hyp}.trn.detok` (detokenised), `{ref,hyp}.trn.detok.lc.rm`, and the results: a
    title, then sacrebleu's JSON of BLEU (13a, signature kept), chrF2 and TER. `result.tc.txt` is
    case-sensitive; `result.lc.txt` is of lower case without punctuation. An older result
    that differs is kept as `result.tc.1.txt`, and so on.

    Args:
        reference_text: table of id -> translation, in `case`.
        hypothesis_text: table of id -> sentence, with the same ids.
        utt2spk: table of id -> speaker, with at least these ids.
        output_dir: the decoded set's directory.
        case: of the references: `tc`; `lc` or `lc.rm` leave out `result.tc.txt`.
        detokenizer: joins tokens to a text, where both were tokenised; None: they are raw.

    Returns:
        "tc" (if `case` is) and "lc" -> what sacrebleu says of each of `METRICS`.

    Raises:
        UserError: a file is missing or malformed, an id is on one side only or has no speaker,
            or a reference is not in `case`.
    """
    references, hypotheses = read_pairs(reference_text, hypothesis_text)
    speakers = read_speakers(utt2spk, references)
    _check_case(reference_text, references, case)
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
        results["tc"] = corpus_scores(detokenized["hyp"], detokenized["ref"])
    results["lc"] = corpus_scores(detokenized["hyp.lc"], detokenized["ref.lc"], lowercase=True)
    for name, scores in results.items():
        text = f"{_TITLES[name]}\n{json.dumps(scores, indent=1, ensure_ascii=False)}\n"
        _write_rotated(directory / RESULTS[name], text)
    return results


def corpus_scores(
    hypotheses: Sequence[str], references: Sequence[str], lowercase: bool = False
) -> list[dict]:
    """Score sentences by sacrebleu's BLEU (13a), chrF2 and TER.

    Args:
        hypotheses: detokenised.
        references: likewise, one each.
        lowercase: ignore case (and say so in the signature).

    Returns:
        A dictionary a metric: `name`, `score`, `signature`, `verbose_score`, ...
    """
    from sacrebleu.metrics import BLEU, CHRF, TER  # here: only translations need it

    metrics = (
        BLEU(lowercase=lowercase),
        CHRF(lowercase=lowercase),
        TER(case_sensitive=not lowercase),
    )
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
    everything = "".join(references.values())
    if case == "tc" and everything == everything.lower() != everything.upper():
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
