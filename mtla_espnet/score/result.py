"""The table `result.txt`, in the form that NIST's sclite prints."""

import dataclasses
import math
import re
import statistics
from collections.abc import Sequence
from pathlib import Path

from mtla_espnet.files import UserError
from mtla_espnet.score.align import Counts, count

_HEADINGS = ("SPKR", "# Snt", "# Wrd", "Corr", "Sub", "Del", "Ins", "Err", "S.Err")
_SENTENCE = re.compile(r"^id: \((.*)\)\nScores: \(#C #S #D #I\) (\d+) (\d+) (\d+) (\d+)$", re.M)
_SUM_ROW = re.compile(r"\|\s*Sum\s*\|([\d\s]+)\|([\d\s]+)\|\s*")


@dataclasses.dataclass(frozen=True)
class AlignedSentence:
    """One sentence after alignment.

    Args:
        name: what identifies it, as in `ref.trn`.
        reference: its tokens.
        hypothesis: the tokens that were recognised.
        steps: what `align` returns for the two.
    """

    name: str
    reference: Sequence[str]
    hypothesis: Sequence[str]
    steps: str


@dataclasses.dataclass(frozen=True)
class Totals:
    """Counts over sentences.

    Args:
        sentences: how many there are.
        counts: sums over all of them.
        wrong_sentences: how many have an error.
    """

    sentences: int
    counts: Counts
    wrong_sentences: int

    @property
    def numbers(self) -> tuple[int, ...]:
        """Correct, substituted, deleted, inserted, all wrong tokens; wrong sentences."""
        c = self.counts
        return (
            c.correct, c.substitutions, c.deletions, c.insertions, c.errors, self.wrong_sentences
        )  # fmt: skip

    @property
    def percentages(self) -> tuple[float, ...] | None:
        """`numbers` in per cent of reference tokens (the last of sentences).

        None where there is no reference token.
        """
        if not self.counts.reference:
            return None
        *tokens, wrong_sentences = self.numbers
        shares = [100 * number / self.counts.reference for number in tokens]
        return (*shares, 100 * wrong_sentences / self.sentences)

    @property
    def error_rate(self) -> float | None:
        """Wrong tokens for each reference token; None where there is no reference token."""
        return self.counts.errors / self.counts.reference if self.counts.reference else None


def total(sentences: Sequence[AlignedSentence]) -> Totals:
    """Sum over sentences."""
    counts = [count(sentence.steps) for sentence in sentences]
    return Totals(len(counts), sum(counts, Counts()), sum(c.errors > 0 for c in counts))


def format_result(
    title: str, speakers: dict[str, list[AlignedSentence]], mark_by_case: bool = True
) -> str:
    """Write sclite's report: a table of percentages, one of counts, and the alignments.

    Args:
        title: heading of the tables.
        speakers: speaker -> its sentences; at least one sentence in all.
        mark_by_case: write wrong tokens in capitals.
    """
    by_speaker = {speaker: total(sentences) for speaker, sentences in speakers.items()}
    everything = total([sentence for group in speakers.values() for sentence in group])
    percentages = _table(title, by_speaker, everything, percent=True)
    numbers = _table(title, by_speaker, everything, percent=False)
    return f"\n{percentages}\n\n{numbers}\n\n{_alignments(title, speakers, mark_by_case)}"


def read_result(path: Path) -> Totals:
    """Read the sums of a `result.txt`, written by us or by sclite.

    Raises:
        UserError: the file is missing or has no such table.
    """
    text = _read(path)
    match = _SUM_ROW.search(text)
    sizes, numbers = (match[1].split(), match[2].split()) if match else ((), ())
    if len(sizes) != 2 or len(numbers) != 6:
        raise UserError(f"{path}: no row '| Sum |' of counts: not a scoring result; score it again")
    correct, substitutions, deletions, insertions, _, wrong_sentences = map(int, numbers)
    counts = Counts(correct, substitutions, deletions, insertions)
    return Totals(int(sizes[0]), counts, wrong_sentences)


def read_sentences(path: Path) -> dict[str, Counts]:
    """Read the counts of each sentence in a `result.txt`, written by us or by sclite.

    Returns:
        Name of a sentence, as in `ref.trn` -> its counts.

    Raises:
        UserError: the file is missing, or has no alignments.
    """
    found = {name: Counts(*map(int, counts)) for name, *counts in _SENTENCE.findall(_read(path))}
    if not found:
        raise UserError(f"{path}: has no alignments of sentences; score it again")
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file (score it first)") from None


