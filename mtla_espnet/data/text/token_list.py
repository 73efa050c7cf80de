"""Token lists: the symbols that a model writes, made from its training text.

`tokens.txt` has a token a line, in ESPnet's order: `<blank>` (0, for CTC), `<unk>`
(1), the tokens, `<sos/eos>` (last).
"""

import collections
import io
import logging
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import sentencepiece

from mtla_espnet.files import UserError, atomic_path, open_file, reading, write_text

TOKEN_TYPES = ("bpe", "char", "word", "phn")
BPE_MODES = ("unigram", "bpe")
SPACE = "<space>"  # the blank between words, as a character token

# sentencepiece's own <unk> <s> </s>: three of the nbpe pieces, replaced by the three symbols.
_META_PIECES = 3
_LONGEST_BYTES = 4192  # sentencepiece leaves longer lines out, unless it is told otherwise
_LOOKED_AT = 10_000  # lines, whether they can be given back
_TOO_FEW = re.compile(r"Vocabulary size is smaller than required_chars\. \d+ vs (\d+)")
_TOO_MANY = re.compile(r"Please set it to a value <= (\d+)")


def build_token_list(
    texts: Iterable[str],
    out_dir: str | os.PathLike,
    token_type: str,
    nbpe: int = 30,
    bpemode: str = "unigram",
    bpe_char_cover: float = 1.0,
    bpe_nlsyms: Sequence[str] = (),
    oov: str = "<unk>",
    blank: str = "<blank>",
    sos_eos: str = "<sos/eos>",
    tokenize: Callable[[str], list[str]] | None = None,
) -> None:
    """Write `tokens.txt` (for bpe also `train.txt`, `bpe.model`, `bpe.vocab`) to `out_dir`.

    `tokens.txt` is written last: with it, all is there. The same texts give the same
    bytes. Characters and words are ordered by falling count, then by code point. What bpe cannot
    give back is told.

    Args:
        texts: transcripts, without ids.
        out_dir: directory of the list; made where missing.
        token_type: one of TOKEN_TYPES.
        nbpe: tokens in all, for bpe.
        bpemode: one of BPE_MODES.
        bpe_char_cover: share of the characters that pieces must cover, in (0, 1].
        bpe_nlsyms: pieces that are never split, for bpe.
        oov: token for what the list does not have.
        blank: token for CTC's blank.
        sos_eos: token for the start and the end of a sentence.
        tokenize: a line to its tokens, for other types than bpe; None: characters, or words
            (phonemes that the text holds are words to it).

    Raises:
        UserError: the texts are empty, an option has no such value, or nbpe cannot be
            met by these texts (the message has the legal values).
    """
    out_dir = Path(out_dir)
    lines = [" ".join(text.split()) for text in texts]
    lines = [line for line in lines if line]
    if not lines:
        raise UserError(f"{out_dir}: there is no text to make a token list from")
    if token_type == "bpe":
        tokens = _train_pieces(lines, out_dir, nbpe, bpemode, bpe_char_cover, list(bpe_nlsyms))
        tell_changed_lines(out_dir / "bpe.model", lines)
    elif tokenize is not None and token_type in TOKEN_TYPES:
        tokens = _by_count(token for line in lines for token in tokenize(line))
    elif token_type == "char":
        tokens = _by_count(SPACE if c == " " else c for line in lines for c in line)
    elif token_type in ("word", "phn"):
        tokens = _by_count(word for line in lines for word in line.split(" "))
    else:
        raise UserError(f"token_type {token_type!r} is not supported: use {', '.join(TOKEN_TYPES)}")
    _write_tokens(out_dir, tokens, oov, blank, sos_eos)


def use_token_list(
    bpe_model: str | os.PathLike,
    pieces: Sequence[str],
    out_dir: str | os.PathLike,
    oov: str = "<unk>",
    blank: str = "<blank>",
    sos_eos: str = "<sos/eos>",
) -> None:
    """Write `bpe.model` and `tokens.txt` of a sentencepiece model that is there.

    Args:
        bpe_model: the model.
        pieces: its pieces, in the order of the list.
        out_dir: directory of the list; made where missing.
        oov: token for what the list does not have.
        blank: token for CTC's blank.
        sos_eos: token for the start and the end of a sentence.

    Raises:
        UserError: the file is no model, or has none of the pieces.
    """
    out_dir = Path(out_dir)
    with open_file(bpe_model) as stream, reading(bpe_model, "is no sentencepiece model"):
        content = stream.read()
        processor = sentencepiece.SentencePieceProcessor(model_proto=content)
    known = {processor.id_to_piece(number) for number in range(processor.get_piece_size())}
    if known.isdisjoint(pieces):
        raise UserError(f"{bpe_model}: has none of the pieces of the vocabulary beside it")
    with atomic_path(out_dir / "bpe.model") as temporary:
        temporary.write_bytes(content)
    _write_tokens(out_dir, pieces, oov, blank, sos_eos)


