r"""XSum's articles as they are distributed: the BBC's files, or Hugging Face's tables.

bbc-summary-data/39000001.summary
    [SN]URL[SN]
    http://...

    [SN]TITLE[SN]
    ...
    [SN]FIRST-SENTENCE[SN]
    The summary.

    [SN]RESTBODY[SN]
    A line of the document.
    Share this with
XSum-TRAINING-DEV-TEST-SPLIT-90-5-5.json
    {"train": ["39000001", ...], "validation": [...], "test": [...]}

train-00000-of-00001.parquet, train/data-00000-of-00002.arrow, train.jsonl, ...
    {"document": "A line.\nA line.", "summary": "One sentence.", "id": "39000001"}
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from mtla_espnet.corpora.shared.raw_files import read_lines
from mtla_espnet.data.kaldi.rejected import Rejection
from mtla_espnet.data.text.spaces import plain_spaces
from mtla_espnet.files import UserError, check_file, open_file, reading
from mtla_espnet.json_files import parse_json, read_json

SETS = ("train", "validation", "test")
SPLIT_FILE = "XSum-TRAINING-DEV-TEST-SPLIT-90-5-5.json"
DIRECTORY = "bbc-summary-data"
TABLES = (".parquet", ".arrow", ".jsonl")

_TAG = re.compile(r"\[SN\](?P<name>[A-Z-]+)\[SN\]")
_SUMMARY, _DOCUMENT = "FIRST-SENTENCE", "RESTBODY"
# Lines that the web page puts among the text.
_WEB_LINES = frozenset(
    (
        "Share this with",
        "Email",
        "Facebook",
        "Messenger",
        "Twitter",
        "Pinterest",
        "WhatsApp",
        "Linkedin",
        "LinkedIn",
        "Copy this link",
        "These are external links and will open in a new window",
    )
)
_FIELDS = ("document", "summary", "id")


class Article(NamedTuple):
    """A document and its summary with plain spaces, and where they stand."""

    id: str
    document: str
    summary: str
    file: str
    line: int | None


class ArticlesPart(NamedTuple):
    """Articles that one job reads.

    Args:
        path: the directory of BBC files, or a table.
        ids: of the BBC files; empty: a table.
        start: bytes of a jsonl file before the part, or the number of a group of rows.
        first_row: rows of the table before the part.
        n_rows: rows of the part.
    """

    path: Path
    ids: Sequence[str] = ()
    start: int = 0
    first_row: int = 0
    n_rows: int = 0


def find_parts(root: Path, size: int) -> dict[str, list[ArticlesPart]]:
    """Cut the sets into parts of about `size` articles, in whichever form they are there.

    Args:
        root: of the corpus.
        size: articles a part (groups of rows of a table stay whole).

    Returns:
        Set -> its parts.

    Raises:
        UserError: no form is there, or the file of the split is not what it should be.
    """
    if (root / SPLIT_FILE).exists():
        return _bbc_parts(root, size)
    for suffix in TABLES:
        files = {name: _files_of(root, name, suffix) for name in SETS}
        if all(files.values()):
            cut = _jsonl_parts if suffix == ".jsonl" else _arrow_parts
            return {
                name: [part for path in files[name] for part in cut(path, size)] for name in SETS
            }
    raise UserError(
        f"{root / SPLIT_FILE}: no such file, nor are there {', '.join(SETS)} as "
        f"{', '.join(TABLES)}: does XSUM name the right root?"
    )


def read_articles(part: ArticlesPart) -> Iterator[Article | Rejection]:
    """Yield the articles of a part, and what cannot be used instead of an article.

    Raises:
        UserError: a table does not parse, or a row lacks a field (`path:line`).
    """
    if part.ids:
        for article in part.ids:
            yield _read_bbc(part.path / f"{article}.summary", article)
        return
    rows = _jsonl_rows(part) if part.path.suffix == ".jsonl" else _arrow_rows(part)
    for line, row in rows:
        yield _article(part.path, line, row)


def _bbc_parts(root: Path, size: int) -> dict[str, list[ArticlesPart]]:
    path = root / SPLIT_FILE
    split = read_json(path)
    if not (root / DIRECTORY).is_dir():
        raise UserError(f"{root / DIRECTORY}: no such directory: does XSUM name the right root?")
    parts = {}
    for name in SETS:
        ids = split.get(name) if isinstance(split, dict) else None
        if not isinstance(ids, list) or not all(map(_is_id, ids)):
            raise UserError(f'{path}: needs "{name}": a list of the stems of {DIRECTORY}/*.summary')
        ids = sorted(ids)
        cuts = range(0, len(ids), size)
        parts[name] = [
            ArticlesPart(root / DIRECTORY, ids=ids[start : start + size]) for start in cuts
        ]
    return parts


def _is_id(value) -> bool:
    return isinstance(value, str) and "/" not in value and len(value.split()) == 1


def _read_bbc(path: Path, article: str) -> Article | Rejection:
    try:
        lines = list(read_lines(path, "XSUM"))
    except UserError as error:
        return Rejection(article, str(path), None, f"{error}" if path.exists() else "no such file")
    sections: dict[str, list[str]] = {}
    section: list[str] = []
    for line in lines:
        tag = _TAG.fullmatch(line.strip())
        if tag:
            section = sections.setdefault(tag["name"], [])
        elif plain_spaces(line) not in _WEB_LINES:
            section.append(line)
    for name in (_SUMMARY, _DOCUMENT):
        if name not in sections:
            return Rejection(article, str(path), None, f"has no [SN]{name}[SN]")
    document, summary = (plain_spaces(" ".join(sections[name])) for name in (_DOCUMENT, _SUMMARY))
    return _unless_empty(Article(article, document, summary, str(path), None))


def _unless_empty(article: Article) -> Article | Rejection:
    for name in ("document", "summary"):
        if not getattr(article, name):
            return Rejection(article.id, article.file, article.line, f"the {name} is empty")
    return article


def _files_of(root: Path, name: str, suffix: str) -> list[Path]:
    """Return the tables of a set: its name is a word of their path below the root."""
    word = re.compile(rf"(?:^|[^a-z]){name}(?:[^a-z]|$)")
    found = root.rglob(f"*{suffix}")
    return sorted(path for path in found if word.search(str(path.relative_to(root))))


def _jsonl_parts(path: Path, size: int) -> Iterator[ArticlesPart]:
    start = position = row = first_row = 0
    with open_file(path) as stream:
        for line in stream:
            position += len(line)
            row += 1
            if row - first_row == size:
                yield ArticlesPart(path, start=start, first_row=first_row, n_rows=row - first_row)
                start, first_row = position, row
    if row > first_row:
        yield ArticlesPart(path, start=start, first_row=first_row, n_rows=row - first_row)


def _jsonl_rows(part: ArticlesPart) -> Iterator[tuple[int, object]]:
    with open_file(part.path) as stream:
        stream.seek(part.start)
        for line in range(part.first_row + 1, part.first_row + part.n_rows + 1):
            where = f"{part.path}:{line}"
            try:
                text = stream.readline().decode("utf-8")
            except UnicodeDecodeError as error:
                raise UserError(f"{where}: not UTF-8 text (byte {error.start + 1})") from None
            yield line, parse_json(text, where, "a line of JSON")


def _arrow_parts(path: Path, size: int) -> Iterator[ArticlesPart]:
    """Yield a part a group of rows: Hugging Face writes 1000 rows a group."""
    first_row = 0
    for group, n_rows in enumerate(_group_sizes(path)):
        yield ArticlesPart(path, start=group, first_row=first_row, n_rows=n_rows)
        first_row += n_rows


def _group_sizes(path: Path) -> list[int]:
    if path.suffix == ".parquet":
        metadata = _opened(path).metadata
        return [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)]
    return [batch.num_rows for batch in _opened(path)]


def _arrow_rows(part: ArticlesPart) -> Iterator[tuple[int, object]]:
    table = _opened(part.path)
    with reading(part.path):
        if part.path.suffix == ".parquet":
            group = table.read_row_group(part.start, columns=list(_FIELDS))
        else:
            group = table[part.start]
        rows = group.to_pylist()
    yield from enumerate(rows, part.first_row + 1)


def _opened(path: Path):
    """Return a ParquetFile, or the record batches of an arrow file, which is mapped."""
    import pyarrow  # here: only these tables need it
    import pyarrow.parquet

    check_file(path)
    with reading(path):
        if path.suffix == ".parquet":
            return pyarrow.parquet.ParquetFile(path, memory_map=True)
        mapped = pyarrow.memory_map(str(path))
        try:
            return list(pyarrow.ipc.open_stream(mapped))
        except pyarrow.ArrowInvalid:
            mapped.seek(0)
            reader = pyarrow.ipc.open_file(mapped)
            return [reader.get_batch(n) for n in range(reader.num_record_batches)]


def _article(path: Path, line: int, row) -> Article | Rejection:
    if not isinstance(row, dict):
        raise UserError(f"{path}:{line}: not a row with {', '.join(_FIELDS)}")
    for field in _FIELDS:
        value = row.get(field)
        if field == "id" and isinstance(value, int) and not isinstance(value, bool):
            continue
        if not isinstance(value, str):
            raise UserError(f"{path}:{line}: field {field!r} is missing or of a wrong type")
    if not _is_id(str(row["id"])):
        raise UserError(f"{path}:{line}: an id is one word without '/', not {row['id']!r}")
    document, summary = (plain_spaces(row[name]) for name in ("document", "summary"))
    return _unless_empty(Article(str(row["id"]), document, summary, str(path), line))
