import os
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.data.kaldi.tables import read_table, spk2utt_from, write_table
from mtla_espnet.files import UserError

INVISIBLE = {*map(chr, range(32)), *map(chr, range(127, 160)), "\ufeff"}

ids = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(
    lambda text: not any(character.isspace() or character in INVISIBLE for character in text)
)
values = st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), max_size=12).map(
    lambda text: text.strip(" \t")
)


@given(table=st.dictionaries(ids, values))
def test_a_written_table_is_read_back(tmp_path_factory, table):
    path = tmp_path_factory.mktemp("table") / "text"
    write_table(path, table)
    assert read_table(path) == table


@given(keys=st.sets(ids, min_size=1))
def test_the_order_is_that_of_sort_in_the_c_locale(tmp_path_factory, keys):
    path = tmp_path_factory.mktemp("table") / "text"
    write_table(path, dict.fromkeys(keys, "x"))
    written = path.read_bytes().split(b"\n")[:-1]
    assert written == sorted(written, key=lambda line: line.split(b" ")[0])


def test_sort_of_the_shell_agrees(tmp_path):
    path = tmp_path / "text"
    write_table(path, {"b": 1, "B": 2, "ä": 3, "a-1": 4, "a_1": 5, "a1": 6, "😀": 7, "\uffee": 8})
    subprocess.run(["sort", "-c", "-k1,1", path], env={"LC_ALL": "C"}, check=True)


def test_only_blanks_separate_id_and_value(tmp_path):
    path = tmp_path / "text"
    path.write_text("utt1 \t a  b\u00a0\nutt2\nutt3\u00a0x y\n", encoding="utf-8")
    assert read_table(path) == {"utt1": "a  b\u00a0", "utt2": "", "utt3\u00a0x": "y"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a 1\nb 2\na 3\n", ":3: file is not sorted or has duplicates: id 'a' is there twice"),
        (b"a 1\na 3\n", ":2: file is not sorted or has duplicates: id 'a' is there twice"),
        (b"b 1\na 2\n", ":2: file is not sorted or has duplicates: 'a' < 'b'"),
        (b"a 1\n\nb 2\n", ":2: the line does not start with an id"),
        (b"a 1\n b 2\n", ":2: the line does not start with an id"),
        (b"a 1\r\n", ":1: has a carriage return"),
        (b"a 1\nb 2", ":2: no newline at the end"),
        (b"a \xff\n", ":1: not UTF-8 text"),
        (b"a b\n" * 5000 + b"c \xff\n", ":5001: not UTF-8 text"),
        (b"\xef\xbb\xbfa 1\n", ":1: id '\\ufeffa' has the invisible character U+FEFF: remove it"),
        (b"a 1\nb\x00c 2\n", ":2: id 'b\\x00c' has the invisible character U+0000"),
        (b"a\x7f 1\n", ":1: id 'a\\x7f' has the invisible character U+007F"),
    ],
)
def test_a_bad_line_is_named(tmp_path, content, message):
    path = tmp_path / "text"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read_table(path)
    assert str(error.value).startswith(f"{path}{message}")
    assert "\n" not in str(error.value)


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(UserError, match="text: no such file"):
        read_table(tmp_path / "text")


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({"": "x"}, "id '' is empty"),
        ({"a b": "x"}, "id 'a b' has white space"),
        ({"a\u3000b": "x"}, "has white space"),
        ({"a\x00b": "x"}, "has the invisible character U+0000"),
        ({"a": "x\ny"}, "the value of 'a' has a line end"),
    ],
)
def test_what_could_not_be_read_back_is_not_written(tmp_path, table, problem):
    with pytest.raises(UserError) as raised:
        write_table(tmp_path / "text", table)
    assert str(raised.value).startswith(f"{tmp_path}/text: ") and problem in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_a_pipe_is_no_table(tmp_path):
    os.mkfifo(tmp_path / "text")
    with pytest.raises(UserError, match="text: is a pipe, not a file"):
        read_table(tmp_path / "text")


@given(utt2spk=st.dictionaries(ids, ids))
def test_spk2utt_is_the_inverse_of_utt2spk(utt2spk):
    spk2utt = spk2utt_from(utt2spk)
    pairs = {utt: speaker for speaker, utts in spk2utt.items() for utt in utts.split(" ")}
    assert pairs == utt2spk
    assert list(spk2utt) == sorted(spk2utt)
