import json

import jiwer
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.data.kaldi.tables import write_table
from mtla_espnet.files import UserError
from mtla_espnet.score.intent import Share, count_intents, read_intents, score_intents

REFERENCES = {
    "amy-1": "alarm_set wake me at six",
    "amy-2": "alarm_query when is my alarm",
    "bob-1": "iot_hue_lightoff lights off",
    "bob-2": "play_music some jazz please",
}
HYPOTHESES = {
    "amy-1": "alarm_set wake me at five",
    "amy-2": "alarm_set when is my alarm",
    "bob-1": "",
    "bob-2": "play_music some jazz",
}
SPEAKERS = {"amy-1": "amy", "amy-2": "amy", "bob-1": "bob", "bob-2": "bob"}
INTENTS = {"alarm_set", "alarm_query", "iot_hue_lightoff", "play_music"}


@pytest.fixture
def tables(tmp_path):
    for name, table in (("text", REFERENCES), ("hyp", HYPOTHESES), ("utt2spk", SPEAKERS)):
        write_table(tmp_path / name, table)
    return tmp_path


def score(tables, **options):
    return score_intents(
        tables / "text", tables / "hyp", tables / "utt2spk", tables / "out", **options
    )


def test_counts_by_hand(tables):
    scores, rest = score(tables, known_intents=INTENTS)
    assert scores.intent == Share(2, 4)
    assert scores.scenario == Share(3, 4)
    assert scores.action == Share(2, 4)
    assert scores.by_scenario == {
        "alarm": Share(1, 2),
        "iot": Share(0, 1),
        "play": Share(1, 1),
    }
    assert scores.by_action == {
        "hue_lightoff": Share(0, 1),
        "music": Share(1, 1),
        "query": Share(0, 1),
        "set": Share(1, 1),
    }
    assert read_intents(tables / "out/score_intent/result.json") == scores
    references = [text.split(" ", 1)[1] for text in REFERENCES.values()]
    hypotheses = [text.partition(" ")[2] for text in HYPOTHESES.values()]
    assert rest.error_rate == jiwer.wer(references, hypotheses)


def test_the_rest_lies_where_espnets_recipes_put_it(tables):
    score(tables)
    directory = tables / "out/score_wer"
    assert (directory / "hyp_asr.trn").read_text().splitlines()[0] == (
        "wake me at five\t(amy-amy-1)"
    )
    assert (directory / "ref_asr.trn").read_text().splitlines()[2] == "lights off\t(bob-bob-1)"
    assert "Sum/Avg" in (directory / "result_asr.txt").read_text()


@given(st.lists(st.tuples(*[st.sampled_from(["a_x", "a_y", "b_x", ""])] * 2), min_size=1))
def test_groups_add_up(pairs):
    expected = [each or "c_z" for each, _ in pairs]
    scores = count_intents(expected, [found for _, found in pairs])
    right = sum(each == found for each, (_, found) in zip(expected, pairs, strict=True))
    assert scores.intent == Share(right, len(pairs))
    for groups in (scores.by_scenario, scores.by_action):
        assert sum(share.correct for share in groups.values()) == right
        assert sum(share.utterances for share in groups.values()) == len(pairs)
    assert scores.scenario.correct >= right
    assert scores.action.correct >= right


def test_the_case_of_an_intent_counts():
    assert count_intents(["a_b"], ["A_b"]).intent.correct == 0


@pytest.mark.parametrize(
    ("references", "message"),
    [
        (REFERENCES | {"bob-3": "play_music x"}, "hyp: no line for 1 of 5 ids: bob-3"),
        ({"amy-1": "alarm_set x"}, "text: no line for 3 of 4 ids: amy-2"),
        (REFERENCES | {"bob-1": ""}, "text: 'bob-1' has no intent: its text is empty"),
        (
            REFERENCES | {"bob-1": "PLAY_MUSIC x"},
            "text: the intent of 'bob-1' is in the wrong case: 'PLAY_MUSIC', "
            "but training has 'play_music'",
        ),
        (REFERENCES | {"bob-1": "lights off"}, "text: 'bob-1' begins with 'lights', which is no"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_written(tables, references, message):
    write_table(tables / "text", references)
    with pytest.raises(UserError, match=message):
        score(tables, known_intents=INTENTS)
    assert not (tables / "out").exists()


def test_a_broken_result_is_named(tmp_path):
    path = tmp_path / "result.json"
    for value in ([], {}, {"intent": 1, "scenario": 1, "action": 1}):
        path.write_text(json.dumps(value))
        with pytest.raises(UserError, match="result.json: not a result of intents"):
            read_intents(path)
