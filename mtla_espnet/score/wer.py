"""Word, character and token error rates of a decoded set."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from mtla_espnet.data.tables import read_table
from mtla_espnet.files import UserError, write_text
from mtla_espnet.score.align import align, fold_case
from mtla_espnet.score.result import AlignedSentence, Totals, format_result, read_result

_NAMED = 5


def score_set(
    reference_text: Path,
    hypothesis_text: Path,
    utt2spk: Path,
    output_dir: Path,
    bpemodel: Path | None = None,
    cleaner: Callable[[str], str] | None = None,
    scorer: str = "ours",
) -> dict[str, Totals]:
    """Score the hypotheses of a set against its references.

    Writes `ref.trn`, `hyp.trn` and `result.txt` to `score_wer` (words), `score_cer`
    (characters, a blank being `<space>`) and, with a BPE model, `score_ter` (its pieces).
    Sentences are paired by id. The case of ASCII letters is ignored, as sclite does.

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

    Returns:
        "wer", "cer" (and "ter") -> sums over the set.

    Raises:
        UserError: a file is missing or malformed, an id is on one side only or has no
            speaker, or sclite is asked for and not there or fails.
    """
    references = read_table(reference_text)
    hypotheses = read_table(hypothesis_text)
    speakers = read_table(utt2spk)
    if not references:
        raise UserError(f"{reference_text}: empty file; there is nothing to score")
    _check_ids(references, hypotheses, f"{hypothesis_text}: no line for", "decode it again")
    _check_ids(hypotheses, references, f"{reference_text}: no line for", "hypotheses exist for it")
    _check_ids(references, speakers, f"{utt2spk}: no speaker of", "add it")
    if cleaner is not None:
        references = {key: cleaner(text).strip() for key, text in references.items()}

    tokenizers: dict[str, Callable[[str], list[str]]] = {"wer": str.split, "cer": _characters}
    if bpemodel is not None:
        tokenizers["ter"] = _piece_tokenizer(bpemodel)
    return {
        name: _score(references, hypotheses, speakers, output_dir / f"score_{name}", split, scorer)
        for name, split in tokenizers.items()
    }


def _score(
    references: dict[str, str],
    hypotheses: dict[str, str],
    speakers: dict[str, str],
    directory: Path,
    split: Callable[[str], list[str]],
    scorer: str,
) -> Totals:
    names = {key: f"{speakers[key]}-{key}" for key in references}
    reference = {key: split(text) for key, text in references.items()}
    hypothesis = {key: split(hypotheses[key]) for key in references}
    for file, sentences in (("ref.trn", reference), ("hyp.trn", hypothesis)):
        lines = [f"{' '.join(tokens)}\t({names[key]})\n" for key, tokens in sentences.items()]
        write_text(directory / file, "".join(lines))
    if scorer == "sclite":
        text = _run_sclite(directory)
    else:
        groups: dict[str, list[AlignedSentence]] = {}
        for key in sorted(names, key=lambda key: (speakers[key], key)):
            ref = [fold_case(token) for token in reference[key]]
            hyp = [fold_case(token) for token in hypothesis[key]]
            sentence = AlignedSentence(names[key], ref, hyp, align(ref, hyp))
            groups.setdefault(speakers[key], []).append(sentence)
        text = format_result("hyp.trn", groups)
    write_text(directory / "result.txt", text)
    return read_result(directory / "result.txt")


def _check_ids(wanted: dict, there: dict, message: str, advice: str) -> None:
    missing = [key for key in wanted if key not in there]
    if missing:
        named = ", ".join(missing[:_NAMED]) + (" ..." if len(missing) > _NAMED else "")
        raise UserError(f"{message} {len(missing)} of {len(wanted)} ids: {named} ({advice})")


def _characters(text: str) -> list[str]:
    """Split into characters.

    Example:
        >>> _characters("a bc")
        ['a', '<space>', 'b', 'c']
    """
    return ["<space>" if character.isspace() else character for character in text]


def _piece_tokenizer(bpemodel: Path) -> Callable[[str], list[str]]:
    import sentencepiece  # here: word and character error rates do not need it

    if not Path(bpemodel).is_file():
        raise UserError(f"{bpemodel}: no such BPE model (run stage 5)")
    processor = sentencepiece.SentencePieceProcessor(model_file=str(bpemodel))
    return processor.encode_as_pieces


def _run_sclite(directory: Path) -> str:
    if shutil.which("sclite") is None:
        raise UserError("sclite is not installed (Debian's package sctk); leave out scorer=sclite")
    command = "sclite -r ref.trn trn -h hyp.trn trn -i rm -o all stdout".split()
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        message = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise UserError(f"{directory}: sclite failed: {' '.join(message)}")
    return done.stdout
