"""The texts of a recipe's sets, and their tokens."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

from mtla_espnet.data.fairseq.config import FairseqConfig
from mtla_espnet.recipe.options import rate_tag
from mtla_espnet.recipe.sets import Sets
from mtla_espnet.task.record import Task, TaskText


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


def texts_of(
    options: SimpleNamespace, root: Path, task: Task, sets: Sets, fairseq: FairseqConfig
) -> list[Text]:
    """Return the texts of a recipe's sets; the first is what the model writes.

    Args:
        options: what `parse_options` returns.
        root: the recipe's directory.
        task: of the recipe.
        sets: of the recipe.
        fairseq: what Fairseq's configuration says of tokens.
    """
    given = vars(options)
    found: list[Text] = []
    for text in task.texts:
        if text.only_if and not given[text.only_if]:
            continue
        joint = found and given.get("token_joint")
        tokens = found[0].tokens if joint else _token_set(given, root, task, text, sets, fairseq)
        found.append(Text(text.name, text.table.format(**given), tokens, text))
    return found


def _token_set(
    options: Mapping, root: Path, task: Task, text: TaskText, sets: Sets, fairseq: FairseqConfig
) -> TokenSet:
    side, written = text.side, text is task.texts[0]
    base = f"{text.prefix}token_list" if text.words else "token_list"
    if options["lang"] != "noinfo":
        base = f"{options['lang']}_{base}"
    base += rate_tag(options["fs"]) if task.speech else ""  # of another dump
    token_type = "word" if text.words else options[f"{side}token_type"]
    downloaded = options.get("downloaded_tokens")
    if downloaded and written:
        return TokenSet(root / downloaded, token_type, {}, {})
    symbols = {name: options[name] for name in ("oov", "blank", "sos_eos")}
    chosen, kind, joint = symbols, token_type, options.get("token_joint")
    if token_type == "bpe":
        if fairseq.vocabulary and (written or joint):
            files = (fairseq.bpe_model, fairseq.vocabulary)
            directory = root / "data" / base / f"{side}bpe_fairseq"
            return TokenSet(directory, token_type, symbols, dict.fromkeys(files, 0), files)
        names = ("nbpe", "bpemode", "bpe_char_cover", "bpe_nlsyms")
        chosen = symbols | {name: options[f"{side}{name}"] for name in names}
        file = root / chosen["bpe_nlsyms"]
        if os.path.isfile(file):  # where the list is too long for a name, pathlib's would raise
            lines = file.read_text(encoding="utf-8").splitlines()
            chosen["bpe_nlsyms"] = ",".join(line.strip() for line in lines if line.strip())
        kind = f"bpe_{chosen['bpemode']}{chosen['nbpe']}"
    own = options[f"{side}bpe_train_text"] if token_type == "bpe" else ""
    texts = {root / name: 0 for name in own.split()}
    if not texts:
        table = text.table.format(**options)
        texts = {sets.lm_train_text: 4} if written else sets.text_of_training(table)
        if joint:
            texts |= sets.text_of_training(task.texts[1].table.format(**options))
    return TokenSet(root / "data" / base / f"{side}{kind}", token_type, chosen, texts)
