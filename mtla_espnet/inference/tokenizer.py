"""The tokenizer of a trained model, and what turns its inputs into arrays."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from mtla_espnet.files import UserError, check_file, reading
from mtla_espnet.trust import nothing_runs

TOKEN_TYPES = (
    *("bpe", "char", "word", "phn"),
    *("hugging_face", "whisper_en", "whisper_multilingual"),
)


def load_tokenizer(
    task,
    arguments: argparse.Namespace,
    source: Path,
    token_type: str | None = None,
    bpemodel: str | os.PathLike | None = None,
):
    """Build what turns tokens into text and inputs into arrays.

    Args:
        task: ESPnet's task class.
        arguments: of the model's training.
        source: the configuration that holds them, for messages.
        token_type: one of `TOKEN_TYPES`; None: as trained.
        bpemodel: sentencepiece model; None: as trained.

    Returns:
        ESPnet's tokenizer, None where the model has no type of tokens; and ESPnet's function
        of an id and inputs.

    Raises:
        UserError: there is no such type, or its file cannot be read.
    """
    from espnet2.text.build_tokenizer import build_tokenizer  # here: it loads ESPnet

    token_type = token_type or arguments.token_type
    bpemodel = bpemodel or arguments.bpemodel
    if token_type is not None and token_type not in TOKEN_TYPES:
        legal = ", ".join(TOKEN_TYPES)
        raise UserError(f"{source}: token_type: unknown {token_type!r} (legal: {legal})")
    if token_type == "phn" and getattr(arguments, "g2p", None) is None:
        raise UserError(f"{source}: token_type: phn needs g2p, which makes the phones of a text")
    if token_type == "bpe":
        if bpemodel is None:
            raise UserError(f"{source}: token_type: bpe needs bpemodel")
        check_file(bpemodel)
    tokenizer = None
    if token_type is not None:
        file = bpemodel if token_type == "bpe" else f"{source}: token_type: {token_type}"
        with reading(file, "cannot be loaded"), nothing_runs(file):
            tokenizer = build_tokenizer(token_type, bpemodel=bpemodel and str(bpemodel))
            tokenizer.tokens2text([])  # reads the sentencepiece model, which may be temporary
    with reading(source, "its inputs cannot be prepared"), nothing_runs(source):
        return tokenizer, task.build_preprocess_fn(arguments, False)


def token_ids(tokenizer, token_list: Sequence[str], text: str, source: str = "") -> list[int]:
    """Return the tokens of a text, for a model that was trained on such.

    Args:
        tokenizer: of `load_tokenizer`.
        token_list: the tokens of the model.
        text: at least a word.
        source: what messages begin with.

    Raises:
        UserError: the model has no tokens for some of it.
    """
    if tokenizer is None:
        raise UserError(f"{source}the model has no tokenizer, which cuts texts into tokens")
    known = {token: number for number, token in enumerate(token_list)}
    tokens = tokenizer.text2tokens(text)
    unknown = sorted({token for token in tokens if token not in known})
    if unknown:
        named = ", ".join(repr(token) for token in unknown[:5])
        told = f"the model has no tokens for {named}: write the text as it was trained"
        raise UserError(f"{source}{told}")
    if not tokens:
        raise UserError(f"{source}the text is empty")
    return [known[token] for token in tokens]
