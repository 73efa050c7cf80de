import argparse
import json

import pytest
import soundfile

from mtla_espnet.corpora.smarthome import prepare as smarthome
from mtla_espnet.data.kaldi.datadir import validate_data_dir
from mtla_espnet.data.kaldi.tables import read_table
from mtla_espnet.files import UserError

RECORD = {
    "id": "us_m1-00000",
    "wav": "wav/us_m1/us_m1-00000.wav",
    "speaker": "us_m1",
    "text": "play jazz in the office",
    "intent": "music_play",
    "slots": {"music": "jazz", "room": "office"},
    "german": "Spiel Jazz im Büro",
    "duration": 1.5,
}


def write_raw(root, *lines):
    wav = root / RECORD["wav"]
    wav.parent.mkdir(parents=True)
    wav.touch()
    (root / "train.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def options(*argv):
    parser = argparse.ArgumentParser()
    smarthome.add_arguments(parser)
    return parser.parse_args(argv)


@pytest.mark.parametrize(
    ("task", "texts"),
    [
        ("asr", {"text": "play jazz in the office"}),
        (
            "st",
            {
                "text": "play jazz in the office",
                "text.lc.rm.en": "play jazz in the office",
                "text.tc.de": "Spiel Jazz im Büro",
                "text.lc.de": "spiel jazz im büro",
                "text.lc.rm.de": "spiel jazz im büro",
            },
        ),
        (
            "slu",
            {
                "text": "music_play play jazz in the office",
                "transcript": "play jazz in the office",
            },
        ),
    ],
)
def test_a_raw_set_becomes_a_data_directory(tmp_path, task, texts):
    write_raw(tmp_path, json.dumps(RECORD, ensure_ascii=False))
    for _ in range(2):  # a second run replaces, it does not append
        smarthome.write_set(tmp_path, "train", tmp_path / "data", task)
    tables = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "data").iterdir()}
    assert tables == {
        "wav.scp": f"us_m1-00000 {tmp_path}/wav/us_m1/us_m1-00000.wav\n",
        "utt2spk": "us_m1-00000 us_m1\n",
        "spk2utt": "us_m1 us_m1-00000\n",
    } | {name: f"us_m1-00000 {words}\n" for name, words in texts.items()}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "us_m1-000', ":2: not a line of JSON"),
        ("", ":2: not a line of JSON"),
        ("[1]", ":2: not a JSON object"),
        (json.dumps({"id": "a"}), ":2: field 'wav' is missing or of a wrong type"),
        (json.dumps(RECORD | {"text": 3}), ":2: field 'text' is missing or of a wrong type"),
        (json.dumps(RECORD), ":2: id 'us_m1-00000' is there already"),
        (json.dumps(RECORD | {"id": "b", "wav": "none.wav"}), ":2: no such file: "),
    ],
)
def test_a_corrupt_line_is_named(tmp_path, line, message):
    write_raw(tmp_path, json.dumps(RECORD), line)
    with pytest.raises(UserError) as error:
        smarthome.write_set(tmp_path, "train", tmp_path / "data")
    assert str(error.value).startswith(f"{tmp_path / 'train.jsonl'}{message}")
    assert not (tmp_path / "data").exists()


def test_a_missing_set_is_named(tmp_path):
    with pytest.raises(UserError, match="test.jsonl: no such file"):
        smarthome.write_set(tmp_path, "test", tmp_path / "data")


def test_prepare_makes_valid_directories(tmp_path):
    sizes = ["--train_utterances", "3", "--valid_utterances", "1", "--test_utterances", "2"]
    paths = ["--downloads", str(tmp_path / "raw"), "--output", str(tmp_path / "data")]
    smarthome.prepare(options(*sizes, *paths))
    for split, size in (("train", 3), ("valid", 1), ("test", 2)):
        validate_data_dir(tmp_path / "data" / split)
        recordings = read_table(tmp_path / "data" / split / "wav.scp")
        assert len(recordings) == size
        assert all(soundfile.info(path).samplerate == 16000 for path in recordings.values())


def test_defaults_are_the_documented_sizes():
    args = options()
    assert (args.train_utterances, args.valid_utterances, args.test_utterances) == (3200, 200, 600)


def test_an_empty_set_is_refused(tmp_path):
    with pytest.raises(UserError, match="--test_utterances must be at least 1, not 0") as error:
        smarthome.prepare(options("--test_utterances", "0", "--downloads", str(tmp_path)))
    assert error.value.exit_code == 2
    assert list(tmp_path.iterdir()) == []
