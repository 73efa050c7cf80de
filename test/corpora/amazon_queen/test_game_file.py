import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtla_espnet.corpora.amazon_queen.game_file import GameFile
from mtla_espnet.files import UserError
from queen_game import cutaway, dialogue, game

FILES = {
    "BOB2.DOG": dialogue(
        7,
        {0: "Hi.*03I'm Joe.*02", 6: "*FLWhat is this?*04*02"},
        {1: "*01*01Hello!", 6: "A shop.*XY12345678901You see?*06*00Buy it!"},
        ("*01Back?", "Yes.*02"),
    ),
    "C100A.CUT": cutaway("", "*FL", "*FROver here!*01", "Who is\r\n there?"),
    "QUEEN2.JAS": b'Nice*02\r\nA sign:*14"Open" *14',
}
SAID = {
    "070000J1": "Hi.",
    "070000J2": "I'm Joe.",
    "07SSSSJ1": "Hi.",
    "07SSSSJ2": "I'm Joe.",
    "070006J2": "What is this?",
    "070001P3": "Hello!",
    "07SSSSP3": "Hello!",
    "070006P1": "A shop.",
    "070006P2": "You see?",
    "070006P4": "Buy it!",
    "07XXXXP2": "Back?",
    "07XXXXJ1": "Yes.",
    "C100A022": "Over here!",
    "C100A031": "Who is there?",
    "JOE00411": "Nice",
    "JOE00421": "A sign:",
    "JOE00422": '"Open"',
}


def read(tmp_path, files, **header):
    (tmp_path / "queen.1c").write_bytes(game(files, **header))
    return GameFile(tmp_path / "queen.1c")


def test_texts_are_those_of_their_files(tmp_path):
    speech = {f"{name}.SB": name.encode() for name in [*SAID, "C100A011", "070006J1", "UNTITLED"]}
    found = read(tmp_path, FILES | speech)
    segments, without = found.segments()
    assert {each.name: each.text for each in segments} == SAID
    assert [each.name for each in segments] == sorted(SAID)
    assert without == ["070006J1", "C100A011", "UNTITLED"]
    who = {each.name: (each.speaker, each.scene) for each in segments}
    assert who["070006P1"] == ("BOB", "BOB") and who["07XXXXJ1"] == ("JOE", "BOB")
    assert who["C100A031"] == ("", "C100") and who["JOE00411"] == ("JOE", "")
    assert found.read("070006P1.SB") == b"070006P1"
    with pytest.raises(UserError, match=r"queen\.1c: has no gone\.SB"):
        found.read("gone.SB")


@settings(deadline=None, max_examples=30)
@given(
    st.dictionaries(
        st.integers(6, 200), st.text("ab ", max_size=60).map(str.strip), min_size=1, max_size=6
    )
)
def test_texts_of_any_length_are_found(tmp_path_factory, said):
    tmp_path = tmp_path_factory.mktemp("game")
    files = {"A.DOG": dialogue(1, said, said), "QUEEN2.JAS": b""}
    speech = {f"01{number:04X}{who}1.SB": b"" for number in said for who in "JP"}
    segments, _ = read(tmp_path, files | speech).segments()
    expected = {
        f"01{number:04X}{who}1": " ".join(text.split())
        for number, text in said.items()
        for who in "JP"
        if text
    }
    assert {each.name: each.text for each in segments} == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "does not begin with the table"),
        (b"QTBL", "does not begin with the table"),
        (
            game(FILES, version=b"PEM10\0"),
            "is version 'PEM10', packed by method 1, not the English",
        ),
        (game(FILES, method=2), "is version 'CEM10', packed by method 2, not the English"),
        (game(FILES)[:40], "ends in its table of 3 entries"),
        (game(FILES)[:-1], "is cut off: entry 2 goes to byte"),
        (game({"A.DOG": FILES["BOB2.DOG"][:-9], "QUEEN2.JAS": b""}), "A.DOG: ends in a text"),
        (game({"A.CUT": FILES["C100A.CUT"][:-9], "QUEEN2.JAS": b""}), "A.CUT: ends in a text"),
        (game({"A.CUT": b"", "QUEEN2.JAS": b""}), "A.CUT: ends in a text"),
        (game({}), "has no QUEEN2.JAS"),
    ],
)
def test_a_bad_file_is_told(tmp_path, content, message):
    path = tmp_path / "queen.1c"
    path.write_bytes(content)
    with pytest.raises(UserError) as raised:
        GameFile(path).segments()
    assert str(raised.value).startswith(f"{path}: ") and message in str(raised.value)
