import json
import logging

import pytest

from mtla_espnet.data.kaldi.datadir import validate_data_dir
from mtla_espnet.data.kaldi.rejected import read_rejected
from mtla_espnet.data.kaldi.tables import read_table
from mtla_espnet.files import UserError
from raw_corpora import FIXTURES, check_expected, raw_copy, run_prepare, tables

RAW = FIXTURES / "slurp"
SETS = ("train", "devel", "test")
LISTS = "dataset/slurp"


def prepare(output, *argv, root=RAW):
    run_prepare("slurp", "--downloads", root, "--output", output, "--nbpe", 36, "--nj", 1, *argv)


def test_the_fixture_becomes_the_expected_directories(tmp_path):
    prepare(tmp_path)
    check_expected(tmp_path, "slurp", RAW, SETS, unchecked=["text"])
    for name in SETS:
        validate_data_dir(tmp_path / name)


def test_text_is_the_intent_and_pieces_of_the_words(tmp_path):
    prepare(tmp_path)
    pieces = (tmp_path / "slurp_bpe36/tokens.txt").read_text(encoding="utf-8").split("\n")
    for name in SETS:
        text, words, intents = (
            read_table(tmp_path / name / table) for table in ("text", "transcript", "intent")
        )
        assert text.keys() == words.keys()
        for utterance, line in text.items():
            intent, *tokens = line.split()
            assert intent == intents[utterance]
            assert "".join(tokens).replace("▁", " ").strip() == words[utterance]
            if name == "train":
                assert set(tokens) <= set(pieces)
    # Trained without the intents: none of them is a piece, and `_` is in no piece.
    assert not any("_" in piece for piece in pieces)


def test_a_second_run_and_more_processes_change_nothing(tmp_path):
    prepare(tmp_path)
    before = tables(tmp_path)
    prepare(tmp_path, "--nj", 3)
    assert tables(tmp_path) == before


def test_skipped_recordings_and_unknown_intents_are_told(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        prepare(tmp_path)
    assert "train: 1 recordings skipped that were there before" in caplog.messages
    assert "devel: 1 recordings skipped that were there before" in caplog.messages
    told = "devel: 1 intents are not in the training set and cannot be recognised: play_stop"
    assert told in caplog.messages


def rewrite(path, number, **fields):
    lines = path.read_text(encoding="utf-8").splitlines()
    record = json.loads(lines[number - 1]) | fields
    lines[number - 1] = json.dumps({key: record[key] for key in record if record[key] is not ...})
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sentence": ...}, ":2: field 'sentence' is missing or of a wrong type"),
        ({"scenario": 3}, ":2: field 'scenario' is missing or of a wrong type"),
        ({"action": "send it"}, ":2: an intent is one word, not 'email_send it'"),
        ({"recordings": [{"file": "../x.flac"}]}, ":2: a recording's file is `audio-<id>.flac`"),
        ({"recordings": ["audio-1.flac"]}, ":2: a recording's file is `audio-<id>.flac`, not None"),
    ],
)
def test_a_wrong_field_is_named(tmp_path, fields, message):
    root = raw_copy("slurp", tmp_path)
    rewrite(root / LISTS / "train.jsonl", 2, **fields)
    with pytest.raises(UserError) as error:
        prepare(tmp_path / "data", root=root)
    assert str(error.value).startswith(f"{root / LISTS / 'train.jsonl'}{message}")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("devel.jsonl", b'{"slurp_id": 21', b'"slurp_id": 21', "devel.jsonl:2: not a line of JSON"),
        ("devel.jsonl", b'{"slurp_id": 21', b'3\n{"slurp_id": 21', "devel.jsonl:2: not a JSON obj"),
        ("train.jsonl", b"caf\xc3\xa9", b"caf\xe9", "train.jsonl:4: not UTF-8 text (byte "),
        ("metadata.json", b'"7": {', b'"7": ', "metadata.json: not a JSON file: "),
        ("metadata.json", b'"recordings"', b'"files"', "metadata.json: is not `{"),
        (
            "metadata.json",
            b'"7": {',
            b'"7": ' + b"[" * 99_999,
            "metadata.json: not a JSON file: max",
        ),
        (
            "devel.jsonl",
            b'{"slurp_id": 21',
            b"[" * 99_999,
            "devel.jsonl:2: not a line of JSON: max",
        ),
    ],
)
def test_a_damaged_file_is_named(tmp_path, file, old, new, message):
    root = raw_copy("slurp", tmp_path)
    path = root / LISTS / file
    assert old in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old, new))
    with pytest.raises(UserError) as error:
        prepare(tmp_path / "data", root=root)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("name", ["metadata.json", "train_synthetic.jsonl", "test.jsonl"])
def test_a_missing_list_is_named(tmp_path, name):
    root = raw_copy("slurp", tmp_path)
    (root / LISTS / name).unlink()
    with pytest.raises(UserError, match=f"{name}: no such file or directory: does SLURP name"):
        prepare(tmp_path / "data", root=root)


def test_an_impossible_vocabulary_is_told(tmp_path):
    with pytest.raises(UserError, match="nbpe 5 is out of range: this text allows"):
        prepare(tmp_path / "data", "--nbpe", 5)


def test_bad_recordings_are_listed_and_the_rest_goes_on(tmp_path):
    root = raw_copy("slurp", tmp_path)
    real = root / "audio/slurp_real"
    (real / "audio-151.flac").unlink()
    (real / "audio-154.flac").write_bytes(b"fLaC")
    metadata = root / LISTS / "metadata.json"
    metadata.write_text(metadata.read_text().replace("audio--1504", "audio-x"))
    prepare(tmp_path / "data", "--max_rejected", 40, root=root)
    train = tmp_path / "data/train"
    assert len(read_table(train / "text")) == 5
    rejected = {each.utterance: each for each in read_rejected(train / "rejected.tsv")}
    assert {key: each.line for key, each in rejected.items()} == {
        "slurp_-1504": 2,
        "slurp_FO-232_151": 3,
        "slurp_MO-433_154": 5,
    }
    missing = rejected["slurp_FO-232_151"].reason
    assert missing == f"{real}/audio-151.flac: no such file (2 of the 7 audio files are bad)"
    assert "no usable usrid for audio--1504.flac" in rejected["slurp_-1504"].reason
    with pytest.raises(UserError, match=r"3 of 8 utterances rejected \(37.5 %, more than"):
        prepare(tmp_path / "data", root=root)
    assert not (train / "wav.scp").exists()
