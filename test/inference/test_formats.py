"""Files of what was recognised, read back by other readers or by their formats' rules."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.inference.formats import FORMATS
from mtla_espnet.inference.from_files import Piece
from mtla_espnet.inference.times import Timed

WORDS = (Timed("turn", 0.1, 0.3, 0.9), Timed('"on"', 0.35, 0.5, 0.5), Timed("A&B", 2.0, 2.4, 1.0))
PIECES = [
    Piece(Path("my call.wav"), 0.0, 3.0, 'turn "on" A&B', whole=False, times=WORDS),
    Piece(Path("my call.wav"), 3.0, 3661.5, "", whole=False),
]


def write(name, pieces=PIECES):
    return FORMATS[name].write(pieces)


def test_text_tells_pieces_and_words():
    assert write("text").splitlines() == [
        'my call.wav 0.00-3.00: turn "on" A&B',
        "  0.10-0.30 0.90 turn",
        '  0.35-0.50 0.50 "on"',
        "  2.00-2.40 1.00 A&B",
        "my call.wav 3.00-3661.50: ",
    ]


def test_json():
    first, second = map(json.loads, write("json").splitlines())
    assert first["times"][1] == {
        "text": '"on"', "start_s": 0.35, "end_s": 0.5, "confidence": 0.5
    }  # fmt: skip
    assert second == {"file": "my call.wav", "start_s": 3.0, "end_s": 3661.5, "text": ""}


def test_srt():
    assert write("srt") == (
        '1\n00:00:00,100 --> 00:00:00,500\nturn "on"\n\n2\n00:00:02,000 --> 00:00:02,400\nA&B\n\n'
    )
    whole = [Piece(Path("a.wav"), 3599.9996, 3661.5, "long " * 12, whole=True)]
    assert write("srt", whole).splitlines() == [
        "1",
        "01:00:00,000 --> 01:01:01,500",
        "long long long long long long long long",
        "long long long long",
        "",
    ]


def test_webvtt():
    assert write("vtt") == (
        'WEBVTT\n\n00:00:00.100 --> 00:00:00.500\nturn "on"\n\n'
        "00:00:02.000 --> 00:00:02.400\nA&amp;B\n\n"
    )


def test_ctm_has_six_fields_without_blanks():
    assert [line.split() for line in write("ctm").splitlines()] == [
        ["my_call", "1", "0.100", "0.200", "turn", "0.9000"],
        ["my_call", "1", "0.350", "0.150", '"on"', "0.5000"],
        ["my_call", "1", "2.000", "0.400", "A&B", "1.0000"],
    ]


def intervals(text, tier):
    part = text.partition(f'name = "{tier}"')[2].partition("item [")[0]
    found = re.findall(r'xmin = (\S+)\n\s+xmax = (\S+)\n\s+text = "(.*)"', part)
    assert int(re.search(r"intervals: size = (\d+)", part)[1]) == len(found)
    return [(float(start), float(end), label) for start, end, label in found]


def test_the_intervals_of_a_textgrid_fill_it():
    text = write("textgrid")
    assert text.startswith('File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\n')
    for tier, first in (("pieces", (0.0, 3.0, 'turn ""on"" A&B')), ("words", (0.0, 0.1, ""))):
        found = intervals(text, tier)
        assert found[0] == first
        assert (found[0][0], found[-1][1]) == (0.0, 3661.5)
        assert all(one[1] == next_[0] for one, next_ in zip(found, found[1:], strict=False))
    assert '""on""' in [label for _, _, label in intervals(text, "words")]
    assert "words" not in write("textgrid", PIECES[1:])


@given(
    st.lists(
        st.tuples(
            st.floats(0.0, 3.0), st.floats(0.05, 2.0), st.text("abc", min_size=1, max_size=9)
        ),
        min_size=1,
        max_size=40,
    )
)
def test_subtitles_hold_every_word_once_in_readable_cues(drawn):
    words, now = [], 0.0
    for pause, length, text in drawn:
        words.append(Timed(text, now + pause, now + pause + length, 1.0))
        now = words[-1].end_s
    piece = Piece(Path("a.wav"), 0.0, now, "", whole=True, times=tuple(words))
    cues = re.findall(r"\d+\n(\S+) --> (\S+)\n((?:.+\n)+)", write("srt", [piece]))
    assert " ".join(lines for *_, lines in cues).split() == [word.text for word in words]
    times = [clock for start, end, _ in cues for clock in (start, end)]
    assert times == sorted(times)
    for *_, lines in cues:
        assert len(lines.splitlines()) <= 2
        assert all(len(line) <= 42 for line in lines.splitlines())


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_recording_in_which_nothing_is_said(name):
    written = write(name, [Piece(Path("a.wav"), 0.0, 1.0, "", whole=True)])
    assert written.count("-->") == 0
    assert "None" not in written
