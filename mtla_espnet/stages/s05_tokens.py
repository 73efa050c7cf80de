"""Stage 5: make the token list from the training text."""

from mtla_espnet.data.tables import read_table
from mtla_espnet.data.token_list import build_token_list
from mtla_espnet.stages.layout import used_options
from mtla_espnet.stages.marks import Part
from mtla_espnet.stages.recipe import Recipe

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
            options=used_options(options, *_ALWAYS, *(_FOR_BPE if is_bpe else ())),
            inputs={text: 0 if own_text else 4},
            outputs=[layout.token_dir / name for name in files],
        )
    ]


def run(recipe: Recipe, part: Part) -> None:
    """Build the list; see `build_token_list` for its errors."""
    options = recipe.options
    (text,) = part.inputs
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
    )
