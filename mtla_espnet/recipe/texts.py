"""The texts of a recipe's sets, and their tokens."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from mtla_espnet.recipe.task import TaskText


@dataclasses.dataclass(frozen=True)
class TokenSet:
    """The tokens of one text, or of two that share them, and where their list is.

    Args:
        directory: of the list.
        token_type: unit of text.
        options: what else decides the list, by the names of `build_token_list`.
        texts: table of text that it is made of -> the stage that makes it.
        given: the sentencepiece model and the list of pieces that are used instead.
    """

    directory: Path
    token_type: str
    options: Mapping[str, object]
    texts: Mapping[Path, int]
    given: tuple[Path, Path] | None = None

    @property
    def token_list(self) -> Path:
        """The token list, one token a line."""
        return self.directory / "tokens.txt"

    @property
    def bpe_model(self) -> Path | None:
        """The sentencepiece model; None where the unit is not BPE."""
        return self.directory / "bpe.model" if self.token_type == "bpe" else None

    @property
    def tag(self) -> str:
        """Unit and size, for tags: bpe100, char."""
        return f"{self.token_type}{self.options.get('nbpe', '')}"


@dataclasses.dataclass(frozen=True)
class Text:
    """A text of a recipe's sets.

    Args:
        name: in ESPnet's data: text, src_text or transcript.
        table: its file in a data directory.
        tokens: of it.
        kind: what the task says of it.
    """

    name: str
    table: str
    tokens: TokenSet
    kind: TaskText

    @property
    def shape_file(self) -> str:
        """File of the numbers of its tokens, with the size of the vocabulary."""
        return f"{self.name}_shape.{self.tokens.token_type}"
