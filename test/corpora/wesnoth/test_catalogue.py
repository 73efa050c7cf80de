import pytest

from mtla_espnet.corpora.wesnoth.catalogue import read_pairs
from mtla_espnet.files import UserError
from wesnoth_games import catalogue


def pairs(tmp_path, messages):
    path = tmp_path / "wesnoth-x.mo"
    path.write_bytes(catalogue(messages))
    return read_pairs(path)


def test_messages_become_pairs_of_sentences(tmp_path):
    messages = {
        "he^What <i>was</i> that? It went “away”.": "Was war das? Es ist „weggegangen“.",
        "See <ref>dst='orc' text='the orcs'</ref>.<img>src=a.png</img>": "Siehe die Orks.",
        "Two of them. And more.\nA new line.": "Zwei — und mehr.\nEine neue Zeile.",
    }
    assert sorted(pairs(tmp_path, messages)) == [
        ("A new line.", "Eine neue Zeile."),
        ("It went away.", "Es ist weggegangen."),
        ("See the orcs.", "Siehe die Orks."),
        ("Two of them. And more.", "Zwei - und mehr."),
        ("What was that?", "Was war das?"),
    ]


@pytest.mark.parametrize(
    ("english", "german"),
    [
        ("Wait", "Warte"),  # one word
        ("You have $gold gold.", "Ihr habt $gold Gold."),  # filled in
        ("Kalenz the elf", "Kalenz the elf"),  # not translated
        ("Yes, of course.", "Ja, aber selbstverständlich, wie könnt Ihr das nur fragen."),
        ("Élan vital, they say.", "Élan vital, sagt man."),  # no voice knows the letter
        ("word " * 33, "Wort " * 33),
    ],
)
def test_what_nobody_could_say_is_left_out(tmp_path, english, german):
    assert pairs(tmp_path, {english: german}) == []


def test_another_file_is_refused(tmp_path):
    path = tmp_path / "wesnoth-x.mo"
    for content in (b"text", catalogue({"a b": "c d"})[:40], b""):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"wesnoth-x.mo: is not a catalogue of gettext"):
            read_pairs(path)
    with pytest.raises(UserError, match=r"gone.mo"):
        read_pairs(tmp_path / "gone.mo")
