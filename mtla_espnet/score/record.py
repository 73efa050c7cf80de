"""What a score is: one record, which says how sets are scored and how the results are told."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace

from mtla_espnet.score.items import Items


@dataclasses.dataclass(frozen=True)
class ScoredSet:
    """A decoded set of a recipe, and what the recipe knows of it.

    Args:
        directory: of the decoded set: `text` (and `token`) of the hypotheses, and all results.
        data_dir: of the set: `utt2spk` and the tables of text.
        texts: tables of the set's texts in `data_dir`, the reference first, then what is read.
        training_texts: tables of the references' text that the model was trained on.
        options: of the recipe.
        token_type: unit of what the model writes: bpe, char, word or phn.
        bpe_model: sentencepiece model of what the model writes; None: no BPE.
        symbols_file: non-linguistic symbols, one a line; None: there are none.
        clean: ESPnet's text cleaner of the recipe.
        tokenize: a text to the tokens that the model writes.
        say: tells the user a line.
    """

    directory: Path
    data_dir: Path
    texts: tuple[Path, ...]
    training_texts: tuple[Path, ...]
    options: SimpleNamespace
    token_type: str
    bpe_model: Path | None
    symbols_file: Path | None
    clean: Callable[[str], str]
    tokenize: Callable[[str], list[str]]
    say: Callable[[str], None]

    @property
    def reference(self) -> Path:
        """Table of the references."""
        return self.texts[0]

    @property
    def hypotheses(self) -> Path:
        """Table of the hypotheses."""
        return self.directory / "text"

    @property
    def utt2spk(self) -> Path:
        """Table of the speakers."""
        return self.data_dir / "utt2spk"

    def detokenizer(self, language: str) -> Callable[[str], str] | None:
        """Return what joins Moses' tokens where the recipe's texts are tokenised, else None."""
        if not self.options.detokenize:
            return None
        from mtla_espnet.data.text.moses import detokenise  # here: few recipes tokenise

        return functools.partial(detokenise, language=language)


@dataclasses.dataclass(frozen=True)
class Measure:
    """A number of a set, as tables and plots show it.

    Args:
        name: key in results, column of `comparison.csv`.
        heading: of its column in tables; empty: it is in `comparison.csv` alone.
        form: how it is written.
        instead_of: name of a measure; this one is shown where no row of a table has that one.
        lower_is_better: it counts errors.
    """

    name: str
    heading: str = ""
    form: str = ".2f"
    instead_of: str = ""
    lower_is_better: bool = False


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of a table of `RESULTS.md`; those of all decoded sets are put together.

    Args:
        title: Markdown above the table: a heading, or a sentence.
        columns: headings after the first one, which is `dataset`.
        rows: each begins with what follows the set's name in the first cell, mostly nothing.
    """

    title: str
    columns: tuple[str, ...]
    rows: list[list[str]]


@dataclasses.dataclass(frozen=True)
class Result:
    """What a score says of a decoded set.

    Args:
        utterances: how many were scored; None: the files do not say.
        values: name of a measure -> value; error rates and accuracies in per cent. None: it is
            not defined there.
        tables: of `RESULTS.md`.
    """

    utterances: int | None
    values: Mapping[str, float | None]
    tables: list[Table]


def _accept(options: SimpleNamespace) -> None:
    """Any options will do."""


def _no_items(directory: Path) -> dict[str, Items]:
    """Its measures are no functions of sums over items."""
    return {}


@dataclasses.dataclass(frozen=True)
class Score:
    """A way to score decoded sets; `mtla_espnet.score.registry` lists all.

    Args:
        name: by which tasks name it.
        measures: the most important first.
        note: what a reader of its measures must know.
        files: results in a decoded set's directory; one of them says that the set is scored.
        read: directory of a decoded set with at least one of `files` -> what they say.
        write: scores a set.
        outputs: set -> the files that `write` makes, relative to its directory.
        inputs: set -> the files that `write` reads, without the hypotheses.
        options: names of the recipe's options that its results depend on.
        check: raises UserError where options of a recipe will not do; called before stage 1.
        retire: removes or renames a result that another decode replaces.
        items: directory of a scored set -> measure -> what each item adds to it.
    """

    name: str
    measures: tuple[Measure, ...]
    note: str
    files: tuple[str, ...]
    read: Callable[[Path], Result]
    write: Callable[[ScoredSet], object]
    outputs: Callable[[ScoredSet], Iterable[str]]
    inputs: Callable[[ScoredSet], Iterable[Path]]
    options: tuple[str, ...] = ()
    check: Callable[[SimpleNamespace], None] = _accept
    retire: Callable[[Path], None] = Path.unlink
    items: Callable[[Path], Mapping[str, Items]] = _no_items


def read_each(directory: Path, files: Mapping[str, str], reader: Callable) -> dict:
    """Read those of some files that are there.

    Args:
        directory: of the files.
        files: name in the result -> file.
        reader: what reads one.
    """
    return {
        name: reader(directory / file)
        for name, file in files.items()
        if (directory / file).exists()
    }
