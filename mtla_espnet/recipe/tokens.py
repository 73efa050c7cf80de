"""Text to tokens, as ESPnet's training turns it: cleaner, symbols, grapheme to phoneme."""

from collections.abc import Callable
from pathlib import Path

from mtla_espnet.data.kaldi.tables import read_table
from mtla_espnet.files import UserError
from mtla_espnet.recipe.recipe import Recipe
from mtla_espnet.recipe.texts import Text, TokenSet

# A text's own list lacks what `bpe_char_cover` leaves out, at most some per cent.
_MOST_UNKNOWN_PERCENT = 10.0
_LOOKED_AT = 1000


def text_inputs(recipe: Recipe) -> dict[Path, int]:
    """Return the file that text is tokenized by beside the token list, for a mark."""
    return {recipe.nlsyms_file: 0} if recipe.nlsyms_file else {}


def tokenizer(recipe: Recipe, tokens: TokenSet | None = None) -> Callable[[str], list[str]]:
    """Return what turns a line of text into tokens; by default those of what is written.

    Raises:
        UserError: the cleaner or the grapheme-to-phoneme method cannot be used here.
    """
    # Here: it takes seconds to import, and most recipes never need it.
    from espnet2.text.build_tokenizer import build_tokenizer

    options, tokens = recipe.options, tokens or recipe.tokens
    clean = text_cleaner(options.cleaner)
    try:
        units = build_tokenizer(
            token_type=tokens.token_type,
            bpemodel=tokens.bpe_model and str(tokens.bpe_model),
            non_linguistic_symbols=recipe.nlsyms_file,
            g2p_type=None if options.g2p == "none" else options.g2p,
        )
    except (NotImplementedError, ImportError, RuntimeError) as error:
        raise UserError(f"--g2p {options.g2p}: {_one_line(error)}", 2) from None
    return lambda text: units.text2tokens(clean(text))


def check_token_list(recipe: Recipe, text: Text, table: Path) -> None:
    """Refuse a token list that lacks much of what a text is made of.

    Args:
        recipe: the recipe.
        text: which one.
        table: a set's; it is looked at here and there.

    Raises:
        UserError: names the list, the table and a token with its id.
    """
    token_list = text.tokens.token_list
    listed = set(token_list.read_text(encoding="utf-8").split("\n"))
    tokens_of = tokenizer(recipe, text.tokens)
    lines = list(read_table(table).items())
    some = lines[:: 1 + len(lines) // _LOOKED_AT]
    found = [(key, token) for key, words in some for token in tokens_of(words)]
    unknown = [(key, token) for key, token in found if token not in listed]
    percent = 100.0 * len(unknown) / max(1, len(found))
    if percent > _MOST_UNKNOWN_PERCENT:
        key, token = unknown[0]
        raise UserError(
            f"{token_list}: lacks {percent:.3g} % of the tokens of {table} (such as {token!r} of "
            f"{key!r}): it is of another language or case: make it of such text "
            f"(--{text.kind.side}bpe_train_text, --stage 5)"
        )


def text_cleaner(name: str) -> Callable[[str], str]:
    """Return ESPnet's text cleaner of a name; none: the text stays as it is.

    Raises:
        UserError: there is none, or what it needs is not installed.
    """
    if name == "none":
        return str
    from espnet2.text.cleaner import TextCleaner  # here: most recipes clean nothing

    cleaner = TextCleaner(name)
    try:
        cleaner("")
    except RuntimeError as error:
        raise UserError(f"--cleaner {name}: {_one_line(error)}", 2) from None
    return cleaner


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
