"""Word, character and token error rates of a decoded set."""

import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from mtla_espnet.files import UserError, write_text
from mtla_espnet.programs import run_program
from mtla_espnet.score.align import align, fold_case
from mtla_espnet.score.alignment_text import format_alignments
from mtla_espnet.score.pairs import read_pairs, read_speakers
from mtla_espnet.score.result import AlignedSentence, Totals, format_result, read_result

CASE_MATTERS = "-s"  # sclite's option


def score_set(
    reference_text: Path,
    hypothesis_text: Path,
    utt2spk: Path,
    output_dir: Path,
    bpemodel: Path | None = None,
    cleaner: Callable[[str], str] | None = None,
    scorer: str = "ours",
    symbols: Collection[str] = (),
    score_opts: Sequence[str] = (),
) -> dict[str, Totals]:
    """Score the hypotheses of a set against its references.

    Writes `ref.trn`, `hyp.trn`, `result.txt` and `alignment.txt` (by id) to `score_wer` (words),
    `score_cer` (characters, a blank being `<space>`) and, with a BPE model, `score_ter` (its
    pieces). Sentences are paired by id. The case of ASCII letters is ignored, as sclite does.

    Args:
        reference_text: table of id -> sentence.
        hypothesis_text: table of id -> sentence, with the same ids.
        utt2spk: table of id -> speaker, with at least these ids.
        output_dir: the decoded set's directory.
        bpemodel: sentencepiece model.
        cleaner: what to do to each reference first, such as ESPnet's `TextCleaner(name)`.
        scorer: "ours", or "sclite" to run that program. It gives the same counts, but takes
            braces, `@` and a trailing `*` for marks of its own, and groups sentences by what
            stands before the first hyphen or underscore of speaker-id.
        symbols: non-linguistic symbols, such as `<noise>`; taken out of both sides first, with
            the blank that they leave.
        score_opts: sclite's options. Ours knows `-s` alone: case matters.

    Returns:
        "wer", "cer" (and "ter") -> sums over the set.

    Raises:
        UserError: a file is missing or malformed, an id is on one side only or has no
            speaker, or sclite is asked for and not there or fails.
    """
    references, hypotheses = read_pairs(reference_text, hypothesis_text)
    speakers = read_speakers(utt2spk, references)
    if cleaner is not None:
        references = {key: cleaner(text).strip() for key, text in references.items()}
    if symbols:
        references, hypotheses = (
            {key: without_symbols(text, symbols) for key, text in table.items()}
            for table in (references, hypotheses)
        )

    tokenizers: dict[str, Callable[[str], list[str]]] = {"wer": str.split, "cer": _characters}
    if bpemodel is not None:
        tokenizers["ter"] = _piece_tokenizer(bpemodel)
    return {
        name: score_units(
            references,
            hypotheses,
            speakers,
            output_dir / f"score_{name}",
            split,
            scorer,
            score_opts=score_opts,
        )
        for name, split in tokenizers.items()
    }


def score_units(
    references: Mapping[str, str],
    hypotheses: Mapping[str, str],
    speakers: Mapping[str, str],
    directory: Path,
    split: Callable[[str], list[str]] = str.split,
    scorer: str = "ours",
    suffix: str = "",
    score_opts: Sequence[str] = (),
) -> Totals:
    """Align sentences in one unit and write the results.

    Files: `{ref,hyp}<suffix>.trn`, `result<suffix>.txt`, `alignment<suffix>.txt`.

    Args:
        references: id -> sentence.
        hypotheses: id -> sentence, with the same ids.
        speakers: id -> speaker.
        directory: where to write.
        split: a sentence to its units.
        scorer: who aligns: "ours", or "sclite" to run that program.
        suffix: of the files' names, such as `_asr`.
        score_opts: sclite's options. Ours knows `-s` alone: case matters.

    Returns:
        Sums over the sentences.

    Raises:
        UserError: sclite is asked for and not there or fails, or only it knows `score_opts`.
    """
    if scorer != "sclite":
        check_own_options(score_opts)
    names = {key: f"{speakers[key]}-{key}" for key in references}
    reference = {key: split(text) for key, text in references.items()}
    hypothesis = {key: split(hypotheses[key]) for key in references}
    files = f"ref{suffix}.trn", f"hyp{suffix}.trn"
    for file, sentences in zip(files, (reference, hypothesis), strict=True):
        lines = [f"{' '.join(tokens)}\t({names[key]})\n" for key, tokens in sentences.items()]
        write_text(directory / file, "".join(lines))
    case_matters = CASE_MATTERS in score_opts
    fold = str if case_matters else fold_case
    steps = {
        key: align([fold(token) for token in tokens], [fold(token) for token in hypothesis[key]])
        for key, tokens in reference.items()
    }
    if scorer == "sclite":
        text = _run_sclite(directory, files, score_opts)
    else:
        groups: dict[str, list[AlignedSentence]] = {}
        for key in sorted(names, key=lambda key: (speakers[key], key)):
            ref, hyp = ([fold(token) for token in side[key]] for side in (reference, hypothesis))
            sentence = AlignedSentence(names[key], ref, hyp, steps[key])
            groups.setdefault(speakers[key], []).append(sentence)
        text = format_result(files[1], groups, mark_by_case=not case_matters)
    alignments = format_alignments(reference, hypothesis, steps)
    write_text(directory / f"alignment{suffix}.txt", alignments)
    write_text(directory / f"result{suffix}.txt", text)
    return read_result(directory / f"result{suffix}.txt")


def check_own_options(score_opts: Sequence[str]) -> None:
    """Check that our scorer knows these options of sclite.

    Raises:
        UserError: it does not know one; names it.
    """
    for option in score_opts:
        if option != CASE_MATTERS:
            raise UserError(
                f"--score_opts {option}: our own scorer knows -s alone; --scorer sclite, where it "
                "is installed (Debian's package sctk), takes all"
            )


def without_symbols(text: str, symbols: Collection[str]) -> str:
    """Take symbols out of a text, longest first, and the blanks that they leave.

    Example:
        >>> without_symbols("<fr> un <noise>canard", ["<fr>", "<noise>"])
        'un canard'
    """
    for symbol in sorted(symbols, key=len, reverse=True):
        text = text.replace(symbol, " ")
    return " ".join(text.split())


def _characters(text: str) -> list[str]:
    """Split into characters, with one blank between words.

    Example:
        >>> _characters("a  bc")
        ['a', '<space>', 'b', 'c']
    """
    return ["<space>" if character == " " else character for character in " ".join(text.split())]


def _piece_tokenizer(bpemodel: Path) -> Callable[[str], list[str]]:
    import sentencepiece  # here: word and character error rates do not need it

    if not Path(bpemodel).is_file():
        raise UserError(f"{bpemodel}: no such BPE model (run stage 5)")
    processor = sentencepiece.SentencePieceProcessor(model_file=str(bpemodel))
    return processor.encode_as_pieces


def _run_sclite(directory: Path, files: Sequence[str], score_opts: Sequence[str]) -> str:
    if shutil.which("sclite") is None:
        raise UserError("sclite is not installed (Debian's package sctk); leave out scorer=sclite")
    command = ["sclite", *score_opts, "-r", files[0], "trn", "-h", files[1], "trn"]
    command += "-i rm -o all stdout".split()
    done = run_program(command, cwd=directory, capture_output=True, text=True)
    if done.returncode != 0:
        message = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise UserError(f"{directory}: sclite failed: {' '.join(message)}")
    return done.stdout
