"""Stage 5: make the token lists from the training texts."""

from collections.abc import Callable

from mtla_espnet.data.fairseq.config import read_vocabulary
from mtla_espnet.data.kaldi.tables import read_table
from mtla_espnet.data.text.token_list import (
    build_token_list,
    tell_changed_lines,
    use_token_list,
)
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
    """Build one list; see `build_token_list` for its errors."""
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
    build_token_list(
        lines,
        part.directory,
        tokens.token_type,
        bpe_nlsyms=[symbol for symbol in symbols.split(",") if symbol],
        tokenize=_tokenizer(recipe, tokens),
        **options,
    )


def _tokenizer(recipe: Recipe, tokens: TokenSet) -> Callable[[str], list[str]] | None:
    """Return ESPnet's tokenizer where it differs from characters or words, else None."""
    options = recipe.options
    changes = {options.cleaner, options.g2p, options.nlsyms_txt} - {"none"}
    return tokenizer(recipe, tokens) if tokens.token_type != "bpe" and changes else None
