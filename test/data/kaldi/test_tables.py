import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.data.kaldi.tables import read_table, spk2utt_from, write_table
from mtla_espnet.files import UserError

ids = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(
    lambda text: not any(character.isspace() for character in text)
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
        (b"a \xff\n", ": not UTF-8 text"),
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


@pytest.mark.parametrize("table", [{"": "x"}, {"a b": "x"}, {"a\u3000b": "x"}, {"a": "x\ny"}])
def test_what_could_not_be_read_back_is_not_written(tmp_path, table):
    with pytest.raises(ValueError):
        write_table(tmp_path / "text", table)
    assert list(tmp_path.iterdir()) == []


@given(utt2spk=st.dictionaries(ids, ids))
def test_spk2utt_is_the_inverse_of_utt2spk(utt2spk):
    spk2utt = spk2utt_from(utt2spk)
    pairs = {utt: speaker for speaker, utts in spk2utt.items() for utt in utts.split(" ")}
    assert pairs == utt2spk
    assert list(spk2utt) == sorted(spk2utt)
