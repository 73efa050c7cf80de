"""What survives when a decode is killed."""

import contextlib
from pathlib import Path

from mtla_espnet.inference.journal import Journal, killed_batches, read_journals

ROW = {"text": "ü", "token": "ü", "token_int": "7", "score": "-1.0000"}


def written(directory):
    (path,) = directory.glob("*.jsonl")
    return path


def test_what_was_noted_is_read_back(tmp_path):
    with Journal(tmp_path / "new", "a") as journal:
        journal.add({"utt1": [ROW]}, {"utterances": 1})
        journal.add({"utt2": [ROW, ROW], "utt3": [ROW]}, {"utterances": 3})
    with Journal(tmp_path / "new", "a") as journal:
        journal.add({"utt4": [ROW]}, {"utterances": 1})
    found, costs = read_journals(tmp_path / "new", "a")
    assert found == {"utt1": [ROW], "utt2": [ROW, ROW], "utt3": [ROW], "utt4": [ROW]}
    assert sorted(cost["utterances"] for cost in costs) == [1, 3]


def test_of_a_cut_journal_the_whole_lines_count(tmp_path):
    with Journal(tmp_path, "a") as journal:
        journal.add({"utt1": [ROW]}, {"utterances": 1})
        journal.add({"utt2": [ROW]}, {"utterances": 2})
    whole = written(tmp_path).read_bytes()
    for size in range(len(whole) + 1):
        Path(tmp_path / "cut").mkdir(exist_ok=True)
        (tmp_path / "cut/x.jsonl").write_bytes(whole[:size])
        lines = min(3, whole[:size].count(b"\n"))  # the last one says that it ended
        found, costs = read_journals(tmp_path / "cut", "a")
        assert list(found) == ["utt1", "utt2"][: max(0, lines - 1)]
        assert [cost["utterances"] for cost in costs] == [lines - 1][: lines > 1]


def test_journals_of_another_decoding_are_removed(tmp_path):
    with Journal(tmp_path, "a") as journal:
        journal.add({"utt1": [ROW]}, {"utterances": 1})
    assert read_journals(tmp_path, "b") == ({}, [])
    assert not list(tmp_path.iterdir())
    assert read_journals(tmp_path / "none", "b") == ({}, [])


def test_a_run_that_was_killed_is_told_from_one_that_was_interrupted(tmp_path):
    def run(how):
        with Journal(tmp_path, "a") as journal:
            journal.begin(["utt2", "utt1"])
            journal.add({"utt1": [ROW], "utt2": [ROW]}, {"utterances": 2})
            journal.begin(["utt3"])
            if how == "killed":
                journal._stream.close()
                journal._write = lambda value: None
            if how == "interrupted":
                raise KeyboardInterrupt

    for how in ("interrupted", "killed", "killed"):
        with contextlib.suppress(KeyboardInterrupt):
            run(how)
    assert killed_batches(tmp_path, "a") == [["utt3"], ["utt3"]]
    assert killed_batches(tmp_path, "b") == []
    assert set(read_journals(tmp_path, "a")[0]) == {"utt1", "utt2"}
