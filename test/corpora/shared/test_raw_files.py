import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.corpora.shared.raw_files import (
    durations,
    parse_record,
    parse_seconds,
    read_lines,
    require,
)
from mtla_espnet.files import UserError

lines = st.lists(st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"])))


@given(lines, st.sampled_from(["\n", "\r\n"]))
def test_only_line_feeds_end_lines(tmp_path_factory, expected, end):
    path = tmp_path_factory.mktemp("lines") / "a.txt"
    path.write_bytes("".join(f"{line}{end}" for line in expected).encode())
    assert list(read_lines(path, "X")) == expected


def test_separators_of_unicode_stay_in_their_line(tmp_path):
    text = "a\u2028b\u0085c\x0cd"
    (tmp_path / "a").write_bytes(f"{text}\nno end".encode())
    assert list(read_lines(tmp_path / "a", "X")) == [text, "no end"]


def test_a_mark_of_byte_order_is_no_text(tmp_path):
    (tmp_path / "a").write_bytes("\ufeffa\n\ufeffb\n".encode())
    assert list(read_lines(tmp_path / "a", "X")) == ["a", "\ufeffb"]


@pytest.mark.parametrize("value", ["inf", 1e308, "nan", -0.5, "x", None, True, 10**400, [1], "1e8"])
def test_a_time_that_is_none_is_named(value):
    with pytest.raises(UserError, match="^a:3: start must be a number of seconds, not "):
        parse_seconds(value, "a:3", "start")


@pytest.mark.parametrize("value", [0, "0", 1.25, "1.25", 1e7])
def test_a_time_is_a_number_or_its_text(value):
    assert parse_seconds(value, "a:3", "start") == float(value)


def test_bytes_that_are_no_text_are_named(tmp_path):
    (tmp_path / "a").write_bytes(b"good\nb\xc3")
    with pytest.raises(UserError, match=r"a:2: not UTF-8 text \(byte 2: unexpected end"):
        list(read_lines(tmp_path / "a", "X"))


def test_what_is_missing_is_named_with_its_variable(tmp_path):
    with pytest.raises(UserError, match="none: no such file or directory: does AMI name the right"):
        require(tmp_path / "none", "AMI")
    assert require(tmp_path, "AMI") == tmp_path


@pytest.mark.parametrize("nj", [1, 2])
def test_durations_of_good_and_bad_files(tmp_path, nj):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 4000)
    for name in ("a.wav", "b.flac", "cut.wav"):
        soundfile.write(tmp_path / name, noise, 16000)
    whole = (tmp_path / "cut.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[:5000])
    soundfile.write(tmp_path / "empty.wav", noise[:0], 16000)
    (tmp_path / "text.wav").write_text("no audio")
    names = ("a.wav", "b.flac", "cut.wav", "empty.wav", "text.wav", "none.wav")
    found = durations([tmp_path / name for name in names], nj, None)
    assert found[str(tmp_path / "a.wav")] == found[str(tmp_path / "b.flac")] == 0.25
    reasons = {name: found[str(tmp_path / name)] for name in names[2:]}
    assert all(reason.startswith(f"{tmp_path / name}: ") for name, reason in reasons.items())
    assert "truncated" in reasons["cut.wav"] and "no samples" in reasons["empty.wav"]
    assert "cannot be read as audio" in reasons["text.wav"] and "no such" in reasons["none.wav"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"a": 1', "x:3: not a line of JSON: Expecting ',' delimiter: line 1 column 8 (char 7)"),
        ("[1]", "x:3: not a JSON object"),
        ('{"b": "c"}', "x:3: field 'a' is missing or of a wrong type"),
        ('{"a": "1"}', "x:3: field 'a' is missing or of a wrong type"),
    ],
)
def test_a_record_that_is_not_as_it_should_be_is_named(line, message):
    with pytest.raises(UserError) as error:
        parse_record(line, "x:3", {"a": int})
    assert str(error.value) == message
    assert parse_record('{"a": 1, "b": 2}', "x:3", {"a": int}) == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[" * 100_000, "maximum recursion depth exceeded"),
        ('{"a": ' * 100_000, "maximum recursion depth exceeded"),
        ('{"a": ' + "9" * 9999 + "}", "Exceeds the limit"),
    ],
)
def test_a_record_that_python_cannot_read_is_one_line(line, message):
    with pytest.raises(UserError, match=f"^x:3: not a line of JSON: {message}"):
        parse_record(line, "x:3", {"a": int})
