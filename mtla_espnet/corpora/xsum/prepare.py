"""XSum: news articles of the BBC and one sentence that sums each up (English).

Choices, and why:
- White space is joined, punctuation normalised, and text tokenised by Moses' rules with dashes
  split, as for the paper's numbers; `--text_form raw` leaves the text as distributed. `text.raw`
  has the summaries as distributed in both.
- The lines of the web page (Share this with, Email, ...) are dropped, as XSum's authors say.
- An article without a document or a summary is rejected.
- Articles are never held together: jobs write sorted parts, which are merged.

Raw layout: as `articles` reads it. Data directories `train`, `validation` and `test`: `text` (the
summary), `src_text` (the document), `utt2spk` and `spk2utt` (each article by itself).
"""

import argparse
import functools
import heapq
import logging
import os
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple, TextIO

from mtla_espnet.corpora.shared.raw_files import add_shared_arguments
from mtla_espnet.corpora.xsum.articles import SETS, Article, ArticlesPart, find_parts, read_articles
from mtla_espnet.data.kaldi.rejected import Rejection, report_rejected
from mtla_espnet.data.text.moses import normalise_punctuation, tokenise
from mtla_espnet.data.text.spaces import plain_spaces
from mtla_espnet.directories import scratch_directory
from mtla_espnet.files import UserError
from mtla_espnet.jobs.parallel import run_jobs

FORMS = ("moses", "raw")
# `text` is moved last and removed first: with it, all is there.
_TABLES = ("src_text", "text.raw", "utt2spk", "spk2utt", "text")
_LANGUAGE = "en"
_ARTICLES_PER_PART = 1000


class _Written(NamedTuple):
    """A part as it was written: where, where each article stands, what was left out."""

    path: Path
    places: dict[str, tuple[str, int | None]]
    rejections: list[Rejection]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this corpus."""
    add_shared_arguments(parser)
    parser.add_argument(
        "--text_form",
        default="moses",
        help=f"normalised and tokenised, or text as distributed: {' or '.join(FORMS)}",
    )


def prepare(args: argparse.Namespace) -> None:
    """Write `train`, `validation` and `test`.

    Raises:
        UserError: a wrong option or root, a file that does not parse, or too many articles
            that are missing or without text.
    """
    if args.text_form not in FORMS:
        raise UserError(f"--text_form must be one of {', '.join(FORMS)}, not {args.text_form!r}", 2)
    parts = find_parts(args.downloads, _ARTICLES_PER_PART)
    with scratch_directory(args.output) as temporary:
        try:
            for name in SETS:
                _merge_set(args, name, parts[name], temporary / name)
        except UserError:
            for name in SETS:
                (args.output / name / "text").unlink(missing_ok=True)
            raise
        for name in SETS:
            _move(temporary / name, args.output / name)


def _merge_set(
    args: argparse.Namespace, name: str, parts: Sequence[ArticlesPart], target: Path
) -> None:
    """Write the tables of a set to `target`, and its list of rejected articles."""
    target.mkdir()
    jobs = list(enumerate(parts))
    write = functools.partial(_write_part, target, args.text_form)
    written = run_jobs(write, jobs, max(1, args.nj), progress=f"{name}: articles")
    rejections = [rejection for part in written for rejection in part.rejections]
    n_kept = 0
    with ExitStack() as stack:
        streams = [
            stack.enter_context(open(target / table, "w", encoding="utf-8", newline="\n"))
            for table in _TABLES
        ]
        for article, values, part in _merged([part.path for part in written]):
            if values is None:
                place = written[part].places[article]
                rejections.append(Rejection(article, *place, "the id is there already"))
                continue
            n_kept += 1
            document, raw_summary, summary = values
            rows = (document, raw_summary, article, article, summary)
            for stream, value in zip(streams, rows, strict=True):
                stream.write(f"{article} {value}\n")
    n_articles = n_kept + len(rejections)
    if not n_articles:
        raise UserError(f"{args.output / name}: the corpus has no article for this set")
    report_rejected(args.output / name, rejections, n_articles, args.max_rejected)
    logging.info("%s: %d articles", args.output / name, n_kept)


def _write_part(target: Path, text_form: str, job: tuple[int, ArticlesPart]) -> _Written:
    """Write a part to one file, sorted: id, document, raw summary, summary, between tabs."""
    number, part = job
    path = target / f"part{number}"
    articles, rejections = [], []
    for each in read_articles(part):
        (articles if isinstance(each, Article) else rejections).append(each)
    articles.sort(key=lambda article: article.id)
    convert = _moses if text_form == "moses" else str
    with open(path, "w", encoding="utf-8", newline="\n") as stream:
        for each in articles:
            values = (each.id, convert(each.document), each.summary, convert(each.summary))
            stream.write("\t".join(values) + "\n")
    return _Written(path, {each.id: (each.file, each.line) for each in articles}, rejections)


def _merged(paths: Sequence[Path]) -> Iterator[tuple[str, list[str] | None, int]]:
    """Yield (article, its values, part) by article; no values where the article was there."""
    with ExitStack() as stack:
        rows = [
            _rows(stack.enter_context(open(path, encoding="utf-8", newline="\n")), number)
            for number, path in enumerate(paths)
        ]
        previous = None
        for article, number, values in heapq.merge(*rows, key=lambda row: row[:2]):
            yield article, None if article == previous else values, number
            previous = article


def _rows(stream: TextIO, number: int) -> Iterator[tuple[str, int, list[str]]]:
    for line in stream:
        article, *values = line.removesuffix("\n").split("\t")
        yield article, number, values


def _moses(text: str) -> str:
    text = normalise_punctuation(text, _LANGUAGE)
    printable = "".join(
        " " if unicodedata.category(character).startswith("C") else character for character in text
    )
    return tokenise(plain_spaces(printable), _LANGUAGE, split_dashes=True)


def _move(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    (target / "text").unlink(missing_ok=True)
    for table in _TABLES:
        os.replace(source / table, target / table)
