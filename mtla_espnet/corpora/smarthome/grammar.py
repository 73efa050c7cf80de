"""Every sentence of the smarthome corpus, from the table `grammar.yaml`."""

import importlib.resources
import itertools
import re
from dataclasses import dataclass

from mtla_espnet.files import UserError
from mtla_espnet.yaml_files import parse_yaml

_TABLE = "grammar.yaml"
_SLOT = re.compile(r"\{(\w+)")


@dataclass(frozen=True)
class Command:
    """One command: what is said, what it means, and how it reads in German."""

    text: str  # lower-case words
    intent: str
    slots: dict[str, str]  # slot -> English value
    german: str  # true case, no punctuation


def read_sentences() -> list[Command]:
    """Return all sentences of the grammar, in the order of its table.

    Raises:
        UserError: a template has a slot in one language only, or two templates
            give the same English sentence.
    """
    table = importlib.resources.files(__package__).joinpath(_TABLE).read_text(encoding="utf-8")
    return expand(parse_yaml(table, _TABLE))


def expand(grammar: dict) -> list[Command]:
    """Fill every template of `grammar` with every combination of its slots' values.

    Args:
        grammar: {slots: {slot: {English: German or {form: German}}},
            intents: {intent: [[English template, German template], ...]}}.

    Returns:
        The sentences, in the order of the table.

    Raises:
        UserError: as for `read_sentences`.

    Example:
        >>> grammar = {"slots": {"room": {"hall": {"in": "im Flur"}}},
        ...            "intents": {"on": [["light in the {room}", "Licht {room[in]}"]]}}
        >>> expand(grammar)[0].german
        'Licht im Flur'
    """
    sentences: dict[str, Command] = {}
    for intent, templates in grammar["intents"].items():
        for english, german in templates:
            slots = _SLOT.findall(english)
            if sorted(slots) != sorted(_SLOT.findall(german)):
                raise UserError(f"{_TABLE}: {intent}: {english!r} and {german!r} differ in slots")
            for values in itertools.product(*(grammar["slots"][slot] for slot in slots)):
                chosen = dict(zip(slots, values, strict=True))
                translated = {slot: grammar["slots"][slot][chosen[slot]] for slot in slots}
                text = english.format(**chosen)
                if text in sentences:
                    raise UserError(
                        f"{_TABLE}: {text!r} is said by both {sentences[text].intent} and {intent}"
                    )
                sentences[text] = Command(text, intent, chosen, german.format(**translated))
    return list(sentences.values())
