"""SLURP: commands to a home assistant with their intents, English (audio CC BY-NC 4.0).

Choices, and why, which are those of ESPnet's recipe:
- The training set is the real and the synthetic one. Every recording of a sentence is an
  utterance; one that was there before, in any set, is skipped.
- The intent is `<scenario>_<action>`, not the field `intent`.
- Words: `@` is ` at `, `#` is ` hashtag `, `,` and `.` are dropped, `<unk>` is `unknown`;
  synthetic sentences in lower case.
- `text` is the intent, one token, and then the words as BPE pieces, whose model is trained on
  the words of the training set: the recipe's token_type is word. `transcript` has the words,
  `intent` the intents.

Raw layout:

    <SLURP>/dataset/slurp/{train,train_synthetic,devel,test}.jsonl
    {"slurp_id": 7, "sentence": "wake me at six", "intent": "alarm_set", "action": "set",
     "scenario": "alarm", "recordings": [{"file": "audio-150-headset.flac", ...}], ...}
    <SLURP>/dataset/slurp/metadata.json
    {"7": {"recordings": {"audio-150-headset.flac": {"usrid": "FE-145", ...}}}, ...}
    <SLURP>/audio/{slurp_real,slurp_synth}/audio-150-headset.flac
"""

import argparse
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import sentencepiece

from mtla_espnet.corpora.shared.corpus_set import CorpusSet, leave_out_rejected, write_sets
from mtla_espnet.corpora.shared.raw_files import (
    add_shared_arguments,
    durations,
    parse_record,
    read_lines,
    require,
)
from mtla_espnet.data.kaldi.tables import problem_of_id
from mtla_espnet.data.text.spaces import plain_spaces
from mtla_espnet.data.text.token_list import build_token_list
from mtla_espnet.files import UserError
from mtla_espnet.json_files import read_json

# Set -> (list, directory of its audio), in the order in which recordings are met first.
_SOURCES = {
    "train": (("train", "slurp_real"), ("train_synthetic", "slurp_synth")),
    "devel": (("devel", "slurp_real"),),
    "test": (("test", "slurp_real"),),
}
_SYNTHETIC = "synthetic"
_FILE = re.compile(r"audio-(?P<id>[^/\s]+)\.flac")
_FIELDS = {"sentence": str, "scenario": str, "action": str, "recordings": list}
_LISTED_INTENTS = 3


