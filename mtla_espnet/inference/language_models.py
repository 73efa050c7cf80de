"""Language models of tokens beside a decoder: ESPnet's, and KenLM's n-grams."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from mtla_espnet.files import UserError
from mtla_espnet.inference.model_files import load_model

FULL, PART = "full", "part"


def load_lm(
    train_config: str | os.PathLike,
    model_file: str | os.PathLike | None,
    tokens: Sequence[str],
    device: torch.device,
) -> torch.nn.Module:
    """Load a language model of ESPnet's task.

    Args:
        train_config: the `config.yaml` that training wrote.
        model_file: its parameters.
        tokens: that it must have.
        device: where it is to be.

    Raises:
        UserError: a file is missing or corrupt, or the tokens are others.
    """
    if model_file is None:
        raise UserError(f"lm_train_config {train_config} needs lm_file, its parameters")
    from espnet2.tasks.lm import LMTask  # here: few models have one

    model, arguments = load_model(LMTask, train_config, model_file)
    if list(arguments.token_list) != list(tokens):
        raise UserError(f"{train_config}: the language model has another token list than the model")
    return model.lm.to(device)


def load_ngram(path: Path, kind: str, tokens: Sequence[str]):
    """Load an n-gram, by the package `kenlm`.

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
