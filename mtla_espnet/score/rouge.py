"""ROUGE of a decoded summary, beside that of the document's first sentence.

One definition: ROUGE-1, ROUGE-2 and ROUGE-L (longest common subsequence of the whole texts), F1
of each document, mean over documents, times 100; by `rouge-score`. The normalisation `paper`
deletes ASCII punctuation first (arXiv 2505.13544), so that `don't` is one word, not two.

Words are those of `rouge-score` where the references are English or written like it: it lowers
the case, takes every character but a-z and 0-9 for a blank, and reduces words of more than three
letters to their Porter stems. Of other texts nothing would be left (Cyrillic, Chinese), or pieces
of words (French), so there words are runs of letters and digits of any script, without stems, and
every letter of a script without blanks (Chinese, Japanese, Thai) is one.
"""

import dataclasses
import string
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from mtla_espnet.data.kaldi.tables import read_table
from mtla_espnet.data.text.scripts import is_unspaced, share_of_letters
from mtla_espnet.data.text.sentences import split_sentences
from mtla_espnet.files import UserError, write_text
from mtla_espnet.json_files import read_json, write_json
from mtla_espnet.score.items import Items, mean_items, read_scores, write_scores
from mtla_espnet.score.pairs import check_ids, read_pairs
from mtla_espnet.score.record import Measure, Result, Score, ScoredSet, Table, read_each

DIRECTORY = "score_rouge"
FILE = "result.json"
SUM_FILE = "result.sum"
SCORES_FILE = "scores.csv"
_FILES = {"summaries": f"{DIRECTORY}/{FILE}"}
NORMALISATIONS = ("rouge", "paper")

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
# Of all letters: English has some hundredths of a per cent in its names, Italian has 1 per cent.
_MOST_FOREIGN_LETTERS = 0.005
_KINDS = {"rouge1": "rouge_1", "rouge2": "rouge_2", "rougeL": "rouge_l"}


@dataclasses.dataclass(frozen=True)
class Rouge:
    """F1 x 100, mean over documents.

    Args:
        rouge_1: of single words.
        rouge_2: of pairs of words.
        rouge_l: of the longest common subsequence.
    """

    rouge_1: float
    rouge_2: float
    rouge_l: float


@dataclasses.dataclass(frozen=True)
class SummaryScores:
    """Result of a set.

    Args:
        documents: how many.
        normalisation: one of `NORMALISATIONS`.
        model: of the hypotheses.
        lead: of each document's first sentence; None where the documents are not given.
        words: `english` (rouge-score's, with stems) or `unicode` (of all scripts).
    """

    documents: int
    normalisation: str
    model: Rouge
    lead: Rouge | None
    words: str = "english"

    @property
    def is_of_paper(self) -> bool:
        """Whether punctuation was deleted first, as for the paper's numbers."""
        return self.normalisation == "paper"


