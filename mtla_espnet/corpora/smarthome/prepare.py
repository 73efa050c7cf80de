"""smarthome: spoken home commands (synthetic), 18 intents, English with a German translation.

Raw layout, made by `synthesis` where it is missing:

    <downloads>/smarthome/{train,valid,test}.jsonl
    {"id": "us_m1-00000", "wav": "wav/us_m1/us_m1-00000.wav", "speaker": "us_m1",
     "text": "play jazz in the office", "intent": "music_play",
     "slots": {"music": "jazz", "room": "office"}, "german": "Spiel Jazz im Büro",
     "duration": 1.9872}

Data directories: `wav.scp`, `utt2spk` and `spk2utt`, and by the recipe's task

- asr: `text`, the English words;
- st: the same, and `text.<case>.<lang>` of the English words (lc.rm, as all is lower case and
  without punctuation) and of the German ones (tc, lc, lc.rm);
- slu: `text`, the intent (one token) and the English words, and `transcript`, the words.
"""

import argparse
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mtla_espnet.corpora.shared.raw_files import parse_record
from mtla_espnet.corpora.smarthome.grammar import read_sentences
from mtla_espnet.corpora.smarthome.synthesis import VOICES, synthesise
from mtla_espnet.data.kaldi.datadir import write_data_dir
from mtla_espnet.data.kaldi.tables import write_table
from mtla_espnet.data.text.text_case import CASES, to_case
from mtla_espnet.files import UserError, read_text

TASKS = ("asr", "st", "slu")
_FIELDS = {
    "id": str,
    "wav": str,
    "speaker": str,
    "text": str,
    "intent": str,
    "slots": dict,
    "german": str,
    "duration": (int, float),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this corpus."""
    parser.add_argument("--output", type=Path, default=Path("data"), help="data directories")
    parser.add_argument("--downloads", type=Path, default=Path("downloads"), help="raw corpora")
    parser.add_argument("--task", choices=TASKS, default="asr", help="what the recipe does")
    parser.add_argument("--train_utterances", type=int, default=3200)
    parser.add_argument("--valid_utterances", type=int, default=200)
    parser.add_argument("--test_utterances", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0, help="sentences, styles and noise")
    parser.add_argument("--nj", type=int, default=2, help="speakers synthesised side by side")


def prepare(args: argparse.Namespace) -> None:
    """Synthesise what is missing of the raw corpus, then write the data directories.

    Raises:
        UserError: a size is below 1, eSpeak NG is missing, or a raw line is bad.
    """
    sizes = {split: getattr(args, f"{split}_utterances") for split in VOICES}
    for split, size in sizes.items():
        if size < 1:
            raise UserError(f"--{split}_utterances must be at least 1, not {size}", exit_code=2)
    root = args.downloads / "smarthome"
    synthesise(root, sizes, args.seed, args.nj, read_sentences())
    for split in sizes:
        write_set(root, split, args.output / split, args.task)


def write_set(root: Path, split: str, output: Path, task: str = "asr") -> None:
    """Write the data directory of one set.

    Args:
        root: the raw corpus.
        split: `train`, `valid` or `test`.
        output: directory to write.
        task: one of TASKS.

    Raises:
        UserError: a line of the raw set is bad, or its wav is not there.
    """
    records = list(read_records(root / f"{split}.jsonl"))
    tables = texts_of(records, task)
    text = tables.pop("text")
    for name, table in tables.items():
        write_table(output / name, table)
    write_data_dir(
        output,
        wav_scp={record["id"]: root / record["wav"] for record in records},
        text=text,
        utt2spk={record["id"]: record["speaker"] for record in records},
    )
    hours = sum(record["duration"] for record in records) / 3600
    logging.info("%s: %d utterances, %.2f h (synthetic speech)", output, len(records), hours)


def texts_of(records: Sequence[Mapping], task: str) -> dict[str, dict[str, str]]:
    """Return the tables of text of a task: name -> utterance -> words."""
    words = {record["id"]: record["text"] for record in records}
    if task == "st":
        german = {record["id"]: record["german"] for record in records}
        cases = {
            f"text.{case}.de": {key: to_case(text, case) for key, text in german.items()}
            for case in CASES
        }
        return {"text": words, "text.lc.rm.en": words} | cases
    if task == "slu":
        intents = {record["id"]: record["intent"] for record in records}
        return {
            "text": {key: f"{intents[key]} {words[key]}" for key in words},
            "transcript": words,
        }
    return {"text": words}


def read_records(path: Path) -> Iterator[dict]:
    """Yield the utterances of a raw set.

    Raises:
        UserError: the file is missing, or a line is not JSON, lacks a field, has
            one of a wrong type, repeats an id, or names a wav that is not there;
            the message starts with `path:line`.
    """
    lines = read_text(path).removesuffix("\n").split("\n")
    seen = set()
    for number, line in enumerate(lines, 1):
        where = f"{path}:{number}"
        record = parse_record(line, where, _FIELDS)
        if record["id"] in seen:
            raise UserError(f"{where}: id {record['id']!r} is there already")
        seen.add(record["id"])
        if not (path.parent / record["wav"]).is_file():
            raise UserError(f"{where}: no such file: {path.parent / record['wav']}")
        yield record
