import re

import pytest

from mtla_espnet.corpora.smarthome.grammar import Command, expand, read_sentences
from mtla_espnet.files import UserError

ROOMS = {"hall": {"in": "im Flur", "the": "den Flur"}, "kitchen": {"in": "in der Küche"}}


def test_a_template_is_filled_with_all_values():
    grammar = {
        "slots": {"room": ROOMS, "color": {"red": "rot", "blue": "blau"}},
        "intents": {
            "paint": [["make the {room} {color}", "Mach es {room[in]} {color}"]],
            "stop": [["stop", "Halt"]],
        },
    }
    sentences = expand(grammar)
    assert sentences[1:3] == [
        Command(
            "make the hall blue", "paint", {"room": "hall", "color": "blue"}, "Mach es im Flur blau"
        ),
        Command(
            "make the kitchen red",
            "paint",
            {"room": "kitchen", "color": "red"},
            "Mach es in der Küche rot",
        ),
    ]
    assert len(sentences) == 5
    assert sentences[-1] == Command("stop", "stop", {}, "Halt")


def test_a_slot_in_one_language_only_is_refused():
    grammar = {"slots": {"room": ROOMS}, "intents": {"on": [["light in the {room}", "Licht"]]}}
    with pytest.raises(UserError, match="^grammar.yaml: on: .* differ in slots"):
        expand(grammar)


def test_a_sentence_of_two_intents_is_refused():
    grammar = {"slots": {}, "intents": {"on": [["light", "Licht an"]], "off": [["light", "aus"]]}}
    with pytest.raises(UserError, match="'light' is said by both on and off"):
        expand(grammar)


def test_the_table_is_as_large_as_promised():
    sentences = read_sentences()
    assert len({sentence.intent for sentence in sentences}) >= 12
    words = {word for sentence in sentences for word in sentence.text.split(" ")}
    assert 120 <= len(words) <= 150
    assert len(sentences) > 1700


def test_every_sentence_is_spoken_words_and_written_german():
    for sentence in read_sentences():
        assert re.fullmatch(r"[a-z]+( [a-z]+)*", sentence.text)
        assert re.fullmatch(r"[A-ZÄÖÜ][a-zäöüß]+( [A-Za-zÄÖÜäöüß]+)*", sentence.german)
        assert all(value in sentence.text for value in sentence.slots.values())