def score_summaries(
    reference_text: Path,
    hypothesis_text: Path,
    output_dir: Path,
    document_text: Path | None = None,
    heading_mark: str = "",
    normalisation: str = "rouge",
    detokenizer: Callable[[str], str] | None = None,
) -> SummaryScores:
    """Score the summaries of a set.

    Writes to `<output_dir>/score_rouge`: `{ref,hyp}.trn`, `scores.csv` (a line a document),
    `result.json`, and `result.sum` with ESPnet's line `RESULT <ROUGE-1> <ROUGE-2> <ROUGE-L>
    <METEOR> <BERTScore>`, where a dash stands for the two that need downloads.

    Args:
        reference_text: table of id -> summary.
        hypothesis_text: table of id -> summary, with the same ids.
        output_dir: the decoded set's directory.
        document_text: table of id -> document, with at least these ids, for the baseline.
        heading_mark: word that ends a document's heading, which the baseline does not read; empty:
            there are no headings.
        normalisation: `rouge` or `paper`.
        detokenizer: joins tokens to a text, where all were tokenised; None: they are raw.

    Raises:
        UserError: a file is missing or malformed, an id is on one side only, or a document is
            empty or has not the mark.
    """
    if normalisation not in NORMALISATIONS:
        known = " or ".join(NORMALISATIONS)
        raise UserError(f"the normalisation of ROUGE is {known}, not {normalisation!r}")
    references, hypotheses = read_pairs(reference_text, hypothesis_text)
    systems = {"model": hypotheses}
    if document_text is not None:
        systems["lead"] = _leads(document_text, references, heading_mark)
    if detokenizer is not None:
        references = _each(detokenizer, references)
        systems = {name: _each(detokenizer, texts) for name, texts in systems.items()}
    scores = {
        name: rouge_of_each(references, texts, normalisation) for name, texts in systems.items()
    }
    directory = output_dir / DIRECTORY
    for name, texts in (("ref", references), ("hyp", systems["model"])):
        write_text(directory / f"{name}.trn", "".join(f"{t}\t({k})\n" for k, t in texts.items()))
    columns = {
        f"{system}_{name}": {key: getattr(each, name) for key, each in by_id.items()}
        for system, by_id in scores.items()
        for name in _KINDS.values()
    }
    write_scores(directory / SCORES_FILE, columns)
    result = SummaryScores(
        documents=len(references),
        normalisation=normalisation,
        model=mean_of(scores["model"]),
        lead=mean_of(scores["lead"]) if "lead" in scores else None,
        words=words_of(references.values()),
    )
    write_json(directory / FILE, dataclasses.asdict(result))
    numbers = " ".join(f"{value:.2f}" for value in dataclasses.astuple(result.model))
    write_text(directory / SUM_FILE, f"RESULT {numbers} - -\n")
    return result


def rouge_of_each(
    references: Mapping[str, str], hypotheses: Mapping[str, str], normalisation: str = "rouge"
) -> dict[str, Rouge]:
    """Score each document's summary.

    Args:
        references: id -> summary.
        hypotheses: id -> summary, with the same ids.
        normalisation: `rouge` or `paper`.
    """
    # here: only summaries need them
    from rouge_score.rouge_scorer import RougeScorer
    from rouge_score.tokenizers import DefaultTokenizer

    # the tokenizer that it takes by itself, which it would tell in the log
    english = DefaultTokenizer(use_stemmer=True)
    tokenizer = english if words_of(references.values()) == "english" else UnicodeWords()
    scorer = RougeScorer(list(_KINDS), tokenizer=tokenizer)
    found = {}
    for key, reference in references.items():
        texts = [reference, hypotheses[key]]
        if normalisation == "paper":
            texts = [text.translate(_NO_PUNCTUATION) for text in texts]
        score = scorer.score(*texts)
        found[key] = Rouge(**{name: 100 * score[kind].fmeasure for kind, name in _KINDS.items()})
    return found


def words_of(references: Iterable[str]) -> str:
    """Say which words are counted: `english` where nearly all letters are a to z, else `unicode`.

    Example:
        >>> words_of(["Beyond the sea"]), words_of(["Über das Meer"]), words_of(["За морем"])
        ('english', 'unicode', 'unicode')
    """
    foreign = share_of_letters(references, lambda letter: not letter.isascii())
    return "unicode" if foreign > _MOST_FOREIGN_LETTERS else "english"


class UnicodeWords:
    """Words of any script, as rouge-score asks for them."""

    def tokenize(self, text: str) -> list[str]:
        """Cut a text into lower-case words.

        Example:
            >>> UnicodeWords().tokenize("Été 2024: 我用wifi。")
            ['été', '2024', '我', '用', 'wifi']
        """
        words: list[str] = []
        goes_on = False  # the last word, with the next letter
        for character in text.lower():
            kind = unicodedata.category(character)[0]
            if kind == "M":
                words[-1:] = [word + character for word in words[-1:]]
            elif kind not in "LN":
                goes_on = False
            elif goes_on and not is_unspaced(character):
                words[-1] += character
            else:
                words.append(character)
                goes_on = not is_unspaced(character)
        return words


