import json

import pyarrow
import pyarrow.parquet
import pytest

from mtla_espnet.corpora.xsum import prepare as xsum
from mtla_espnet.data.kaldi.rejected import read_rejected
from mtla_espnet.data.kaldi.tables import read_table
from mtla_espnet.files import UserError
from raw_corpora import FIXTURES, check_expected, raw_copy, run_prepare, tables

RAW = FIXTURES / "xsum"
SPLIT = "XSum-TRAINING-DEV-TEST-SPLIT-90-5-5.json"
SETS = ("train", "validation", "test")
# As Hugging Face gives the fixture's articles; the ids in no order.
ROWS = {
    "train": [
        {"document": "The train was first.\nIt was an hour early.", "summary": "A train has won.",
         "id": "39000004"},
        {"document": "A school in the north was shut by rain.\nIt opens on Friday.",
         "summary": "Rain has shut a school.", "id": "39000003"},
        {"document": "Two cats from the town won a prize on Sunday.\nThey are called Tom\u2028and "
         "Kit.", "summary": "Two cats have won a prize.", "id": "39000002"},
        {"document": "The old bridge over the river was shut for a year.\nIt “opened” on "
         "Monday,\u00a0the town said.\nShare this with friends was the call.",
         "summary": "A well-known bridge has opened again.", "id": "39000001"},
    ],
    "validation": [
        {"document": "Fish are back in the river.\nThe town said so on Sunday.",
         "summary": "A river has new fish.", "id": "39000011"},
        {"document": "The market on the hill is back.\nIt was shut for a year.",
         "summary": "A market is back.", "id": "39000010"},
    ],
    "test": [
        {"document": "The school by the river has a bridge.\nIt opened on Friday.",
         "summary": "A school has a new bridge.", "id": "39000020"},
        {"document": "The town won on Monday.\nTwo cats were there.",
         "summary": "A town has won a prize.", "id": "39000021"},
    ],
}  # fmt: skip


def prepare(output, *argv, root=RAW):
    run_prepare("xsum", "--downloads", root, "--output", output, "--nj", 1, *argv)


def write_jsonl(root, name, rows):
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    (root / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")


def write_parquet(root, name, rows):
    path = root / "data" / f"{name}-00000-of-00001.parquet"
    path.parent.mkdir(exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=2)


def write_arrow_stream(root, name, rows):
    (root / name).mkdir()
    table = pyarrow.Table.from_pylist(rows)
    with pyarrow.ipc.new_stream(root / name / "data-00000-of-00001.arrow", table.schema) as sink:
        sink.write_table(table, max_chunksize=1)


def write_arrow_file(root, name, rows):
    table = pyarrow.Table.from_pylist(rows)
    with pyarrow.ipc.new_file(root / f"xsum-{name}.arrow", table.schema) as sink:
        sink.write_table(table, max_chunksize=3)


FORMS = [write_jsonl, write_parquet, write_arrow_stream, write_arrow_file]


def test_the_fixture_becomes_the_expected_directories(tmp_path):
    prepare(tmp_path, "--max_rejected", 40)
    check_expected(tmp_path, "xsum", RAW)
    for name in SETS:
        ids = [read_table(tmp_path / name / table).keys() for table in ("text", "src_text")]
        assert ids[0] == ids[1]


@pytest.mark.parametrize("write", FORMS)
@pytest.mark.parametrize("size", [1, 1000])
def test_hugging_faces_forms_give_the_same(tmp_path, monkeypatch, write, size):
    monkeypatch.setattr(xsum, "_ARTICLES_PER_PART", size)
    root = tmp_path / "raw"
    root.mkdir()
    for name, rows in ROWS.items():
        write(root, name, rows)
    prepare(tmp_path / "data", root=root)
    made = tables(tmp_path / "data")
    expected = tables(FIXTURES / "expected/xsum")
    del expected["train/rejected.tsv"]
    assert made == expected


def test_a_second_run_and_more_processes_change_nothing(tmp_path, monkeypatch):
    prepare(tmp_path, "--max_rejected", 40)
    before = tables(tmp_path)
    monkeypatch.setattr(xsum, "_ARTICLES_PER_PART", 2)
    prepare(tmp_path, "--max_rejected", 40, "--nj", 3)
    assert tables(tmp_path) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(SETS)


def test_raw_text_has_plain_spaces_alone(tmp_path):
    prepare(tmp_path, "--max_rejected", 40, "--text_form", "raw")
    train = tmp_path / "train"
    assert read_table(train / "src_text")["39000001"] == (
        "The old bridge over the river was shut for a year. It “opened” on Monday, the town said. "
        "Share this with friends was the call."
    )
    assert (train / "text").read_bytes() == (train / "text.raw").read_bytes()


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["--text_form", "bpe"], 2, "--text_form must be one of moses, raw, not 'bpe'"),
        (["--downloads", "/none"], 1, f"/none/{SPLIT}: no such file, nor are there train, valid"),
        ([], 1, "train/rejected.tsv: 2 of 6 utterances rejected (33.3 %, more than --max_rejected"),
    ],
)
def test_a_wrong_option_or_root_is_one_line(tmp_path, argv, code, message):
    with pytest.raises(UserError) as error:
        prepare(tmp_path / "data", *argv)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert error.value.exit_code == code
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} <= {"rejected.tsv"}


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("{", f"{SPLIT}: not a JSON file: "),
        ("[]", f'{SPLIT}: needs "train": a list of the stems of'),
        ('{"train": ["1"], "validation": [1]}', f'{SPLIT}: needs "validation": a list of'),
        ('{"train": ["../x"]}', f'{SPLIT}: needs "train": a list of'),
        ('{"train": [], "validation": [], "test": []}', "train: the corpus has no article for"),
    ],
)
def test_a_wrong_split_is_named(tmp_path, split, message):
    root = raw_copy("xsum", tmp_path)
    (root / SPLIT).write_text(split)
    with pytest.raises(UserError) as error:
        prepare(tmp_path / "data", root=root)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_articles_that_cannot_be_used_are_listed(tmp_path):
    root = raw_copy("xsum", tmp_path)
    files = root / "bbc-summary-data"
    (files / "39000001.summary").write_bytes(b"[SN]URL[SN]\n\xff")
    (files / "39000003.summary").write_text("[SN]FIRST-SENTENCE[SN]\nA.\n")
    split = json.loads((root / SPLIT).read_text())
    split["train"].append("39000002")
    (root / SPLIT).write_text(json.dumps(split))
    prepare(tmp_path / "data", "--max_rejected", 90, root=root)
    train = tmp_path / "data/train"
    assert list(read_table(train / "text")) == ["39000002", "39000004"]
    reasons = {each.utterance: each.reason for each in read_rejected(train / "rejected.tsv")}
    assert reasons == {
        "39000001": f"{files}/39000001.summary:2: not UTF-8 text (byte 1: invalid start byte)",
        "39000002": "the id is there already",
        "39000003": "has no [SN]RESTBODY[SN]",
        "39000005": "the document is empty",
        "39000006": "no such file",
    }


