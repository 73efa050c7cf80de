"""A corpus of your own: a table, a folder of x.wav and x.txt, or a data set on disk.

Choices, and why:
- Sets are those of a column `split`, if there is one. Else whole speakers are kept apart, where a
  column of speakers has three or more; else utterances are. Which go where depends on a hash of
  their names alone, so that the same table gives the same sets.
- An utterance's id is that of its column, or the path of its audio without the suffix; a speaker
  comes before it, so that ids sort by speaker.
- What cannot be used (no text, no audio, an id twice) is told by its line, and left out while it is
  at most `--max_rejected` per cent of a set.

Data directories have the tables of the task: `text`; of translation also `text.lc.rm.<source>` and
`text.{tc,lc,lc.rm}.<target>`; of understanding `text` with the intent before the words, and
`transcript`; of summarisation `src_text`, the document, and `text`, the summary.
"""

import argparse
import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePath

from mtla_espnet.corpora.shared.corpus_set import CorpusSet, leave_out_rejected, write_sets
from mtla_espnet.corpora.shared.raw_files import add_shared_arguments, durations
from mtla_espnet.corpora.table.rows import TableRow, read_rows
from mtla_espnet.data.kaldi.tables import problem_of_id, spk2utt_from, write_table
from mtla_espnet.data.text.text_case import CASES, to_case
from mtla_espnet.files import UserError