def tell_changed_lines(bpe_model: Path, texts: Iterable[str]) -> None:
    """Warn of lines that a sentencepiece model cannot give back, with their share and an example.

    It writes Unicode's form NFKC whatever it reads (a letter with an accent is one character, a
    wide letter a plain one), and has no piece for what training left out, so even a model without
    any error would be scored as wrong there.

    Args:
        bpe_model: the model.
        texts: lines that it was trained for; they are looked at here and there.
    """
    lines = [" ".join(text.split()) for text in texts]
    some = lines[:: 1 + len(lines) // _LOOKED_AT]
    processor = sentencepiece.SentencePieceProcessor(model_file=str(bpe_model))
    given_back = processor.decode(processor.encode(some))
    changed = [(a, b) for a, b in zip(some, given_back, strict=True) if a != b]
    if not changed:
        return
    line, other = min(changed, key=lambda pair: len(pair[0]))
    in_nfkc = unicodedata.normalize("NFKC", line) == other
    advice = "write texts in Unicode's form NFKC" if in_nfkc else "see --bpe_char_cover"
    logging.warning(
        f"{bpe_model}: cannot give back {100 * len(changed) / len(some):.3g} % of the lines, such "
        f"as {line!r}, which becomes {other!r}: scores count that as errors ({advice})"
    )


def _write_tokens(out_dir: Path, tokens: Iterable[str], oov: str, blank: str, sos_eos: str) -> None:
    special = (blank, oov, sos_eos)
    ordered = [blank, oov, *(token for token in tokens if token not in special), sos_eos]
    write_text(out_dir / "tokens.txt", "".join(f"{token}\n" for token in ordered))


def _by_count(units: Iterable[str]) -> list[str]:
    counts = collections.Counter(units)
    return sorted(counts, key=lambda unit: (-counts[unit], unit))


def _train_pieces(
    lines: list[str], out_dir: Path, nbpe: int, mode: str, char_cover: float, nlsyms: list[str]
) -> list[str]:
    """Train a sentencepiece model in `out_dir`; return its pieces but the meta ones."""
    if mode not in BPE_MODES:
        raise UserError(f"bpemode {mode!r} is not supported: use {' or '.join(BPE_MODES)}")
    if not 0.0 < char_cover <= 1.0:
        raise UserError(f"bpe_char_cover must be above 0 and at most 1, not {char_cover}")

    train = _trainer(lines, mode, char_cover, nlsyms)
    try:
        model = train(nbpe)
    except RuntimeError as error:
        raise UserError(_bad_nbpe(train, nbpe, len(nlsyms), error)) from None
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    pieces = [processor.id_to_piece(i) for i in range(processor.get_piece_size())]
    scores = [processor.get_score(i) for i in range(len(pieces))]
    write_text(out_dir / "train.txt", "".join(f"{line}\n" for line in lines))
    with atomic_path(out_dir / "bpe.model") as temporary:
        temporary.write_bytes(model)
    vocabulary = zip(pieces, scores, strict=True)
    write_text(out_dir / "bpe.vocab", "".join(f"{p}\t{s:g}\n" for p, s in vocabulary))
    return pieces[_META_PIECES:]


def _trainer(
    lines: list[str], mode: str, char_cover: float, nlsyms: list[str]
) -> Callable[[int], bytes]:
    """Return what trains a model of a size."""
    longest_bytes = max(len(line.encode()) for line in lines)

    def train(size: int) -> bytes:
        # Through a writer: with a file name, the model would store that name.
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=model,
            vocab_size=size,
            model_type=mode,
            character_coverage=char_cover,
            user_defined_symbols=nlsyms,
            max_sentence_length=max(_LONGEST_BYTES, longest_bytes),
            minloglevel=2,  # errors only, which are exceptions too
        )
        return model.getvalue()

    return train


def fewest_pieces(
    texts: Iterable[str], bpe_char_cover: float = 1.0, bpe_nlsyms: Sequence[str] = ()
) -> int | None:
    """Return the least nbpe that these texts allow, without training; None: it cannot be told.

    Args:
        texts: transcripts, without ids.
        bpe_char_cover: share of the characters that pieces must cover, in (0, 1].
        bpe_nlsyms: pieces that are never split.
    """
    lines = [line for line in (" ".join(text.split()) for text in texts) if line]
    symbols = list(bpe_nlsyms)
    return _fewest(_trainer(lines, "unigram", bpe_char_cover, symbols), len(symbols))


def _fewest(train: Callable[[int], bytes], n_symbols: int) -> int | None:
    try:
        # Fewer than the characters need, so this fails before it trains. With no more
        # than the meta pieces it would fail otherwise.
        train(_META_PIECES + n_symbols + 1)
    except RuntimeError as error:
        too_few = _TOO_FEW.search(str(error))
        return int(too_few[1]) if too_few else None
    return None


def _bad_nbpe(train, nbpe: int, n_symbols: int, error: RuntimeError) -> str:
    """Return the message for an nbpe that failed, with the legal range."""
    fewest = _fewest(train, n_symbols)
    if fewest is None:
        return f"nbpe {nbpe}: sentencepiece fails: {str(error).splitlines()[-1]}"
    too_many = _TOO_MANY.search(str(error))
    legal = f"{fewest} to {too_many[1]}" if too_many else f"{fewest} or more"
    return f"nbpe {nbpe} is out of range: this text allows {legal}"