def mean_of(scores: Mapping[str, Rouge]) -> Rouge:
    """Return the means over documents, to four decimals."""
    columns = zip(*map(dataclasses.astuple, scores.values()), strict=True)
    return Rouge(*(round(sum(column) / len(scores), 4) for column in columns))


def lead_sentence(document: str) -> str:
    """Return the first sentence of a document.

    Example:
        >>> lead_sentence("Sorts it (e.g. by size). Then it stops.")
        'Sorts it (e.g. by size).'
    """
    return split_sentences(document)[0]


def read_summaries(path: Path) -> SummaryScores:
    """Read a `result.json` of summaries.

    Raises:
        UserError: the file is missing, or is none.
    """
    value = read_json(path)
    try:
        lead = value["lead"] and Rouge(**value["lead"])
        return SummaryScores(**value | {"model": Rouge(**value["model"]), "lead": lead})
    except (KeyError, TypeError):
        raise UserError(f"{path}: not a result of summaries; score it again") from None


def _leads(path: Path, references: Mapping[str, str], heading_mark: str) -> dict[str, str]:
    documents = read_table(path)
    check_ids(references, documents, f"{path}: no document of", "add it")
    leads = {}
    for key in references:
        words = documents[key].split()
        if heading_mark:
            if heading_mark not in words:
                raise UserError(f"{path}: no heading of {key!r}: no {heading_mark}")
            words = words[words.index(heading_mark) + 1 :]
        if not words:
            raise UserError(f"{path}: the document of {key!r} is empty")
        leads[key] = lead_sentence(" ".join(words))
    return leads


def _each(change: Callable[[str], str], texts: Mapping[str, str]) -> dict[str, str]:
    return {key: change(text) for key, text in texts.items()}


def _write(scored: ScoredSet) -> None:
    options = scored.options
    summary, document = scored.texts
    score_summaries(
        summary,
        scored.hypotheses,
        scored.directory,
        document_text=document,
        heading_mark=options.heading_mark,
        normalisation=options.rouge,
        detokenizer=scored.detokenizer(options.lang),
    )


def _read(directory: Path) -> Result:
    scores = read_each(directory, _FILES, read_summaries)["summaries"]
    of_paper = " (the paper's normalisation)" if scores.is_of_paper else ""
    rows = [
        [f"{what}{of_paper}", *(f"{each:.2f}" for each in dataclasses.astuple(rouge)), "-", "-"]
        for what, rouge in (("", scores.model), (" first sentence of the document", scores.lead))
        if rouge is not None
    ]
    lead = {"lead_rouge_l": scores.lead.rouge_l} if scores.lead else {}
    return Result(
        utterances=scores.documents,
        values=dataclasses.asdict(scores.model) | lead,
        tables=[Table("### ROUGE", ("ROUGE-1", "ROUGE-2", "ROUGE-L", "METEOR", "BERTScore"), rows)],
    )


def _items(directory: Path) -> dict[str, Items]:
    columns = {f"model_{name}": name for name in _KINDS.values()}
    scores = read_scores(directory / DIRECTORY / SCORES_FILE, list(columns))
    return {name: mean_items(scores[column]) for column, name in columns.items()}


SCORE = Score(
    name="summaries",
    measures=(
        Measure("rouge_l", "ROUGE-L"),
        Measure("rouge_1", "ROUGE-1"),
        Measure("rouge_2", "ROUGE-2"),
        Measure("lead_rouge_l", "lead R-L"),
    ),
    note="ROUGE is F1 x 100, mean over documents, with Porter stems in English; `lead R-L` is "
    "ROUGE-L of each document's first sentence.",
    files=tuple(_FILES.values()),
    read=_read,
    write=_write,
    outputs=lambda scored: [f"{DIRECTORY}/{FILE}", f"{DIRECTORY}/{SUM_FILE}"],
    inputs=lambda scored: scored.texts,
    options=("rouge", "heading_mark", "detokenize", "lang"),
    items=_items,
)
