import pytest

from mtla_espnet.data.kaldi.tables import write_table
from mtla_espnet.score.bleu import score_translation
from mtla_espnet.score.intent import score_intents
from mtla_espnet.score.registry import SCORES, retire_results, scores_of
from mtla_espnet.score.rouge import score_summaries
from mtla_espnet.score.wer import score_set


@pytest.fixture
def scored(tmp_path):
    """A set with results of every score, and others' files beside them."""
    write_table(tmp_path / "ref", {"a-1": "Light_on Turn it on."})
    write_table(tmp_path / "text", {"a-1": "Light_on Turn on."})
    write_table(tmp_path / "utt2spk", {"a-1": "a"})
    tables = [tmp_path / name for name in ("ref", "text", "utt2spk")]
    score_set(*tables, tmp_path)
    score_translation(*tables, tmp_path)
    score_intents(*tables, tmp_path)
    score_summaries(tables[0], tables[1], tmp_path)
    return tmp_path


def test_results_are_read_by_the_names_of_the_measures_in_per_cent(scored):
    assert [score.name for score in scores_of(scored)] == list(SCORES)
    values = {}
    for score in SCORES.values():
        result = score.read(scored)
        assert result.utterances in (1, None)
        assert result.values.keys() <= {measure.name for measure in score.measures}
        assert all(len(row) == 1 + len(t.columns) for t in result.tables for row in t.rows)
        values |= result.values
    assert values["wer"] == 25.0 and values["words_wer"] == pytest.approx(100 / 3)
    assert values["intent_accuracy"] == values["action_accuracy"] == 100.0
    assert 0 < values["bleu"] < 100 and 0 < values["rouge_l"] < 100


def test_measures_and_files_are_named_once():
    for names in (
        [measure.name for score in SCORES.values() for measure in score.measures],
        [file for score in SCORES.values() for file in score.files],
    ):
        assert len(set(names)) == len(names)


def test_a_set_that_is_decoded_again_has_no_results(scored):
    hypotheses = (scored / "text").read_bytes()
    before = (scored / "score_bleu/result.tc.txt").read_text()
    retire_results(scored)
    assert scores_of(scored) == []
    assert (scored / "score_bleu/result.tc.1.txt").read_text() == before
    assert (scored / "text").read_bytes() == hypotheses
    retire_results(scored)  # nothing is left to do
