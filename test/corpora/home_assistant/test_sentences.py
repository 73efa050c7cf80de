import json
import re

import pytest

from mtla_espnet.corpora.home_assistant.sentences import read_sentences
from mtla_espnet.files import UserError
from raw_corpora import write_templates


@pytest.fixture
def templates(tmp_path):
    write_templates(tmp_path)
    return tmp_path


def read(templates, language="en", most=40, seed=0):
    return read_sentences(templates / f"{language}.json", language, most, seed)


@pytest.mark.parametrize("language", ["en", "de"])
def test_sentences_are_of_the_templates(templates, language):
    sentences = read(templates, language)
    assert {each.intent for each in sentences} == {
        "HassTurnOn",
        "HassTurnOff",
        "HassSet",
        "HassColor",
    }
    texts = [each.text for each in sentences]
    assert len(set(texts)) == len(texts)
    for each in sentences:
        assert re.sub(r"</?[a-z]+> ?", "", each.marked).strip() == each.text
        assert each.text == each.text.lower() and not re.search(r"[^\w' ]|\d", each.text)
        names = re.findall(r"<([a-z]+)>", each.marked)
        assert names == re.findall(r"</([a-z]+)>", each.marked)
        expected = {
            "HassSet": {"area", "brightness"},
            "HassColor": {"area", "color"},
            "HassTurnOff": {"name", "area"},
            "HassTurnOn": {"name", "area"},
        }
        assert set(names) <= expected[each.intent]


def test_each_part_of_a_template_is_drawn(templates):
    marked = {each.intent: [] for each in read(templates)}
    for each in read(templates, most=200):
        marked[each.intent].append(each.marked)
    on, off, level, color = (
        "\n".join(marked[name]) for name in ("HassTurnOn", "HassTurnOff", "HassSet", "HassColor")
    )
    # rules, optional words, permutations, names of the template's domain
    assert "start all my" in on and "turn on all <" in on
    assert re.search(r"</name> <area>", on) and re.search(r"</area> <name>", on)
    assert "turn on the <name> desk lamp </name>" in on and "the <name> television" not in on
    # an optional slot
    assert "<area>" in off and re.search(r"</name>$", off, re.MULTILINE)
    # a rule of the block; numbers in words, the sign as a word
    assert re.search(r"to <brightness> thirty five </brightness>( percent)?$", level, re.MULTILINE)
    assert "percent" in level
    # what is written without a space belongs to the slot; a template within a list
    assert "<area> kitchens </area>" in color and "<color> dark blue </color>" in color


def test_an_intent_has_a_limit_and_the_seed_chooses(templates):
    assert (
        max(len([s for s in read(templates, most=5) if s.intent == i]) for i in ("HassSet",)) == 5
    )
    assert read(templates) == read(templates)
    assert read(templates, most=5) != read(templates, most=5, seed=1)


def test_what_two_intents_say_alike_is_left_out(templates):
    content = json.loads((templates / "en.json").read_text())
    content["intents"]["HassOther"] = {"data": [{"sentences": ["(start|stop) all my desk lamp"]}]}
    content["intents"]["HassSame"] = {"data": [{"sentences": ["stop all my desk lamp"]}]}
    (templates / "en.json").write_text(json.dumps(content))
    found = {each.text: each.intent for each in read(templates, most=200)}
    assert "stop all my desk lamp" not in found


@pytest.mark.parametrize("content", ["{}", '{"language": "en", "intents": [1]}', "[]"])
def test_another_file_is_told(templates, content):
    (templates / "en.json").write_text(content)
    with pytest.raises(UserError, match=r"en\.json: is not a file of Home Assistant's intents"):
        read(templates)