def _table(title: str, speakers: dict[str, Totals], everything: Totals, percent: bool) -> str:
    rows = [[name, *_cells(totals, percent)] for name, totals in speakers.items()]
    sums = ["Sum/Avg" if percent else "Sum", *_cells(everything, percent)]
    spreads = _spreads(list(speakers.values()), percent)
    table = [list(_HEADINGS), *rows, sums, *spreads]
    widths = [max(len(row[i]) for row in table) for i in range(len(_HEADINGS))]

    def line(row: list[str]) -> str:
        name, *cells = [
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return f"| {name} | {' '.join(cells[:2])} | {' '.join(cells[2:])} |"

    length = len(line(table[0])) - 2
    lines = [f",{'-' * length}.", f"|{title.center(length)}|", f"|{'-' * length}|", line(table[0])]
    for row in rows:
        lines += [f"|{'-' * length}|", line(row)]
    lines += [f"|{'=' * length}|", line(sums), f"|{'=' * length}|"]
    lines += [line(row) for row in spreads]
    lines.append(f"`{'-' * length}'")
    kind = "PERCENTAGES" if percent else "COUNTS"
    text = f"SYSTEM SUMMARY {kind} by SPEAKER".center(length + 2).rstrip() + "\n\n"
    text += "\n".join(lines) + "\n"
    if percent and any("*" in cell for row in rows for cell in row[1:]):
        text += "* No reference tokens: counts instead of percentages.\n"
    return text


def _cells(totals: Totals, percent: bool) -> list[str]:
    sizes = [str(totals.sentences), str(totals.counts.reference)]
    if not percent:
        return sizes + [str(number) for number in totals.numbers]
    if totals.percentages is None:
        return sizes + [f"{number}*" for number in totals.numbers]
    return sizes + [_tenths(value) for value in totals.percentages]


def _tenths(value: float) -> str:
    """Round to a tenth as sclite does, a half upwards: 342 of 608 are 56.3 %."""
    return f"{math.floor(value * 10 + 0.5) / 10:.1f}"


def _spreads(speakers: list[Totals], percent: bool) -> list[list[str]]:
    """Mean, standard deviation and median over speakers; percentages only where defined."""
    sizes = [(totals.sentences, totals.counts.reference) for totals in speakers]
    values = [totals.percentages if percent else totals.numbers for totals in speakers]
    columns = [*zip(*sizes, strict=True)]
    columns += [*zip(*[row for row in values if row is not None], strict=True)] or [()] * 6
    return [
        [name, *(_tenths(measure(column)) if column else "-" for column in columns)]
        for name, measure in (
            ("Mean", statistics.mean),
            ("S.D.", lambda column: statistics.stdev(column) if len(column) > 1 else 0.0),
            ("Median", statistics.median),
        )
    ]


def _alignments(title: str, speakers: dict[str, list[AlignedSentence]], mark_by_case: bool) -> str:
    blocks = [f"\t\tDUMP OF SYSTEM ALIGNMENT STRUCTURE\n\nSystem name:   {title}\n"]
    blocks.append("Speakers: \n" + "".join(f"{i:5}:  {s}\n" for i, s in enumerate(speakers)))
    for i, (speaker, sentences) in enumerate(speakers.items()):
        blocks.append(f"Speaker sentences {i:3}:  {speaker}   #utts: {len(sentences)}")
        blocks += [_sentence(sentence, mark_by_case) for sentence in sentences]
    return "\n".join(blocks) + "\n"


def _sentence(sentence: AlignedSentence, mark_by_case: bool) -> str:
    """Write one alignment below the other; gaps as asterisks."""
    c = count(sentence.steps)
    scores = f"{c.correct} {c.substitutions} {c.deletions} {c.insertions}"
    references, hypotheses = iter(sentence.reference), iter(sentence.hypothesis)
    columns = []
    for step in sentence.steps:
        reference = "" if step == "I" else next(references)
        hypothesis = "" if step == "D" else next(hypotheses)
        if step != "C" and mark_by_case:
            reference, hypothesis = reference.upper(), hypothesis.upper()
        width = max(len(reference), len(hypothesis))
        columns.append(
            (
                (reference or "*" * width).ljust(width),
                (hypothesis or "*" * width).ljust(width),
                (step if step != "C" else "").ljust(width),
            )
        )
    rows = [" ".join(row).rstrip() for row in zip(*columns, strict=True)] or ["", "", ""]
    names = ("REF: ", "HYP: ", "Eval:")
    lines = [f"{name} {row}".rstrip() for name, row in zip(names, rows, strict=True)]
    return "\n".join([f"id: ({sentence.name})", f"Scores: (#C #S #D #I) {scores}", *lines, ""])
