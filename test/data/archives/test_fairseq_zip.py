import csv
import io
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mtla_espnet.data.archives.fairseq_zip import (
    FeatureZip,
    ZipPlace,
    features_from_bytes,
    merge_zips,
    read_manifest,
    write_manifest,
)
from mtla_espnet.data.features.reader import read_features
from mtla_espnet.files import UserError

IDS = st.text(
    st.characters(codec="utf-8", exclude_characters="/\\\0:", exclude_categories=["Cs", "Cc"]),
    min_size=1,
    max_size=12,
)
FEATURES = arrays.arrays(
    np.float32,
    arrays.array_shapes(min_dims=2, max_dims=2, max_side=6),
    elements=st.floats(-100, 100, width=32),
)


def as_fairseq(path, offset, size):
    """What Fairseq does with `<path>:<offset>:<size>`: seek, read, `np.load`."""
    with open(path, "rb") as stream:
        stream.seek(offset)
        return np.load(io.BytesIO(stream.read(size)))


@given(st.dictionaries(IDS, FEATURES, min_size=1, max_size=5))
def test_any_id_and_array_is_read_where_it_is_said_to_be(tmp_path_factory, written):
    path = tmp_path_factory.mktemp("zip") / "feats.zip"
    with FeatureZip(path) as archive:
        places = {key: archive.add(key, features) for key, features in written.items()}
    for key, features in written.items():
        np.testing.assert_array_equal(as_fairseq(path, *places[key]), features)
        np.testing.assert_array_equal(read_features(f"{ZipPlace(path, *places[key])}"), features)
    with zipfile.ZipFile(path) as archive:
        content = path.read_bytes()
        for info in archive.infolist():
            name_bytes, extra_bytes = struct.unpack_from("<HH", content, info.header_offset + 26)
            offset = info.header_offset + 30 + name_bytes + extra_bytes
            assert places[info.filename.removesuffix(".npy")] == (offset, info.file_size)
        assert archive.testzip() is None
        assert archive.namelist() == [f"{key}.npy" for key in written]


def test_shards_are_joined_to_the_file_that_one_process_writes(tmp_path):
    rng = np.random.default_rng(0)
    written = {f"ü-{i}": rng.normal(size=(3 + i, 4)).astype(np.float32) for i in range(7)}
    with FeatureZip(tmp_path / "whole.zip") as archive:
        for key, features in written.items():
            archive.add(key, features)
    shards = []
    for number, keys in enumerate((list(written)[:3], list(written)[3:])):
        shards.append(tmp_path / f"{number}.zip")
        with FeatureZip(shards[-1]) as archive:
            for key in keys:
                archive.add(key, written[key])
    places = merge_zips(shards, tmp_path / "joined.zip")
    assert (tmp_path / "joined.zip").read_bytes() == (tmp_path / "whole.zip").read_bytes()
    for key, place in places.items():
        np.testing.assert_array_equal(read_features(str(place)), written[key])


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"RIFF....WAVE", "is not an array in numpy's format"),
        (npy(np.ones((2, 3), np.float32))[:-4], "has 148 bytes, its array 152"),
        (npy(np.ones((2, 3), np.float32)) + b"x", "has 153 bytes, its array 152"),
        (npy(np.ones((2, 3), np.int16)), "holds int16, not float32"),
        (npy(np.ones(3, np.float32)), r"has the shape \(3,\), not \(frames, features\)"),
        (npy(np.ones((0, 3), np.float32)), r"has the shape \(0, 3\)"),
        (npy(np.array([[None]])), "holds object, not float32"),
        (b"\x93NUMPY\x09\x00", r"is not an array in numpy's format: .*\(9, 0\)"),
    ],
)
def test_what_is_no_array_of_features_is_refused(content, message):
    with pytest.raises(UserError, match=f"a.zip:5:9: {message}"):
        features_from_bytes(bytearray(content), "a.zip:5:9")


ROW = {"id": "ünï-1", "audio": "a.zip:1:2", "n_frames": 7, "tgt_text": 'say "hi"', "speaker": "ü"}


def test_a_manifest_is_what_fairseq_reads(tmp_path):
    path = tmp_path / "train.tsv"
    write_manifest(path, [ROW, {**ROW, "id": "b"}])
    with open(path, encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t", quotechar=None, quoting=csv.QUOTE_NONE))
    assert rows[0] == {key: str(value) for key, value in ROW.items()}
    assert [row.fields for row in read_manifest(path)] == rows
    assert [row.line for row in read_manifest(path)] == [2, 3]
    with pytest.raises(UserError, match=r"\.tsv: .* of 'b' has a tab or a line end"):
        write_manifest(path, [{**ROW, "id": "b", "speaker": "a\tb"}])
    write_manifest(path, [{**ROW, "tgt_text": "a\tb"}])
    assert read_manifest(path)[0].fields["tgt_text"] == "a b"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id\taudio\ttgt_text\n", r"t.tsv:1: lacks the columns n_frames \(there are id, audio"),
        ("id\taudio\tn_frames\ttgt_text\n", "t.tsv: has no line but the head"),
        ("id\taudio\tn_frames\ttgt_text\na\tb\t3\n", "t.tsv:2: has 3 fields, the head 4"),
        ("id\taudio\tn_frames\ttgt_text\na\tb\tx\tc\n", "t.tsv:2: n_frames 'x' is not a whole"),
        ("id\taudio\tn_frames\ttgt_text\n\tb\t3\tc\n", "t.tsv:2: no id"),
        (
            "id\taudio\tn_frames\ttgt_text\na\tb\t3\tc\na\tb\t3\tc\n",
            "t.tsv:3: id 'a' is in line 2 too",
        ),
    ],
)
def test_bad_manifests_are_refused(tmp_path, text, message):
    (tmp_path / "t.tsv").write_text(text)
    with pytest.raises(UserError, match=message):
        read_manifest(tmp_path / "t.tsv")


def test_other_layouts_of_floats_are_read():
    array = np.arange(6.0).reshape(2, 3)
    for stored in (np.asfortranarray(array), array.astype(">f4"), array.astype(np.float16)):
        found = features_from_bytes(bytearray(npy(stored)), "a.npy")
        assert found.dtype == np.float32 and found.flags.writeable
        np.testing.assert_array_equal(found, array)


def test_a_manifest_that_a_spreadsheet_saved_is_read(tmp_path):
    path = tmp_path / "train.tsv"
    path.write_bytes("\ufeffid\taudio\tn_frames\ttgt_text\r\nu\ta.wav\t9\thé\r\n".encode("utf-8"))
    (row,) = read_manifest(path)
    assert row.fields == {"id": "u", "audio": "a.wav", "n_frames": "9", "tgt_text": "hé"}
