"""Draws sentences from Home Assistant's templates, which hassil parses.

A template, of `intents.HassLightSet.data[].sentences` in `en.json`:

    <numeric_value_set> [<the>] {area} brightness [to] {brightness}[([ ]%)| percent]

`[a|b]` may be left out, `<rule>` is in `expansion_rules`, `(a;b)` comes in any order, `{list}` is a
slot: `{list:slot}` where its name differs. Drawn, with the slot marked:

    set the <area> kitchen </area> brightness to <brightness> thirty five </brightness> percent
"""

import importlib.resources
import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from mtla_espnet.data.text.text_case import to_case
from mtla_espnet.files import UserError
from mtla_espnet.json_files import read_json
from mtla_espnet.yaml_files import parse_yaml

_TABLE = "words.yaml"
# A slot in a drawn text, with what is written without a space before and after it.
_SLOT = re.compile("(\\w*)\x01([^\x02]+)\x02([^\x03]*)\x03(\\w*)")
_NUMBERS = {*range(1, 21), *range(25, 101, 5), *range(1000, 10001, 1000)}
_BREAKS = str.maketrans({"-": " ", "/": " ", "’": "'", "\u00ad": ""})


class SpokenCommand(NamedTuple):
    """A sentence of a language.

    Args:
        intent: its name, such as `HassTurnOn`.
        text: lower-case words.
        marked: the same with the slots marked, as in `turn on the <area> kitchen </area> light`.
    """

    intent: str
    text: str
    marked: str


def read_sentences(path: Path, language: str, most: int, seed: int) -> list[SpokenCommand]:
    """Draw the sentences of a language.

    Args:
        path: its file, as `en.json`.
        language: `en` or `de`.
        most: sentences that an intent may have.
        seed: of the draws.

    Returns:
        Different texts, by intent; what two intents say alike is left out.

    Raises:
        UserError: hassil is not installed, or the file is not one of Home Assistant's intents.
    """
    try:
        from hassil.intents import Intents  # here: other corpora do without it
    except ImportError:
        raise UserError("no parser of the templates: pip install 'hassil>=3.13,<4'") from None
    content = read_json(path)
    try:
        intents = Intents.from_dict(content)
        blocks = {name: intent.data for name, intent in intents.intents.items()}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"{path}: is not a file of Home Assistant's intents: {error!r}") from None
    words = parse_yaml(
        importlib.resources.files(__package__).joinpath(_TABLE).read_text(encoding="utf-8"), _TABLE
    )[language]
    found: dict[str, SpokenCommand] = {}
    twice: set[str] = set()
    for intent, data in blocks.items():
        draws = random.Random(f"{seed} {language} {intent}")
        own: dict[str, SpokenCommand] = {}
        templates = [(block, each) for block in data for each in block.sentences]
        for _ in range(10 * most):  # templates take turns, by chance
            block, template = draws.choice(templates)
            drawn = _Drawing(intents, block, words, language, draws).draw(template.expression)
            sentence = _sentence(intent, drawn, words["symbols"])
            if sentence.text:
                own.setdefault(sentence.text, sentence)
            if len(own) == most:
                break
        twice |= own.keys() & found.keys()
        found |= own
    return [sentence for text, sentence in found.items() if text not in twice]


def _sentence(intent: str, drawn: str, symbols: Mapping[str, str]) -> SpokenCommand:
    r"""Return a sentence of a drawn text.

    Example:
        >>> drawn = "Set \x01level\x02thirty-five\x03% in the \x01area\x02Hall\x03s"
        >>> _sentence("Set", drawn, {"%": "percent"}).marked
        'set <level> thirty five </level> percent in the <area> halls </area>'
    """
    text, marked = [], []
    end = 0

    def say(part: str) -> list[str]:
        for symbol, word in symbols.items():
            pattern = rf"(?<![^\W\d]){re.escape(symbol)}(?!\w)"
            part = re.sub(pattern, f" {word} ", part, flags=re.IGNORECASE)
        return to_case(part.translate(_BREAKS), "lc.rm").split()

    for match in _SLOT.finditer(drawn):
        between, value = say(drawn[end : match.start()]), say("".join(match.group(1, 3, 4)))
        text += between + value
        marked += [*between, f"<{match[2]}>", *value, f"</{match[2]}>"]
        end = match.end()
    rest = say(drawn[end:])
    return SpokenCommand(intent, " ".join(text + rest), " ".join(marked + rest))


class _Drawing:
    """Draws a text of a template.

    Args:
        intents: of hassil, with lists and rules.
        block: of the intent that the template is in.
        words: of the language, of `words.yaml`.
        language: in which numbers are said.
        draws: chance.
    """

    def __init__(self, intents, block, words: Mapping, language: str, draws: random.Random):
        self._lists = intents.slot_lists
        self._rules = {**intents.expansion_rules, **block.expansion_rules}
        self._words, self._language, self._draws = words, language, draws
        domains = block.requires_context.get("domain", [])
        if isinstance(domains, dict):
            domains = domains.get("value", [])
        domains = [domains] if isinstance(domains, str) else domains
        known = [domain for domain in domains if domain in words["names"]]
        self._names = words["names"][draws.choice(known) if known else "any"]

    def draw(self, expression) -> str:
        """Return a text in which slots stand between marks."""
        from hassil import expression as kinds

        if isinstance(expression, kinds.TextChunk):
            return expression.text
        if isinstance(expression, kinds.Alternative):
            return self.draw(self._draws.choice(expression.items)) if expression.items else ""
        if isinstance(expression, kinds.Permutation):
            parts = [self.draw(item) for item in expression.items]
            self._draws.shuffle(parts)
            return " ".join(parts)
        if isinstance(expression, kinds.Group):
            return "".join(map(self.draw, expression.items))
        if isinstance(expression, kinds.RuleReference):
            return self.draw(self._rules[expression.rule_name].expression)
        if isinstance(expression, kinds.ListReference):
            value = self._value(expression.list_name)
            return f"\x01{expression.slot_name}\x02{value}\x03"
        raise UserError(f"hassil has a part of templates that is not known: {expression!r}")

    def _value(self, name: str) -> str:
        if name == "name":
            return self._draws.choice(self._names)
        if name in self._words["lists"]:
            return self._draws.choice(self._words["lists"][name])
        values = self._lists[name]
        if hasattr(values, "values"):
            return self.draw(self._draws.choice(values.values).text_in)
        numbers = [number for number in values.get_numbers() if number in _NUMBERS]
        return _say_number(self._draws.choice(numbers), self._language)


def _say_number(number: int, language: str) -> str:
    from hassil.numbers import get_rbnf_engine

    said = get_rbnf_engine(language).format_number(number).text_by_ruleset
    return said.get("spellout-cardinal", next(iter(said.values())))
