"""Intents of a decoded set: accuracy by id, by scenario and by action, and the words after them."""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from mtla_espnet.data.kaldi.tables import read_table
from mtla_espnet.files import UserError
from mtla_espnet.json_files import read_json, write_json
from mtla_espnet.score.items import Items, mean_items, read_scores, write_scores
from mtla_espnet.score.pairs import read_pairs, read_speakers
from mtla_espnet.score.rates import aligner, percent, rate_table, score_options
from mtla_espnet.score.record import Measure, Result, Score, ScoredSet, Table, read_each
from mtla_espnet.score.result import Totals, read_result
from mtla_espnet.score.wer import score_units

DIRECTORY = "score_intent"
FILE = "result.json"
SCORES_FILE = "scores.csv"
_ACCURACY = "intent_accuracy"
_FILES = {"intents": f"{DIRECTORY}/{FILE}"}
_WORDS = {"words": "score_wer/result_asr.txt"}

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
        action: of all utterances, where the rest of the intent counts.
        by_scenario: scenario of the reference -> utterances whose whole intent is right.
        by_action: action of the reference -> utterances whose whole intent is right.
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
    `score_intent/result.json` and `score_intent/scores.csv` (a line an utterance), and the rest of
    each sentence to `score_wer/{ref,hyp}_asr.trn` (as ESPnet's recipes do) with its word error
    rate in `score_wer/result_asr.txt`.

    Args:
        reference_text: table of id -> sentence.
        hypothesis_text: table of id -> sentence, with the same ids.
        utt2spk: table of id -> speaker, with at least these ids.
        output_dir: the decoded set's directory.
        known_intents: what training has seen; None: any word is an intent.
        scorer: who aligns the words: "ours", or "sclite".
        score_opts: options for sclite; ours knows `-s` alone.

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
    correct = {key: 100.0 * (found[key] == intent) for key, intent in expected.items()}
    write_scores(output_dir / DIRECTORY / SCORES_FILE, {_ACCURACY: correct})
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


def _write(scored: ScoredSet) -> None:
    texts = [text for path in scored.training_texts for text in read_table(path).values()]
    known = {text.split()[0] for text in texts if text}
    score_intents(
        scored.reference,
        scored.hypotheses,
        scored.utt2spk,
        scored.directory,
        known_intents=known if scored.options.unknown_intents == "error" else None,
        **aligner(scored),
    )


def _outputs(scored: ScoredSet) -> list[str]:
    return [*_FILES.values(), *_WORDS.values(), "score_wer/alignment_asr.txt"]


def _read(directory: Path) -> Result:
    tables, values, utterances = [], {}, None
    for words in read_each(directory, _WORDS, read_result).values():
        tables.append(rate_table("WER of the words after the intent", words))
        values["words_wer"], utterances = percent(words.error_rate), words.sentences
    for scores in read_each(directory, _FILES, read_intents).values():
        utterances = scores.intent.utterances
        whole = {"intent": scores.intent, "scenario": scores.scenario, "action": scores.action}
        values |= {f"{part}_accuracy": percent(share.accuracy) for part, share in whole.items()}
        tables += _tables(scores)
    return Result(utterances, values, tables)


def _tables(scores: IntentScores) -> list[Table]:
    def cells(share: Share) -> list[str]:
        return [str(share.utterances), f"{100 * share.accuracy:.2f}"]

    parts = [
        ["", part, group, *cells(share)]
        for part, whole, groups in (
            ("scenario", scores.scenario, scores.by_scenario),
            ("action", scores.action, scores.by_action),
        )
        for group, share in {"all": whole, **groups}.items()
    ]
    return [
        Table("### Intent", ("Snt", "Intent Classification (%)"), [["", *cells(scores.intent)]]),
        Table(
            "Of all utterances, those whose scenario or action is right; of a scenario's or an "
            "action's, those whose whole intent is.",
            ("part", "name", "Snt", "correct (%)"),
            parts,
        ),
    ]


def _items(directory: Path) -> dict[str, Items]:
    scores = read_scores(directory / DIRECTORY / SCORES_FILE, [_ACCURACY])
    return {_ACCURACY: mean_items(scores[_ACCURACY])}


SCORE = Score(
    name="intents",
    measures=(
        Measure(_ACCURACY, "intent acc %"),
        Measure("scenario_accuracy"),
        Measure("action_accuracy"),
        Measure("words_wer", "WER words %", lower_is_better=True),
    ),
    note="`intent acc` is the share of utterances whose intent is right, `WER words` the error "
    "rate of the words after it.",
    files=(*_FILES.values(), *_WORDS.values()),
    read=_read,
    write=_write,
    outputs=_outputs,
    inputs=lambda scored: [scored.reference, scored.utt2spk, *scored.training_texts],
    options=("unknown_intents", "scorer", "score_opts"),
    check=score_options,
    items=_items,
)
