"""How the decoded sets of each task are scored: what stage 13 reads, writes and runs."""

import dataclasses
import functools
import shlex
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace

from mtla_espnet.data.kaldi.tables import read_table
from mtla_espnet.files import UserError
from mtla_espnet.jobs.log import say
from mtla_espnet.recipe.recipe import Recipe
from mtla_espnet.recipe.tokens import text_cleaner, text_inputs, tokenizer
from mtla_espnet.score import bleu, intent, rouge
from mtla_espnet.score.pairs import read_pairs, read_speakers
from mtla_espnet.score.wer import check_own_options, score_set, score_units

Inputs = Mapping[Path, int]


@dataclasses.dataclass(frozen=True)
class Score:
    """A way to score a set; `Task.scores` names those of a task.

    Args:
        options: names of the options that it depends on.
        inputs: recipe and data directory of the set -> file -> the stage that makes it; the
            hypotheses are not among them.
        outputs: recipe -> files that it writes, in the decoded set's directory.
        run: scores; takes the recipe, the data directory and the decoded set's directory.
    """

    options: tuple[str, ...]
    inputs: Callable[[Recipe, Path], Inputs]
    outputs: Callable[[Recipe], list[str]]
    run: Callable[[Recipe, Path, Path], object]


def _has_phonemes(recipe: Recipe) -> bool:
    """Say whether the model writes phonemes: words cannot be told of them, nor scored."""
    return recipe.tokens.token_type == "phn"


def _rate_inputs(recipe: Recipe, data_dir: Path) -> Inputs:
    reference = data_dir / recipe.texts[0].table
    model = {recipe.tokens.bpe_model: 5} if recipe.tokens.bpe_model else {}
    return {reference: 3, data_dir / "utt2spk": 3} | model | text_inputs(recipe)


def _rate_outputs(recipe: Recipe) -> list[str]:
    names = ["wer", "cer", *(["ter"] if recipe.tokens.bpe_model else [])]
    if _has_phonemes(recipe):
        names = ["ter"]
    return [f"score_{name}/{file}.txt" for name in names for file in ("result", "alignment")]


def _score_rates(recipe: Recipe, data_dir: Path, directory: Path) -> None:
    if _has_phonemes(recipe):
        _score_phonemes(recipe, data_dir, directory)
        return
    score_set(
        data_dir / recipe.texts[0].table,
        directory / "text",
        data_dir / "utt2spk",
        directory,
        bpemodel=recipe.tokens.bpe_model,
        cleaner=text_cleaner(recipe.options.cleaner),
        symbols=_symbols(recipe),
        scorer=_scorer(recipe.options),
        score_opts=score_options(recipe.options),
    )


def _score_phonemes(recipe: Recipe, data_dir: Path, directory: Path) -> None:
    """Score the tokens that were decoded against those of the references."""
    references, hypotheses = read_pairs(data_dir / recipe.texts[0].table, directory / "token")
    phonemes = tokenizer(recipe)
    score_units(
        {key: " ".join(phonemes(text)) for key, text in references.items()},
        hypotheses,
        read_speakers(data_dir / "utt2spk", references),
        directory / "score_ter",
        scorer=_scorer(recipe.options),
        score_opts=score_options(recipe.options),
    )


def score_options(options: SimpleNamespace) -> list[str]:
    """Return the words of `--score_opts`; none for a task that has no such option.

    Raises:
        UserError: they are not words of a command line, or the scorer does not know one.
    """
    text = getattr(options, "score_opts", "")
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UserError(f"--score_opts {text!r}: {error}", 2) from None
    if words and (options.scorer == "ours" or shutil.which("sclite") is None):
        check_own_options(words)
    return words


def _scorer(options: SimpleNamespace) -> str:
    """Return who aligns; our own scorer stands in where sclite is not installed."""
    if options.scorer == "sclite" and shutil.which("sclite") is None:
        say("sclite is not installed (Debian's package sctk): our own scorer, with equal counts")
        return "ours"
    return options.scorer


