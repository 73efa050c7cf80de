"""Stage 5: make the token lists from the training texts."""

from collections.abc import Callable
from pathlib import Path

from mtla_espnet.data.fairseq.config import read_vocabulary
from mtla_espnet.data.kaldi.tables import read_table
from mtla_espnet.data.text.token_list import (
    build_token_list,
    tell_changed_lines,
    use_token_list,
)
from mtla_espnet.files import UserError
from mtla_espnet.jobs.marks import Part
from mtla_espnet.recipe.recipe import Recipe
from mtla_espnet.recipe.texts import TokenSet
from mtla_espnet.recipe.tokens import text_inputs, tokenizer

TITLE = "Make the token list"


def parts(recipe: Recipe) -> list[Part]:
    """One part a list: texts may share one."""
    lists = {text.tokens.directory: text for text in reversed(recipe.texts)}
    result = []
    for directory, text in reversed(lists.items()):
        tokens = text.tokens
        bpe = tokens.token_type == "bpe"
        files = ["tokens.txt", *(["bpe.model"] if bpe else [])]
        if bpe and not tokens.given:
            files += ["bpe.vocab", "train.txt"]
        result.append(
            Part(
                directory=directory,
                options={"token_type": tokens.token_type} | tokens.options,
                inputs=tokens.texts | ({} if bpe else text_inputs(recipe)),
                outputs=[directory / name for name in files],
                name=text.name if len(lists) > 1 else "",
                # A BPE model is trained on the text as it is, as in ESPnet.
                unread=("cleaner", "g2p") if bpe else (),
            )
        )
    return result


def run(recipe: Recipe, part: Part) -> None:
    """Build one list.

    Raises:
        UserError: the text is not enough for it, a model was trained with another list here, or
            what is given is malformed.
    """
    if not recipe.options.force:
        _check_unused(recipe, part.directory)
    text = next(text for text in recipe.texts if text.tokens.directory == part.directory)
    tokens = text.tokens
    options = dict(tokens.options)
    texts = recipe.sets.text_of_training(text.table) if tokens.given else tokens.texts
    lines = [line for path in texts for line in read_table(path).values()]
    if tokens.given:
        model, vocabulary = tokens.given
        use_token_list(model, read_vocabulary(vocabulary), part.directory, **options)
        tell_changed_lines(part.directory / "bpe.model", lines)
        return
    symbols = options.pop("bpe_nlsyms", "")
    try:
        build_token_list(
            lines,
            part.directory,
            tokens.token_type,
            bpe_nlsyms=[symbol for symbol in symbols.split(",") if symbol],
            tokenize=_tokenizer(recipe, tokens),
            **options,
        )
    except UserError as error:
        if str(error).split()[0] not in options:
            raise
        raise UserError(f"--{text.kind.side}{error}") from None


def _check_unused(recipe: Recipe, directory: Path) -> None:
    """Refuse to replace the sentencepiece model that a trained model reads its text by."""
    model = directory / "bpe.model"
    if not model.exists():
        return
    experiments = recipe.root / recipe.options.expdir
    for config in sorted(experiments.glob("*/config.yaml")):
        lines = config.read_text(encoding="utf-8", errors="replace").splitlines()
        if any(line.endswith(f"bpemodel: {model}") for line in lines):
            raise UserError(
                f"{model}: its text or options changed, and {config.parent} was trained with it: "
                "name another list by --lang, or replace it by --force true and train anew"
            )


def _tokenizer(recipe: Recipe, tokens: TokenSet) -> Callable[[str], list[str]] | None:
    """Return ESPnet's tokenizer where it differs from characters or words, else None."""
    options = recipe.options
    changes = {options.cleaner, options.g2p, options.nlsyms_txt} - {"none"}
    return tokenizer(recipe, tokens) if tokens.token_type != "bpe" and changes else None
