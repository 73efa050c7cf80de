"""A corpus of a table, of a folder and of a data set on disk."""

import argparse
import json

import numpy as np
import pyarrow as pa
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.corpora.table import prepare as table
from mtla_espnet.data.kaldi.datadir import validate_data_dir
from mtla_espnet.data.kaldi.tables import read_table
from mtla_espnet.files import UserError

RATE_HZ = 8000


@pytest.fixture
def clips(tmp_path):
    """Twelve sound files, of three speakers by turns."""
    directory = tmp_path / "clips"
    directory.mkdir()
    random = np.random.default_rng(0)
    for number in range(12):
        soundfile.write(directory / f"{number:02}.wav", random.normal(0, 0.1, 4000), RATE_HZ)
    return directory


def rows(speakers=True):
    for number in range(12):
        row = {"audio": f"clips/{number:02}.wav", "text": f"word {number}, and more"}
        yield row | ({"speaker": f"s{number % 3}"} if speakers else {})


def written(path, found, form="csv"):
    found = list(found)
    if form == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in found))
        return path
    mark = {"csv": ",", "tsv": "\t"}[form]
    quote = (lambda value: f'"{value}"') if form == "csv" else str
    lines = [mark.join(found[0]), *(mark.join(map(quote, row.values())) for row in found)]
    path.write_text("\n".join(lines) + "\n")
    return path


def prepare(source, tmp_path, *argv):
    parser = argparse.ArgumentParser()
    table.add_arguments(parser)
    fixed = ["--output", str(tmp_path / "data"), "--downloads", str(tmp_path / "raw"), "--nj", "1"]
    table.prepare(parser.parse_args([str(source), *fixed, *argv]))
    return tmp_path / "data"


def all_of(data, name):
    return {
        key: value for split in table.SETS for key, value in read_table(data / split / name).items()
    }


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl"])
def test_a_table_becomes_sound_data_directories(clips, tmp_path, form):
    data = prepare(written(tmp_path / f"corpus.{form}", rows(), form), tmp_path)
    speakers = {}
    for split in table.SETS:
        validate_data_dir(data / split)
        speakers[split] = set(read_table(data / split / "spk2utt"))
    # three speakers: each in one set
    assert sorted(map(len, speakers.values())) == [1, 1, 1]
    assert set().union(*speakers.values()) == {"s0", "s1", "s2"}
    text = all_of(data, "text")
    assert text["s1-clips-04"] == "word 4, and more" and len(text) == 12
    assert all_of(data, "wav.scp")["s1-clips-04"] == str(clips / "04.wav")


def test_without_speakers_utterances_are_parted(clips, tmp_path):
    data = prepare(written(tmp_path / "c.csv", rows(False)), tmp_path, "--test_share", "0.25")
    sizes = [len(read_table(data / split / "text")) for split in table.SETS]
    assert sizes == [8, 1, 3]
    assert all_of(data, "utt2spk")["clips-03"] == "clips-03"
    again = prepare(written(tmp_path / "c.csv", rows(False)), tmp_path, "--test_share", "0.25")
    assert read_table(again / "test/text") == read_table(data / "test/text")


@given(st.lists(st.sampled_from("abcdefgh"), min_size=3).filter(lambda keys: len(set(keys)) > 2))
def test_shares_are_whole_keys_and_no_set_is_empty(keys):
    chosen = table._shares(keys, {"test": 0.1, "valid": 0.05})
    assert list(chosen.values()).count("test") >= 1
    assert list(chosen.values()).count("valid") >= 1
    assert chosen == table._shares(sorted(keys), {"test": 0.1, "valid": 0.05})
    # without its last key a set would not have its share
    n_rows = sum(key in chosen and chosen[key] == "test" for key in keys)
    least = min(keys.count(key) for key, split in chosen.items() if split == "test")
    largest = max(keys.count(key) for key, split in chosen.items() if split == "test")
    assert n_rows >= max(1, round(0.1 * len(keys)))
    assert n_rows - largest < max(1, round(0.1 * len(keys))) and least >= 1


def test_columns_of_other_names_and_given_sets(clips, tmp_path):
    sets = ["train"] * 8 + ["dev"] * 2 + ["test"] * 2
    named = [
        {"path": row["audio"], "sentence": row["text"], "part": split, "key": f"k{number}"}
        for number, (row, split) in enumerate(zip(rows(), sets, strict=True))
    ]
    argv = ["--audio", "path", "--text", "sentence", "--split", "part", "--id", "key"]
    data = prepare(written(tmp_path / "c.tsv", named, "tsv"), tmp_path, *argv)
    assert list(read_table(data / "valid/text")) == ["k8", "k9"]
    with pytest.raises(UserError, match=r"c.tsv:2: has no column 'audio'; there are path, sente"):
        prepare(tmp_path / "c.tsv", tmp_path)
    named[3]["part"] = "spare"
    with pytest.raises(UserError, match=r"c.tsv:5: part is one of train, valid, test, not 'spare'"):
        prepare(written(tmp_path / "c.tsv", named, "tsv"), tmp_path, *argv)