class Sentence(NamedTuple):
    """A line of a list: words and intent as they are trained, and the recordings' files."""

    line: int
    words: str
    intent: str
    files: list[str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this corpus."""
    add_shared_arguments(parser)
    parser.add_argument("--nbpe", type=int, default=500, help="BPE tokens of the words")


def prepare(args: argparse.Namespace) -> None:
    """Write `train`, `devel` and `test`, and the BPE model in `slurp_bpe<nbpe>/`.

    Raises:
        UserError: a wrong root, a line that is not JSON or lacks a field, an nbpe that the
            words do not allow, or too much audio that is missing or corrupt.
    """
    lists = args.downloads / "dataset" / "slurp"
    speakers = _read_speakers(lists / "metadata.json")
    seen: set[str] = set()
    sets = [_make_set(args, lists, name, speakers, seen) for name in _SOURCES]
    for each in sets:
        _tell_unknown_intents(each, sets[0])
    leave_out_rejected(args.output, sets, args.max_rejected)
    bpe_dir = args.output / f"slurp_bpe{args.nbpe}"
    build_token_list(sets[0].others["transcript"].values(), bpe_dir, "bpe", args.nbpe, "bpe")
    processor = sentencepiece.SentencePieceProcessor(
        model_proto=(bpe_dir / "bpe.model").read_bytes()
    )
    for each in sets:
        for utterance, words in each.others["transcript"].items():
            pieces = processor.encode(words, out_type=str)
            each.text[utterance] = " ".join([each.others["intent"][utterance], *pieces])
    write_sets(args.output, sets)


def read_sentences(path: Path, lower: bool) -> Iterator[Sentence]:
    """Yield the sentences of a list.

    Args:
        path: the jsonl file.
        lower: write the words in lower case.

    Raises:
        UserError: the file is missing, or a line is not JSON, lacks a field or has one of a
            wrong type (`path:line`).
    """
    for number, line in enumerate(read_lines(path, "SLURP"), 1):
        where = f"{path}:{number}"
        record = parse_record(line, where, _FIELDS)
        intent = f"{record['scenario']}_{record['action']}"
        if len(intent.split()) != 1:
            raise UserError(f"{where}: an intent is one word, not {intent!r}")
        files = []
        for recording in record["recordings"]:
            file = recording.get("file") if isinstance(recording, dict) else None
            if not isinstance(file, str) or not _FILE.fullmatch(file):
                raise UserError(f"{where}: a recording's file is `audio-<id>.flac`, not {file!r}")
            files.append(file)
        yield Sentence(number, normalise(record["sentence"], lower), intent, files)


def normalise(sentence: str, lower: bool = False) -> str:
    """Return the words of a sentence as they are trained.

    Example:
        >>> normalise("email bob@home, #now <unk>.")
        'email bob at home hashtag now unknown'
    """
    text = sentence.replace("@", " at ").replace("#", " hashtag ")
    text = plain_spaces(text.replace(",", "").replace(".", ""))
    return (text.lower() if lower else text).replace("<unk>", "unknown")


def _read_speakers(path: Path) -> dict[str, str]:
    """Return file of a recording -> its speaker."""
    records = read_json(require(path, "SLURP"))
    try:
        return {
            file: str(about["usrid"])
            for record in records.values()
            for file, about in record["recordings"].items()
            if about.get("usrid")
        }
    except (AttributeError, KeyError, TypeError):
        shape = '{"<id>": {"recordings": {"<file>": {"usrid": ...}}}}'
        raise UserError(f"{path}: is not `{shape}`") from None


def _make_set(
    args: argparse.Namespace, lists: Path, name: str, speakers: dict[str, str], seen: set[str]
) -> CorpusSet:
    """Read a set, but for the pieces in `text`: its values are empty. Adds to `seen`."""
    result = CorpusSet(name, others={"transcript": {}, "intent": {}})
    places: dict[str, tuple[str, int | None]] = {}
    n_again = 0
    for list_name, audio in _SOURCES[name]:
        synthetic = list_name.endswith(_SYNTHETIC)
        path = lists / f"{list_name}.jsonl"
        for sentence in read_sentences(path, lower=synthetic):
            for file in sentence.files:
                recording = _FILE.fullmatch(file)["id"]
                if recording in seen:
                    n_again += 1
                    continue
                seen.add(recording)
                speaker = _SYNTHETIC if synthetic else speakers.get(file, "")
                utterance = f"slurp_{speaker}_{recording}"
                if problem_of_id(speaker):
                    reason = f"metadata.json has no usable usrid for {file}: {speaker!r}"
                    result.reject(f"slurp_{recording}", path, sentence.line, reason)
                    continue
                result.text[utterance] = ""
                result.utt2spk[utterance] = f"slurp_{speaker}"
                result.wav_scp[utterance] = str(args.downloads / "audio" / audio / file)
                result.others["transcript"][utterance] = sentence.words
                result.others["intent"][utterance] = sentence.intent
                places[utterance] = (str(path), sentence.line)
    logging.info("%s: %d recordings skipped that were there before", name, n_again)
    lengths = durations(result.wav_scp.values(), args.nj, f"{name}: audio")
    result.reject_bad_audio(places, lengths)
    return result


def _tell_unknown_intents(each: CorpusSet, training: CorpusSet) -> None:
    unknown = sorted(set(each.others["intent"].values()) - set(training.others["intent"].values()))
    if unknown:
        logging.warning(
            "%s: %d intents are not in the training set and cannot be recognised: %s",
            each.name,
            len(unknown),
            ", ".join(unknown[:_LISTED_INTENTS]),
        )
