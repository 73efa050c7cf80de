"""KenLM n-grams of tokens as scorers, by the package `kenlm`."""

from collections.abc import Sequence
from pathlib import Path

from mtla_espnet.files import UserError

FULL, PART = "full", "part"


def load_ngram(path: Path, kind: str, tokens: Sequence[str]):
    """Load an n-gram.

    Scores are KenLM's, logarithms to base 10, as in ESPnet.

    Args:
        path: ARPA file or KenLM binary over the tokens.
        kind: `full`: scores all tokens, before each hypothesis chooses; `part`: scores the
            chosen ones alone, which is faster.
        tokens: of the model, the end last.

    Returns:
        ESPnet's scorer.

    Raises:
        UserError: the file is missing or is no n-gram, there is no such kind, or `kenlm` is
            not installed.
    """
    if kind not in (FULL, PART):
        raise UserError(f"ngram_scorer {kind!r} is unknown: say {FULL} or {PART}")
    if not path.is_file():
        raise UserError(f"{path}: no such n-gram file: make it by stage 9, or leave ngram_file out")
    try:
        from espnet2.legacy.nets.scorers.ngram import NgramFullScorer, NgramPartScorer
    except ModuleNotFoundError as error:
        if error.name != "kenlm":
            raise
        raise UserError(
            f"ngram_file {path} needs the package kenlm: `pip install kenlm`, or decode without it"
        ) from None
    scorer = NgramFullScorer if kind == FULL else NgramPartScorer
    # ESPnet's class knows the end as <eos> alone: <sos/eos> would be an unknown word
    words = [*tokens[:-1], "<eos>"]
    try:
        return scorer(str(path), words)
    except (OSError, RuntimeError) as error:
        raise UserError(f"{path}: is no n-gram that KenLM reads ({error})") from None
