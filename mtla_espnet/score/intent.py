"""Intents of a decoded set: accuracy by id, by scenario and by action, and the words after them."""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from mtla_espnet.files import UserError, read_json, write_json
from mtla_espnet.score.pairs import read_pairs, read_speakers
from mtla_espnet.score.result import Totals
from mtla_espnet.score.wer import score_units

DIRECTORY = "score_intent"
FILE = "result.json"

# What a hypothesis without any word has for an intent: equal to no intent.
_NONE = ""


@dataclasses.dataclass(frozen=True)
class Share:
    """How many of some utterances are right.

    Args:
        correct: of them.
        utterances: how many there are, at least 1.
    """

    correct: int
    utterances: int

    @property
    def accuracy(self) -> float:
        """Right ones for each utterance."""
        return self.correct / self.utterances


@dataclasses.dataclass(frozen=True)
class IntentScores:
    """Result of a set.

    Args:
        intent: of all utterances.
        scenario: of all utterances, where the first part of the intent counts.
        action: likewise the second part.
        by_scenario: scenario of the reference -> utterances whose whole intent is right.
        by_action: likewise.
    """

    intent: Share
    scenario: Share
    action: Share
    by_scenario: dict[str, Share]
    by_action: dict[str, Share]


def score_intents(
    reference_text: Path,
    hypothesis_text: Path,
    utt2spk: Path,
    output_dir: Path,
    known_intents: Collection[str] | None = None,
    scorer: str = "ours",
    score_opts: Sequence[str] = (),
) -> tuple[IntentScores, Totals]:
    """Score `<scenario>_<action> word ...` against references of the same form, by id.

    The first word is the intent and must be equal in every letter. Writes
    `score_intent/result.json`, and the rest of each sentence to `score_wer/{ref,hyp}_asr.trn` (as
    ESPnet's recipes do) with its word error rate in `score_wer/result_asr.txt`.

    Args:
        reference_text: table of id -> sentence.
        hypothesis_text: table of id -> sentence, with the same ids.
        utt2spk: table of id -> speaker, with at least these ids.
        output_dir: the decoded set's directory.
        known_intents: what training has seen; None: any word is an intent.
        scorer: see `mtla_espnet.score.wer.score_set`.
        score_opts: likewise.

    Returns:
        The accuracies, and the errors in the words after the intent.

    Raises:
        UserError: a file is missing or malformed, an id is on one side only or has no speaker,
            or a reference begins with no known intent.
    """
    references, hypotheses = read_pairs(reference_text, hypothesis_text)
    speakers = read_speakers(utt2spk, references)
    expected, words = _split(references)
    found, found_words = _split(hypotheses)
    _check_intents(reference_text, expected, known_intents)
    scores = count_intents(list(expected.values()), list(found.values()))
    write_json(output_dir / DIRECTORY / FILE, dataclasses.asdict(scores))
    rest = score_units(
        words,
        found_words,
        speakers,
        output_dir / "score_wer",
        scorer=scorer,
        suffix="_asr",
        score_opts=score_opts,
    )
    return scores, rest


def count_intents(expected: Sequence[str], found: Sequence[str]) -> IntentScores:
    """Count right intents.

    Args:
        expected: `<scenario>_<action>` of each utterance; at least one.
        found: of the same utterances; "" for none.

    Example:
        >>> scores = count_intents(["alarm_set", "alarm_query"], ["alarm_set", "alarm_set"])
        >>> scores.intent.accuracy, scores.scenario.accuracy, scores.by_action["query"].correct
        (0.5, 1.0, 0)
    """
    pairs = list(zip(expected, found, strict=True))

    def share(pairs: Sequence[tuple[str, str]], part: Callable[[str], str] = str) -> Share:
        return Share(sum(part(a) == part(b) for a, b in pairs), len(pairs))

    def grouped(part: Callable[[str], str]) -> dict[str, Share]:
        names = sorted({part(intent) for intent in expected})
        return {name: share([pair for pair in pairs if part(pair[0]) == name]) for name in names}

    return IntentScores(
        intent=share(pairs),
        scenario=share(pairs, scenario),
        action=share(pairs, action),
        by_scenario=grouped(scenario),
        by_action=grouped(action),
    )


def scenario(intent: str) -> str:
    """Return what stands before the first underscore.

    Example:
        >>> scenario("iot_hue_lightoff"), action("iot_hue_lightoff")
        ('iot', 'hue_lightoff')
    """
    return intent.partition("_")[0]


def action(intent: str) -> str:
    """Return what stands after the first underscore; the whole intent where there is none."""
    before, underscore, after = intent.partition("_")
    return after if underscore else before


def read_intents(path: Path) -> IntentScores:
    """Read a `result.json` of intents.

    Raises:
        UserError: the file is missing, or is none.
    """
    value = read_json(path)
    try:
        totals = {name: Share(**value[name]) for name in ("intent", "scenario", "action")}
        groups = {
            name: {key: Share(**share) for key, share in value[name].items()}
            for name in ("by_scenario", "by_action")
        }
    except (KeyError, TypeError, AttributeError):
        raise UserError(f"{path}: not a result of intents; score it again") from None
    return IntentScores(**totals, **groups)


def _split(texts: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Split sentences into first words and the rest."""
    first, rest = {}, {}
    for key, text in texts.items():
        words = text.split()
        first[key] = words[0] if words else _NONE
        rest[key] = " ".join(words[1:])
    return first, rest


def _check_intents(
    path: Path, expected: Mapping[str, str], known_intents: Collection[str] | None
) -> None:
    for key, intent in expected.items():
        if intent == _NONE:
            raise UserError(f"{path}: {key!r} has no intent: its text is empty")
        if known_intents is None or intent in known_intents:
            continue
        same = sorted(name for name in known_intents if name.lower() == intent.lower())
        if same:
            raise UserError(
                f"{path}: the intent of {key!r} is in the wrong case: {intent!r}, "
                f"but training has {same[0]!r}"
            )
        raise UserError(
            f"{path}: {key!r} begins with {intent!r}, which is no intent of the training text"
        )
