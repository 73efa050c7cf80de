"""Stage 5: make the token list from the training text."""

from collections.abc import Callable

from mtla_espnet.data.tables import read_table
from mtla_espnet.data.token_list import build_token_list
from mtla_espnet.stages.layout import used_options
from mtla_espnet.stages.marks import Part
from mtla_espnet.stages.recipe import Recipe
from mtla_espnet.stages.tokens import text_inputs, text_options, tokenizer

TITLE = "Make the token list"
_ALWAYS = ("token_type", "oov", "blank", "sos_eos")
_FOR_BPE = ("nbpe", "bpemode", "bpe_char_cover", "bpe_nlsyms")


def parts(recipe: Recipe) -> list[Part]:
    """One part."""
    layout, options = recipe.layout, recipe.options
    is_bpe = options.token_type == "bpe"
    own_text = is_bpe and options.bpe_train_text
    text = layout.root / options.bpe_train_text if own_text else layout.lm_train_text
    files = ["tokens.txt", *(["bpe.model", "bpe.vocab", "train.txt"] if is_bpe else [])]
    return [
        Part(
            directory=layout.token_dir,
            # A BPE model is trained on the text as it is, as in ESPnet.
            options=used_options(options, *_ALWAYS, *(_FOR_BPE if is_bpe else ()))
            | ({} if is_bpe else text_options(options)),
            inputs={text: 0 if own_text else 4} | ({} if is_bpe else text_inputs(layout)),
            outputs=[layout.token_dir / name for name in files],
        )
    ]


def run(recipe: Recipe, part: Part) -> None:
    """Build the list; see `build_token_list` for its errors."""
    options = recipe.options
    text = next(iter(part.inputs))
    build_token_list(
        read_table(text).values(),
        part.directory,
        options.token_type,
        nbpe=options.nbpe,
        bpemode=options.bpemode,
        bpe_char_cover=options.bpe_char_cover,
        bpe_nlsyms=[symbol for symbol in options.bpe_nlsyms.split(",") if symbol],
        oov=options.oov,
        blank=options.blank,
        sos_eos=options.sos_eos,
        tokenize=_tokenizer(recipe),
    )


def _tokenizer(recipe: Recipe) -> Callable[[str], list[str]] | None:
    """Return ESPnet's tokenizer where it differs from characters or words, else None."""
    options = recipe.options
    changes = {options.cleaner, options.g2p, options.nlsyms_txt} - {"none"}
    return tokenizer(recipe.layout) if options.token_type != "bpe" and changes else None
