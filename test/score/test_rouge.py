import csv
import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.tokenizers import DefaultTokenizer

from mtla_espnet.data.kaldi.tables import write_table
from mtla_espnet.files import UserError
from mtla_espnet.score.rouge import (
    Rouge,
    UnicodeWords,
    lead_sentence,
    read_summaries,
    rouge_of_each,
    score_summaries,
)
from reference.rouge import rouge

REFERENCES = {"np-1": "Return the sum of the array.", "np-2": "Sort a list, don't copy it."}
HYPOTHESES = {"np-1": "return the array", "np-2": "Sorts lists; dont copy"}
DOCUMENTS = {
    "np-1": "The array to sum. The result is returned.",
    "np-2": "Sorting is stable (e.g. equal keys stay). It needs no memory.",
}


@pytest.fixture
def tables(tmp_path):
    for name, table in (("text", REFERENCES), ("hyp", HYPOTHESES), ("src_text", DOCUMENTS)):
        write_table(tmp_path / name, table)
    return tmp_path


def score(tables, **options):
    return score_summaries(tables / "text", tables / "hyp", tables / "out", **options)


# words that stemming leaves alone
WORDS = st.lists(st.sampled_from(["a", "b", "cat", "dog", "x1"]), max_size=9)


@given(WORDS, WORDS)
def test_f1_is_that_of_a_plain_loop(reference, hypothesis):
    found = rouge_of_each({"u": " ".join(reference)}, {"u": " ".join(hypothesis)})["u"]
    assert dataclasses.astuple(found) == pytest.approx(rouge(reference, hypothesis), abs=1e-9)


@given(st.text(st.characters(max_codepoint=127), max_size=30))
def test_of_ascii_texts_all_ways_find_the_same_words_but_for_stems(text):
    plain = DefaultTokenizer(use_stemmer=False)
    assert UnicodeWords().tokenize(text) == plain.tokenize(text)


def test_case_punctuation_and_stems(tables):
    result = score(tables, document_text=tables / "src_text")
    # stems: "return the sum of the array" / "return the array"
    first = rouge("return the sum of the array".split(), "return the array".split())
    second = rouge("sort a list don t copi it".split(), "sort list dont copi".split())
    expected = [(a + b) / 2 for a, b in zip(first, second, strict=True)]
    assert dataclasses.astuple(result.model) == pytest.approx(expected, abs=1e-4)
    assert (result.documents, result.normalisation) == (2, "rouge")


def test_a_detokenizer_is_applied_to_all_texts(tables):
    write_table(tables / "text", {key: f"{text} @@" for key, text in REFERENCES.items()})
    write_table(tables / "hyp", {key: f"{text} @@" for key, text in HYPOTHESES.items()})
    plain = {"normalisation": "paper", "document_text": tables / "src_text"}
    result = score(tables, detokenizer=lambda text: text.replace(" @@", " end"), **plain)
    lines = (tables / "out/score_rouge/hyp.trn").read_text().splitlines()
    assert lines[0] == "return the array end\t(np-1)"
    write_table(tables / "text", {key: f"{text} end" for key, text in REFERENCES.items()})
    write_table(tables / "hyp", {key: f"{text} end" for key, text in HYPOTHESES.items()})
    assert score(tables, **plain) == result


def test_the_papers_normalisation_joins_what_punctuation_parts(tables):
    result = score(tables, normalisation="paper")
    first = rouge("return the sum of the array".split(), "return the array".split())
    second = rouge("sort a list dont copi it".split(), "sort list dont copi".split())
    expected = [(a + b) / 2 for a, b in zip(first, second, strict=True)]
    assert dataclasses.astuple(result.model) == pytest.approx(expected, abs=1e-4)
    assert result.lead is None


def test_the_lead_is_scored_beside_the_model(tables):
    result = score(tables, document_text=tables / "src_text")
    first = rouge("return the sum of the array".split(), "the array to sum".split())
    second = rouge("sort a list don t copi it".split(), "sort is stabl e g equal key stay".split())
    expected = [(a + b) / 2 for a, b in zip(first, second, strict=True)]
    assert dataclasses.astuple(result.lead) == pytest.approx(expected, abs=1e-4)


def test_the_lead_is_that_of_what_follows_the_heading(tables):
    plain = score(tables, document_text=tables / "src_text")
    headed = {key: f"function f. Of [x] {text} [x] End." for key, text in DOCUMENTS.items()}
    write_table(tables / "src_text", headed)
    assert score(tables, document_text=tables / "src_text", heading_mark="[x]") == plain
    assert score(tables, document_text=tables / "src_text") != plain


def test_files(tables):
    result = score(tables, document_text=tables / "src_text")
    directory = tables / "out/score_rouge"
    line = (directory / "result.sum").read_text()
    numbers = " ".join(f"{value:.2f}" for value in dataclasses.astuple(result.model))
    assert line == f"RESULT {numbers} - -\n"
    assert read_summaries(directory / "result.json") == result
    assert (directory / "hyp.trn").read_text().splitlines()[0] == "return the array\t(np-1)"
    rows = list(csv.DictReader((directory / "scores.csv").open()))
    assert [row["id"] for row in rows] == ["np-1", "np-2"]
    mean = sum(float(row["model_rouge_l"]) for row in rows) / 2
    assert mean == pytest.approx(result.model.rouge_l, abs=1e-3)
    assert float(rows[0]["lead_rouge_1"]) > 0


@pytest.mark.parametrize(
    ("document", "lead"),
    [
        ("One. Two.", "One."),
        ("No end", "No end"),
        ("See i.e. this. Next", "See i.e. this."),
        ('He said "no." Then left.', 'He said "no.'),
        ("Version 1.2 is out! `x` too", "Version 1.2 is out!"),
    ],
)
def test_lead_sentence(document, lead):
    assert lead_sentence(document) == lead


@pytest.mark.parametrize(
    ("name", "table", "options", "message"),
    [
        ("hyp", {"np-1": "x"}, {}, "hyp: no line for 1 of 2 ids: np-2"),
        ("hyp", HYPOTHESES | {"np-3": "x"}, {}, "text: no line for 1 of 3 ids: np-3"),
        ("src_text", {"np-1": "x"}, {}, "src_text: no document of 1 of 2 ids: np-2"),
        ("src_text", DOCUMENTS | {"np-2": ""}, {}, "src_text: the document of 'np-2' is empty"),
        (
            "src_text",
            DOCUMENTS,
            {"heading_mark": "[x]"},
            "src_text: no heading of 'np-1': no \\[x\\]",
        ),
        (
            "src_text",
            {key: "f [x]" for key in DOCUMENTS},
            {"heading_mark": "[x]"},
            "src_text: the document of 'np-1' is empty",
        ),
        ("hyp", HYPOTHESES, {"normalisation": "none"}, "is rouge or paper, not 'none'"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_written(tables, name, table, options, message):
    write_table(tables / name, table)
    with pytest.raises(UserError, match=message):
        score(tables, document_text=tables / "src_text", **options)
    assert not (tables / "out").exists()


def test_a_broken_result_is_named(tmp_path):
    path = tmp_path / "result.json"
    for value in ([], {}, {"model": {}, "lead": None}):
        path.write_text(json.dumps(value))
        with pytest.raises(UserError, match="result.json: not a result of summaries"):
            read_summaries(path)


def test_an_empty_hypothesis_scores_nothing():
    assert rouge_of_each({"u": "a b"}, {"u": ""})["u"] == Rouge(0.0, 0.0, 0.0)
