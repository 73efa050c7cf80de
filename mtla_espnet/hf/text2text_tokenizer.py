"""The two tokenizers of a model of text to text, source and target, as one of transformers."""

import json
import shutil
from pathlib import Path

from transformers import PreTrainedTokenizer

TOKEN_TYPES = ("bpe", "char", "word")
_FILES = {
    "tokens_file": "tokens.json",
    "source_model_file": "source.model",
    "target_model_file": "target.model",
}
_SIDES = ("source", "target")
_UNKNOWN, _BLANK = "<unk>", "<blank>"


class Text2TextMTLATokenizer(PreTrainedTokenizer):
    """ESPnet's cleaner and tokenizers: documents become tokens, and tokens of summaries text.

    Called with a text it gives tokens of the source; with `text_target=` those of the target and
    <sos/eos>. `decode` is of the target.

    Args:
        tokens_file: JSON with `cleaner`, `non_linguistic_symbols`, and of `source` and `target`
            `token_type` and `tokens`.
        source_model_file: sentencepiece model, of bpe.
        target_model_file: sentencepiece model, of bpe.
        named: what transformers keeps of a tokenizer.

    Raises:
        ImportError: ESPnet is not installed; says what to install.
    """

    vocab_files_names = _FILES
    model_input_names = ["input_ids", "attention_mask"]
    padding_side = "right"

    def __init__(
        self,
        tokens_file: str,
        source_model_file: str | None = None,
        target_model_file: str | None = None,
        **named,
    ):
        from mtla_espnet import missing_recipes

        try:
            from espnet2.text.build_tokenizer import build_tokenizer
            from espnet2.text.cleaner import TextCleaner
            from espnet2.text.token_id_converter import TokenIDConverter
        except ModuleNotFoundError as error:
            raise ImportError(f"the tokenizer {missing_recipes(error) or error}") from error
        told = json.loads(Path(tokens_file).read_text(encoding="utf-8"))
        self._told = told
        self._models = dict(zip(_SIDES, (source_model_file, target_model_file), strict=True))
        self._clean = TextCleaner(told["cleaner"])
        self._cutters, self._converters = {}, {}
        for side in _SIDES:
            kind = told[side]["token_type"]
            if kind not in TOKEN_TYPES:
                raise ValueError(f"{tokens_file}: token_type {kind!r}: known: bpe, char, word")
            self._cutters[side] = build_tokenizer(
                kind,
                bpemodel=self._models[side],
                non_linguistic_symbols=told["non_linguistic_symbols"] or None,
            )
            self._converters[side] = TokenIDConverter(told[side]["tokens"], unk_symbol=_UNKNOWN)
        self._ids = {token: number for number, token in enumerate(told["source"]["tokens"])}
        self._side = "source"
        # Padding alone is told to transformers: another token's number is that of one list.
        named |= {"pad_token": told["source"]["tokens"][0], "clean_up_tokenization_spaces": False}
        super().__init__(**named)

    @property
    def vocab_size(self) -> int:
        """Tokens of the source."""
        return len(self._ids)

    def get_vocab(self) -> dict[str, int]:
        """Return the tokens of the source and their numbers."""
        return dict(self._ids)

    def tokenize(self, text: str, **kwargs) -> list[str]:
        """Return the tokens of a text: of the source, or of the target where that is asked for."""
        return self._cutters[self._side].text2tokens(self._clean(" ".join(text.split())))

    def convert_tokens_to_ids(self, tokens):
        """Return the number of a token, or of each of several."""
        if tokens is None:
            return None
        if isinstance(tokens, str):
            return self._converters[self._side].tokens2ids([tokens])[0]
        return self._converters[self._side].tokens2ids(tokens)

    def convert_ids_to_tokens(self, ids, skip_special_tokens: bool = False):
        """Return the tokens of the target that have these numbers."""
        tokens = self._told["target"]["tokens"]
        if isinstance(ids, int):
            return tokens[ids]
        found = [tokens[int(number)] for number in ids]
        left_out = {_BLANK, tokens[-1]} if skip_special_tokens else ()
        return [token for token in found if token not in left_out]

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """Return the text of tokens of the target."""
        return self._cutters["target"].tokens2text(tokens)

    def build_inputs_with_special_tokens(self, token_ids_0, token_ids_1=None) -> list[int]:
        """Return the numbers of a text; a target ends with <sos/eos>."""
        end = [len(self._told["target"]["tokens"]) - 1] if self._side == "target" else []
        return [*token_ids_0, *end]

    def _switch_to_target_mode(self) -> None:
        self._side = "target"

    def _switch_to_input_mode(self) -> None:
        self._side = "source"

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None):
        """Write the files that the tokenizer is made of, and return their paths."""
        start = f"{filename_prefix}-" if filename_prefix else ""
        paths = {name: Path(save_directory, start + file) for name, file in _FILES.items()}
        told = json.dumps(self._told, ensure_ascii=False, indent=1)
        paths["tokens_file"].write_text(told + "\n", encoding="utf-8")
        written = [paths["tokens_file"]]
        for side in _SIDES:
            path = paths[f"{side}_model_file"]
            if self._models[side] is not None:
                if Path(self._models[side]).resolve() != path.resolve():
                    shutil.copyfile(self._models[side], path)
                written.append(path)
        return tuple(map(str, written))