def test_translation_and_understanding(clips, tmp_path):
    more = [row | {"translation": "Schalt's ein!", "intent": "light_on"} for row in rows()]
    source = written(tmp_path / "c.csv", more)
    data = prepare(source, tmp_path, "--task", "st", "--languages", "en", "de")
    assert set(all_of(data, "text.tc.de").values()) == {"Schalt's ein!"}
    assert set(all_of(data, "text.lc.rm.de").values()) == {"schalt's ein"}
    assert all_of(data, "text.lc.rm.en")["s0-clips-00"] == "word 0 and more"
    data = prepare(source, tmp_path, "--task", "slu")
    assert all_of(data, "text")["s0-clips-00"] == "light_on word 0, and more"
    assert all_of(data, "transcript")["s0-clips-00"] == "word 0, and more"


def test_documents_need_no_audio(tmp_path):
    source = tmp_path / "c.jsonl"
    written(source, ({"text": f"long {n}", "summary": f"s {n}"} for n in range(9)), "jsonl")
    data = prepare(source, tmp_path, "--task", "sum")
    assert all_of(data, "src_text")["document0000003"] == "long 2"
    assert all_of(data, "text")["document0000003"] == "s 2"


def test_a_folder(clips, tmp_path):
    for path in clips.glob("*.wav"):
        path.with_suffix(".txt").write_text(f"text\nof {path.stem}\n")
    data = prepare(clips, tmp_path)
    assert all_of(data, "text")["05"] == "text of 05"
    (clips / "05.txt").unlink()
    with pytest.raises(UserError, match=r"clips/05.txt: '05': its text is empty"):
        prepare(clips, tmp_path)


def test_a_data_set_on_disk(clips, tmp_path):
    root = tmp_path / "saved"
    sizes = {"train": range(8), "validation": range(8, 10), "test": range(10, 12)}
    for split, numbers in sizes.items():
        (root / split).mkdir(parents=True)
        found = [
            {
                "audio": {"bytes": (clips / f"{n:02}.wav").read_bytes(), "path": f"{n:02}.wav"},
                "text": f"word {n}",
            }
            for n in numbers
        ]
        batch = pa.RecordBatch.from_pylist(found)
        with pa.ipc.new_stream(str(root / split / "data.arrow"), batch.schema) as stream:
            stream.write_batch(batch)
        state = {"_data_files": [{"filename": "data.arrow"}]}
        (root / split / "state.json").write_text(json.dumps(state))
    (root / "dataset_dict.json").write_text(json.dumps({"splits": list(sizes)}))
    data = prepare(root, tmp_path)
    assert [len(read_table(data / split / "text")) for split in table.SETS] == [8, 2, 2]
    for split in table.SETS:
        validate_data_dir(data / split)
    (wav,) = [v for k, v in all_of(data, "wav.scp").items() if "-03-" in k]
    np.testing.assert_array_equal(soundfile.read(wav)[0], soundfile.read(clips / "03.wav")[0])


class TestFaults:
    def lines(self, tmp_path, change):
        found = list(rows())
        change(found)
        return written(tmp_path / "c.csv", found)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda found: found[4].update(text=" "), r"c.csv:6: 's1-clips-04': its text is empty"),
            (lambda found: found[4].update(audio=""), r"c.csv:6: .*its audio is empty"),
            (lambda found: found[4].update(audio="no.wav"), r"c.csv:6: 's1-no': .*no.wav"),
            (
                lambda found: found[4].update(audio="clips/01.wav"),
                r"c.csv:6: 's1-clips-01 \(again\)': the id is there already \(.*c.csv:3\)",
            ),
        ],
    )
    def test_a_row_that_cannot_be_used_is_told_by_its_line(self, clips, tmp_path, change, message):
        source = self.lines(tmp_path, change)
        with pytest.raises(UserError, match=message):
            prepare(source, tmp_path)
        assert not (tmp_path / "data/train/wav.scp").exists()
        data = prepare(source, tmp_path, "--max_rejected", "50")
        assert len(all_of(data, "text")) == 11

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("a.csv", "audio,text\na.wav\n", r"a.csv:2: has 1 fields, the first line names 2"),
            ("a.csv", 'audio,text\n"a.wav,x\n', r"a.csv:2: unexpected end of data"),
            ("a.csv", "audio,audio\n", "a.csv:1: two columns have one name"),
            ("a.csv", "audio,text\n", "a.csv: has no row"),
            ("a.jsonl", '{"audio": "a"}\n{', r"a.jsonl:2: "),
            ("a.xlsx", "", r"a.xlsx: a table is one of .csv, .tsv, .jsonl, .ndjson"),
        ],
    )
    def test_a_malformed_table(self, tmp_path, name, content, message):
        (tmp_path / name).write_text(content)
        with pytest.raises(UserError, match=message):
            prepare(tmp_path / name, tmp_path)

    def test_an_intent_of_two_words(self, clips, tmp_path):
        source = written(tmp_path / "c.csv", [row | {"intent": "light on"} for row in rows()])
        with pytest.raises(UserError, match="its intent has a blank: write it as one word"):
            prepare(source, tmp_path, "--task", "slu")

    def test_options(self, tmp_path):
        with pytest.raises(UserError, match="no.csv: no such file or directory"):
            prepare(tmp_path / "no.csv", tmp_path)
        with pytest.raises(UserError, match="--test_share is between 0 and 0.5"):
            prepare(tmp_path / "no.csv", tmp_path, "--test_share", "1")
