import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics import CHRF

from mtla_espnet.data.kaldi.tables import write_table
from mtla_espnet.files import UserError
from mtla_espnet.score import bleu
from mtla_espnet.score.bleu import score_translation
from mtla_espnet.score.intent import score_intents
from mtla_espnet.score.items import check_same_items, error_items, mean_items, read_scores
from mtla_espnet.score.registry import SCORES
from mtla_espnet.score.rouge import score_summaries
from mtla_espnet.score.wer import score_set

REFERENCES = {
    "a-1": "light_on Turn the kitchen light on, please.",
    "a-2": "light_off Turn the light of the hall off.",
    "b,-1": "heat_up Make the room a bit warmer today.",
}
HYPOTHESES = {
    "a-1": "light_on Turn the kitchen light off, please.",
    "a-2": "light_on the light of the hall off.",
    "b,-1": "heat_up Make the room a bit colder than today.",
}


def score_all(directory, hypotheses=HYPOTHESES, references=REFERENCES, **translation):
    directory.mkdir(exist_ok=True)
    write_table(directory / "ref", references)
    write_table(directory / "text", hypotheses)
    write_table(directory / "utt2spk", {key: key[0] for key in references})
    tables = [directory / name for name in ("ref", "text", "utt2spk")]
    score_set(*tables, directory)
    score_translation(*tables, directory, **translation)
    score_intents(*tables, directory)
    score_summaries(*tables[:2], directory)
    return directory


def all_items(directory):
    return {
        name: items for score in SCORES.values() for name, items in score.items(directory).items()
    }


@pytest.mark.parametrize("options", [{}, {"tokenizer": "char"}, {"case": "lc"}], ids=str)
def test_sums_of_items_are_the_measures_of_the_set(tmp_path, options):
    lower = {key: text.lower() for key, text in REFERENCES.items()}
    references = lower if options.get("case") == "lc" else REFERENCES
    directory = score_all(tmp_path / "set", references=references, **options)
    values = {}
    for score in SCORES.values():
        values |= score.read(directory).values
    items = all_items(directory)
    first_of_each = {next(iter(SCORES[name].measures)).name for name in SCORES}
    translation = {"bleu_lc"} if "case" in options else {"bleu", "chrf2"}
    assert items.keys() >= first_of_each - {"bleu"} | translation
    for name, each in items.items():
        assert len(each.ids) == len(REFERENCES)
        assert each.of_all == pytest.approx(values[name], abs=0.006), name  # files are rounded


def test_items_of_a_part_are_the_measures_of_the_part(tmp_path):
    items = all_items(score_all(tmp_path / "all"))
    keys = list(REFERENCES)[1:]
    part = all_items(
        score_all(
            tmp_path / "part",
            {key: HYPOTHESES[key] for key in keys},
            {key: REFERENCES[key] for key in keys},
        )
    )
    for name, each in items.items():
        order = [each.ids.index(key) for key in part[name].ids]
        sums = each.statistics[order].sum(axis=0)
        assert float(each.value(sums)) == pytest.approx(part[name].of_all), name


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=9))
def test_values_are_computed_for_many_samples_at_once(counts):
    items = error_items({str(number): pair for number, pair in enumerate(counts)})
    samples = np.random.default_rng(0).integers(0, len(counts), (4, len(counts)))
    values = items.value(items.statistics[samples].sum(axis=-2))
    for sample, value in zip(samples, values, strict=True):
        errors, tokens = (sum(counts[i][place] for i in sample) for place in (0, 1))
        assert np.isnan(value) if tokens == 0 else value == pytest.approx(100 * errors / tokens)


@given(st.lists(st.lists(st.integers(0, 5), min_size=18, max_size=18), min_size=1, max_size=4))
def test_chrf2_of_sums_is_sacrebleus(sums):
    values = bleu._chrf2(np.array(sums, float))
    assert values.tolist() == pytest.approx([CHRF()._compute_f_score(row) for row in sums])


def test_sets_with_other_items_are_refused(tmp_path):
    one, other = mean_items({"a": 1.0}), mean_items({"b": 1.0})
    check_same_items([(tmp_path / "x", one), (tmp_path / "y", one)])
    with pytest.raises(UserError, match=r"y: scored 1 items, which are not the 1 of .*x: decode"):
        check_same_items([(tmp_path / "x", one), (tmp_path / "y", other)])


def test_scores_of_an_older_run_are_asked_for_again(tmp_path):
    with pytest.raises(UserError, match=r"scores\.csv: no such file; score the set again"):
        read_scores(tmp_path / "scores.csv", ["correct"])
    (tmp_path / "scores.csv").write_text("id,other\na,1\n")
    with pytest.raises(UserError, match=r"no numbers 'correct' by id"):
        read_scores(tmp_path / "scores.csv", ["correct"])