def _symbols(recipe: Recipe) -> list[str]:
    """Return the non-linguistic symbols, which ESPnet's scoring leaves out as well."""
    path = recipe.nlsyms_file
    return path.read_text(encoding="utf-8").split() if path else []


def _translation_inputs(recipe: Recipe, data_dir: Path) -> Inputs:
    return {data_dir / recipe.texts[0].table: 3, data_dir / "utt2spk": 3}


def _translation_outputs(recipe: Recipe) -> list[str]:
    cases = bleu.RESULTS if recipe.options.tgt_case == "tc" else ["lc"]
    return [f"{bleu.DIRECTORY}/{bleu.RESULTS[case]}" for case in cases]


def _score_translation(recipe: Recipe, data_dir: Path, directory: Path) -> None:
    options = recipe.options
    bleu.score_translation(
        data_dir / recipe.texts[0].table,
        directory / "text",
        data_dir / "utt2spk",
        directory,
        case=options.tgt_case,
        detokenizer=_detokenizer(options, options.tgt_lang),
        tokenizer=bleu_tokenizer(options),
        language=options.tgt_lang,
    )


def bleu_tokenizer(options: SimpleNamespace) -> str:
    """Return the tokenizer that `--bleu_tokenize` names; empty: none, or the task has no BLEU.

    Raises:
        UserError: it is not installed.
    """
    name = getattr(options, "bleu_tokenize", "auto")
    if name == "auto":
        return ""
    bleu.check_tokenizer(name)
    return name


def _detokenizer(options, language: str) -> Callable[[str], str] | None:
    if not options.detokenize:
        return None
    from mtla_espnet.data.text.moses import detokenise  # here: few recipes tokenise

    return functools.partial(detokenise, language=language)


def _intent_inputs(recipe: Recipe, data_dir: Path) -> Inputs:
    return {data_dir / "text": 3, data_dir / "utt2spk": 3} | recipe.sets.text_of_training("text")


def _score_intents(recipe: Recipe, data_dir: Path, directory: Path) -> None:
    known: set[str] = set()
    for path in recipe.sets.text_of_training("text"):
        known |= {text.split()[0] for text in read_table(path).values() if text}
    intent.score_intents(
        data_dir / "text",
        directory / "text",
        data_dir / "utt2spk",
        directory,
        known_intents=known if recipe.options.unknown_intents == "error" else None,
        scorer=_scorer(recipe.options),
        score_opts=score_options(recipe.options),
    )


def _summary_inputs(recipe: Recipe, data_dir: Path) -> Inputs:
    return {data_dir / text.table: 3 for text in recipe.texts}


def _score_summaries(recipe: Recipe, data_dir: Path, directory: Path) -> None:
    summary, document = recipe.texts
    rouge.score_summaries(
        data_dir / summary.table,
        directory / "text",
        directory,
        document_text=data_dir / document.table,
        heading_mark=recipe.options.heading_mark,
        normalisation=recipe.options.rouge,
        detokenizer=_detokenizer(recipe.options, recipe.options.lang),
    )


SCORES = {
    "rates": Score(("cleaner", "scorer", "score_opts"), _rate_inputs, _rate_outputs, _score_rates),
    "translation": Score(
        ("tgt_case", "tgt_lang", "detokenize", "bleu_tokenize"),
        _translation_inputs,
        _translation_outputs,
        _score_translation,
    ),
    "intents": Score(
        ("unknown_intents", "scorer", "score_opts"),
        _intent_inputs,
        lambda recipe: [
            f"{intent.DIRECTORY}/{intent.FILE}",
            *(f"score_wer/{file}_asr.txt" for file in ("result", "alignment")),
        ],
        _score_intents,
    ),
    "summaries": Score(
        ("rouge", "heading_mark", "detokenize", "lang"),
        _summary_inputs,
        lambda recipe: [f"{rouge.DIRECTORY}/{rouge.FILE}", f"{rouge.DIRECTORY}/{rouge.SUM_FILE}"],
        _score_summaries,
    ),
}


def scores_of(recipe: Recipe) -> list[Score]:
    """Return the ways in which a recipe's sets are scored."""
    return [SCORES[name] for name in recipe.task.scores]