def test_what_is_there_is_no_longer_whole_after_a_failure(tmp_path):
    root = raw_copy("xsum", tmp_path)
    prepare(tmp_path / "data", "--max_rejected", 40, root=root)
    (root / "bbc-summary-data/39000010.summary").unlink()
    with pytest.raises(UserError, match="1 of 2 utterances rejected"):
        prepare(tmp_path / "data", "--max_rejected", 40, root=root)
    assert not list((tmp_path / "data").glob("*/text"))
    assert not list((tmp_path / "data").glob(".*"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"document": "A."', "validation.jsonl:2: not a line of JSON"),
        (b"", "validation.jsonl:2: not a line of JSON"),
        (b"[" * 99_999, "validation.jsonl:2: not a line of JSON: maximum recursion depth"),
        (b'"A"', "validation.jsonl:2: not a row with document, summary, id"),
        (b'{"document": "A.", "id": "1"}', "validation.jsonl:2: field 'summary' is missing"),
        (b'{"document": "A.", "summary": "A", "id": 1.5}', "validation.jsonl:2: field 'id' is"),
        (b'{"document": "A.", "summary": "A", "id": "a b"}', "validation.jsonl:2: an id is one"),
        (b'{"document": "\xff"}', "validation.jsonl:2: not UTF-8 text (byte 15)"),
    ],
)
def test_a_damaged_line_is_named(tmp_path, line, message):
    for name, rows in ROWS.items():
        write_jsonl(tmp_path, name, rows)
    path = tmp_path / "validation.jsonl"
    first = path.read_bytes().splitlines()[0]
    path.write_bytes(first + b"\n" + line + b"\n")
    with pytest.raises(UserError) as error:
        prepare(tmp_path / "data", root=tmp_path)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("write", FORMS[1:])
def test_a_truncated_table_is_named(tmp_path, write):
    for name, rows in ROWS.items():
        write(tmp_path, name, rows)
    (path,) = (
        path
        for path in tmp_path.rglob("*")
        if path.is_file() and "test" in str(path.relative_to(tmp_path))
    )
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError) as error:
        prepare(tmp_path / "data", root=tmp_path)
    assert str(error.value).startswith(f"{path}: cannot be read: ")
    assert "\n" not in str(error.value)


def test_an_integer_id_is_an_id(tmp_path):
    for name, rows in ROWS.items():
        write_jsonl(tmp_path, name, [row | {"id": int(row["id"])} for row in rows])
    prepare(tmp_path / "data", root=tmp_path)
    assert list(read_table(tmp_path / "data/test/text")) == ["39000020", "39000021"]
