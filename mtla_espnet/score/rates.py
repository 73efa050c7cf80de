"""Word, character and token error rates as a score of recipes."""

import shlex
import shutil
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

from mtla_espnet.data.kaldi.tables import read_table
from mtla_espnet.data.text.scripts import is_unspaced, share_of_letters
from mtla_espnet.files import UserError
from mtla_espnet.score.items import Items, error_items
from mtla_espnet.score.pairs import read_pairs, read_speakers
from mtla_espnet.score.record import Measure, Result, Score, ScoredSet, Table, read_each
from mtla_espnet.score.result import Totals, read_result, read_sentences
from mtla_espnet.score.wer import check_own_options, score_set, score_units

FILES = {rate: f"score_{rate}/result.txt" for rate in ("wer", "cer", "ter")}
_COLUMNS = ("Snt", "Wrd", "Corr", "Sub", "Del", "Ins", "Err", "S.Err")


def rate_table(title: str, totals: Totals) -> Table:
    """Return the row of an error rate under ESPnet's columns.

    Args:
        title: of the table.
        totals: sums over the set.
    """
    sizes = [str(totals.sentences), str(totals.counts.reference)]
    shares = totals.percentages
    cells = ["-"] * 6 if shares is None else [f"{share:.2f}" for share in shares]
    return Table(f"### {title}", _COLUMNS, [["", *sizes, *cells]])


def percent(share: float | None) -> float | None:
    """Return a share in per cent; None stays None."""
    return None if share is None else 100 * share


def score_options(options: SimpleNamespace) -> list[str]:
    """Return the words of `--score_opts`.

    Raises:
        UserError: they are not words of a command line, or the scorer does not know one.
    """
    try:
        words = shlex.split(options.score_opts)
    except ValueError as error:
        raise UserError(f"--score_opts {options.score_opts!r}: {error}", 2) from None
    if words and (options.scorer == "ours" or shutil.which("sclite") is None):
        check_own_options(words)
    return words


def aligner(scored: ScoredSet) -> dict[str, object]:
    """Return who aligns and how; our own scorer stands in where sclite is not installed."""
    scorer = scored.options.scorer
    if scorer == "sclite" and shutil.which("sclite") is None:
        scorer = "ours"
        scored.say(
            "sclite is not installed (Debian's package sctk): our own scorer, with equal counts"
        )
    return {"scorer": scorer, "score_opts": score_options(scored.options)}


def _write(scored: ScoredSet) -> None:
    if scored.token_type == "phn":
        _write_phonemes(scored)
        return
    path = scored.symbols_file
    score_set(
        scored.reference,
        scored.hypotheses,
        scored.utt2spk,
        scored.directory,
        bpemodel=scored.bpe_model,
        cleaner=scored.clean,
        # ESPnet's scoring leaves them out as well
        symbols=path.read_text(encoding="utf-8").split() if path else [],
        **aligner(scored),
    )
    if share_of_letters(read_table(scored.reference).values(), is_unspaced) > 0.5:
        scored.say("WER takes what blanks part for words: of texts without blanks CER says more")


def _write_phonemes(scored: ScoredSet) -> None:
    """Score the tokens that were decoded: words cannot be told of them."""
    references, hypotheses = read_pairs(scored.reference, scored.directory / "token")
    score_units(
        {key: " ".join(scored.tokenize(text)) for key, text in references.items()},
        hypotheses,
        read_speakers(scored.utt2spk, references),
        scored.directory / "score_ter",
        **aligner(scored),
    )


def _inputs(scored: ScoredSet) -> list[Path]:
    files = (scored.reference, scored.utt2spk, scored.bpe_model, scored.symbols_file)
    return [path for path in files if path]


def _outputs(scored: ScoredSet) -> Iterable[str]:
    names = ["ter"] if scored.token_type == "phn" else ["wer", "cer"]
    names += ["ter"] if scored.bpe_model else []
    return [f"score_{name}/{file}.txt" for name in names for file in ("result", "alignment")]


def _read(directory: Path) -> Result:
    totals = read_each(directory, FILES, read_result)
    return Result(
        utterances=max(each.sentences for each in totals.values()),
        values={rate: percent(each.error_rate) for rate, each in totals.items()},
        tables=[rate_table(rate.upper(), each) for rate, each in totals.items()],
    )


def error_rate_items(path: Path) -> Items:
    """Return the items of an error rate: the sentences of a `result.txt`.

    Raises:
        UserError: the file has no sentences.
    """
    return error_items(
        {name: (counts.errors, counts.reference) for name, counts in read_sentences(path).items()}
    )


SCORE = Score(
    name="rates",
    measures=(
        Measure("wer", "WER %", lower_is_better=True),
        Measure("cer", "CER %", lower_is_better=True),
        Measure("ter", "TER %", instead_of="wer", lower_is_better=True),
    ),
    note="WER and CER are errors for 100 reference words or characters.",
    files=tuple(FILES.values()),
    read=_read,
    write=_write,
    outputs=_outputs,
    inputs=_inputs,
    options=("cleaner", "scorer", "score_opts"),
    check=score_options,
    items=lambda directory: read_each(directory, FILES, error_rate_items),
)