TASKS = ("asr", "st", "slu", "sum")
SETS = ("train", "valid", "test")
# Names of sets that others use.
_SYNONYMS = {"dev": "valid", "validation": "valid", "val": "valid", "eval": "test"}
_LEAST_SPEAKERS = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this corpus."""
    parser.add_argument(
        "source",
        type=Path,
        nargs="?",
        help="table (.csv, .tsv, .jsonl), folder of x.wav and x.txt, or data set on disk",
    )
    parser.add_argument("--task", choices=TASKS, default="asr", help="what the recipe does")
    column = "column of "
    parser.add_argument("--audio", default="audio", help=column + "sound files")
    parser.add_argument("--text", default="text", help=column + "words; sum: of documents")
    parser.add_argument("--translation", default="translation", help=column + "translations (st)")
    parser.add_argument("--intent", default="intent", help=column + "intents, one word each (slu)")
    parser.add_argument("--summary", default="summary", help=column + "summaries (sum)")
    parser.add_argument("--speaker", help=column + "speakers; default: `speaker`, if it is there")
    parser.add_argument("--id", help=column + "ids; default: `id`, if it is there")
    parser.add_argument("--split", help=column + "sets; default: `split`, if it is there")
    parser.add_argument("--valid_share", type=float, default=0.05, help="without a column of sets")
    parser.add_argument("--test_share", type=float, default=0.1, help="without a column of sets")
    parser.add_argument("--languages", nargs=2, default=("en", "de"), help="st: from, to")
    add_shared_arguments(parser)


def prepare(args: argparse.Namespace) -> None:
    """Write `train`, `valid` and `test`.

    Raises:
        UserError: the source cannot be read, a column is not there, a set has no utterance, or
            too much of a set cannot be used; names file and line.
    """
    if args.source is None:
        raise UserError("name the table or folder: prepare table SOURCE", exit_code=2)
    for name in ("valid_share", "test_share"):
        if not 0 < getattr(args, name) < 0.5:
            raise UserError(f"--{name} is between 0 and 0.5", exit_code=2)
    rows = list(read_rows(args.source, args.audio, args.text, args.downloads / "audio"))
    if not rows:
        raise UserError(f"{args.source}: has no row")
    _name_optional_columns(args, rows[0])
    ids = [_id_of(row, args) for row in rows]
    splits = _splits(rows, ids, args)
    sets = {name: CorpusSet(name) for name in SETS}
    places: dict[str, dict] = {name: {} for name in SETS}
    for number, (row, id_, split) in enumerate(zip(rows, ids, splits, strict=True), 1):
        _add(sets[split], places, id_ or f"row{number}", row, args)
    if args.task == "sum":
        leave_out_rejected(args.output, list(sets.values()), args.max_rejected)
        for each in sets.values():
            _write_documents(args.output / each.name, each)
        return
    lengths_s = durations(
        (path for each in sets.values() for path in each.wav_scp.values()), args.nj, "audio"
    )
    for each in sets.values():
        each.reject_bad_audio(places[each.name], lengths_s)
    leave_out_rejected(args.output, list(sets.values()), args.max_rejected)
    write_sets(args.output, list(sets.values()))


def _name_optional_columns(args: argparse.Namespace, row: TableRow) -> None:
    """Check the columns that the task needs; take those of common names where none is named."""
    needed = {"sum": ("text", "summary"), "st": ("audio", "text", "translation")}
    needed |= {"asr": ("audio", "text"), "slu": ("audio", "text", "intent")}
    wanted = [
        *needed[args.task],
        *(name for name in ("speaker", "id", "split") if getattr(args, name)),
    ]
    for option in wanted:
        column = getattr(args, option)
        if column not in row.values:
            there = ", ".join(row.values)
            raise UserError(
                f"{row.place}: has no column {column!r}; there are {there}: name one by --{option}"
            )
    for option in ("speaker", "id", "split"):
        if getattr(args, option) is None and option in row.values:
            setattr(args, option, option)


def _value(row: TableRow, column: str | None) -> str:
    return " ".join(row.values.get(column, "").split()) if column else ""


def _id_of(row: TableRow, args: argparse.Namespace) -> str:
    """Return the id of a row; empty where it has nothing to name it by."""
    name = _value(row, args.id)
    if not name and args.task != "sum":
        path = (
            PurePath(_value(row, args.audio)).with_suffix("") if _value(row, args.audio) else None
        )
        name = "-".join(part for part in path.parts if part not in ("/", "..")) if path else ""
    if not name and args.task == "sum" and row.line is not None:
        name = f"document{row.line:07d}"
    speaker = _value(row, args.speaker)
    if speaker and name and not name.startswith(speaker):
        name = f"{speaker}-{name}"
    return name.replace(" ", "_")


def _splits(rows: list[TableRow], ids: list[str], args: argparse.Namespace) -> list[str]:
    """Return the set of each row."""
    if args.split:
        return [_named_split(row, args.split) for row in rows]
    speakers = [_value(row, args.speaker) for row in rows]
    by_speaker = len(set(speakers)) >= _LEAST_SPEAKERS and all(speakers)
    keys = speakers if by_speaker else ids
    chosen = _shares(keys, {"test": args.test_share, "valid": args.valid_share})
    logging.info("Sets are parted by %s", "speaker" if by_speaker else "utterance")
    return [chosen.get(key, "train") for key in keys]


def _named_split(row: TableRow, column: str) -> str:
    name = _value(row, column).lower()
    split = _SYNONYMS.get(name, name)
    if split not in SETS:
        raise UserError(f"{row.place}: {column} is one of {', '.join(SETS)}, not {name!r}")
    return split


def _shares(keys: Iterable[str], shares: Mapping[str, float]) -> dict[str, str]:
    """Give each set keys, in the order of their hashes, until it has its share of the rows.

    Example:
        >>> sorted(_shares("abcdefghij", {"test": 0.2, "valid": 0.1}).values())
        ['test', 'test', 'valid']
    """
    counts: dict[str, int] = {}
    for key in keys:
        counts[key] = counts.get(key, 0) + 1
    order = iter(sorted(counts, key=lambda key: hashlib.sha256(key.encode()).hexdigest()))
    total, chosen = sum(counts.values()), {}
    for split, share in shares.items():
        n_rows = 0
        while n_rows < max(1, round(share * total)):
            key = next(order, None)
            if key is None:
                break
            chosen[key] = split
            n_rows += counts[key]
    return chosen


def _add(each: CorpusSet, places: dict[str, dict], id_: str, row: TableRow, args) -> None:
    """Add a row to a set, or reject it there."""
    problem = _problem(id_, row, args, places)
    if problem:
        # an id may be there already: what is rejected goes by its own name
        name = id_ if all(id_ not in known for known in places.values()) else f"{id_} (again)"
        each.reject(name, row.file, row.line, problem)
        return
    places[each.name][id_] = (str(row.file), row.line)
    each.utt2spk[id_] = _value(row, args.speaker).replace(" ", "_") or id_
    words = _value(row, args.text)
    if args.task != "sum":
        base = args.source if args.source.is_dir() else args.source.parent
        each.wav_scp[id_] = str((base / _value(row, args.audio)).absolute())
    for table, make in _tables(args).items():
        value = make(words, row)
        if table == "text":
            each.text[id_] = value
        else:
            each.others.setdefault(table, {})[id_] = value


def _problem(id_: str, row: TableRow, args, places: Mapping[str, Mapping]) -> str:
    """Say why a row cannot be used; empty where it can."""
    columns = {"asr": (), "st": ("translation",), "slu": ("intent",), "sum": ("summary",)}
    for option in (*(() if args.task == "sum" else ("audio",)), "text", *columns[args.task]):
        if not _value(row, getattr(args, option)):
            return f"its {getattr(args, option)} is empty"
    if args.task == "slu" and " " in _value(row, args.intent):
        return f"its {args.intent} has a blank: write it as one word, such as light_on"
    for known in places.values():
        if id_ in known:
            file, line = known[id_]
            return f"the id is there already ({file if line is None else f'{file}:{line}'})"
    problem = problem_of_id(id_)
    return f"its id {problem}" if problem else ""


def _tables(args: argparse.Namespace) -> dict[str, Callable[[str, TableRow], str]]:
    """Return the tables of text of a task, and how each is made of words and row."""
    if args.task == "st":
        source, target = args.languages

        def translated(case: str) -> Callable[[str, TableRow], str]:
            return lambda words, row: to_case(_value(row, args.translation), case)

        return {
            "text": lambda words, row: to_case(words, "lc.rm"),
            f"text.lc.rm.{source}": lambda words, row: to_case(words, "lc.rm"),
        } | {f"text.{case}.{target}": translated(case) for case in CASES}
    if args.task == "slu":
        return {
            "text": lambda words, row: f"{_value(row, args.intent)} {words}",
            "transcript": lambda words, row: words,
        }
    if args.task == "sum":
        return {
            "text": lambda words, row: _value(row, args.summary),
            "src_text": lambda words, row: words,
        }
    return {"text": lambda words, row: words}


def _write_documents(directory: Path, each: CorpusSet) -> None:
    """Write a set of texts; `text` goes first and comes last, so that with it all is there."""
    (directory / "text").unlink(missing_ok=True)
    write_table(directory / "src_text", each.others["src_text"])
    write_table(directory / "utt2spk", each.utt2spk)
    write_table(directory / "spk2utt", spk2utt_from(each.utt2spk))
    write_table(directory / "text", each.text)
    logging.info("%s: %d documents", directory, len(each.text))
