import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.files import UserError
from mtla_espnet.score.align import Counts
from mtla_espnet.score.result import AlignedSentence, format_result, read_result, total

FIXTURES = Path(__file__).parents[1] / "fixtures" / "sclite"


def fixture_speakers(file="alignments.tsv"):
    """The stored pairs with sclite's own alignments, by speaker."""
    speakers = {}
    for line in (FIXTURES / file).read_text(encoding="utf-8").splitlines()[1:]:
        name, reference, hypothesis, steps, _ = line.split("\t")
        sentence = AlignedSentence(name, reference.split(), hypothesis.split(), steps)
        speakers.setdefault(name.partition("-")[0], []).append(sentence)
    return speakers


def rows_of(text):
    """Words of each row of numbers of the tables."""
    lines = [line.strip() for line in text.splitlines() if re.search(r"^ *\|.*\d.*\|", line)]
    return [line.replace("|", " ").split() for line in lines]


@pytest.mark.parametrize("ending", ["", "_case"])
def test_the_tables_hold_the_numbers_of_sclite(ending):
    ours = rows_of(format_result("hyp.trn", fixture_speakers(f"alignments{ending}.tsv")))
    theirs = rows_of((FIXTURES / f"result{ending}.txt").read_text())
    assert len(theirs) == 2 * (7 + 1 + 3)
    assert ours == theirs


def test_the_sum_row_can_be_found_as_espnet_recipes_find_it():
    text = format_result("hyp.trn", fixture_speakers())
    (row,) = [line for line in text.splitlines() if line.startswith("| Sum/Avg |")]
    assert " ".join(row.split()) == "| Sum/Avg | 600 4531 | 56.6 14.5 29.0 10.8 54.2 85.5 |"


def test_sums_are_read_from_our_table_and_from_that_of_sclite(tmp_path):
    speakers = fixture_speakers()
    path = tmp_path / "result.txt"
    path.write_text(format_result("hyp.trn", speakers))
    everything = total([sentence for group in speakers.values() for sentence in group])
    assert read_result(path) == everything
    assert read_result(FIXTURES / "result.txt") == everything
    assert everything.counts == Counts(2564, 655, 1312, 490)
    assert everything.wrong_sentences == 513
    assert everything.error_rate == 2457 / 4531


def test_an_alignment_shows_gaps_and_capitals():
    sentence = AlignedSentence("s-1", ["the", "cat", "sat"], ["a", "the", "hat"], "ICSD")
    text = format_result("hyp.trn", {"s": [sentence]})
    expected = """\
id: (s-1)
Scores: (#C #S #D #I) 1 1 1 1
REF:  * the CAT SAT
HYP:  A the HAT ***
Eval: I     S   D
"""
    assert expected in text
    kept = format_result("hyp.trn", {"s": [sentence]}, mark_by_case=False)
    assert "REF:  * the cat sat\nHYP:  a the hat ***\nEval: I     S   D\n" in kept


def test_a_speaker_without_reference_words_gets_counts(tmp_path):
    silent = AlignedSentence("a-1", [], ["um"], "I")
    spoken = AlignedSentence("b-1", ["yes"], ["yes"], "C")
    text = format_result("hyp.trn", {"a": [silent], "b": [spoken]})
    assert re.search(r"\| a +\| +1 +0 \| +0\* +0\* +0\* +1\* +1\* +1\* \|", text)
    assert "No reference tokens" in text
    assert re.search(r"\| Mean +\| +1\.0 +0\.5 \| +100\.0 +0\.0", text)
    alone = format_result("hyp.trn", {"a": [silent]})
    (tmp_path / "result.txt").write_text(alone)
    found = read_result(tmp_path / "result.txt")
    assert found.counts == Counts(insertions=1)
    assert found.percentages is None and found.error_rate is None


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "bb", "speaker-with-a-long-name"]),
            st.text("CSDI", min_size=0, max_size=30),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_what_is_written_is_read_back(tmp_path_factory, sentences):
    speakers = {}
    for number, (speaker, steps) in enumerate(sentences):
        reference = ["w"] * (len(steps) - steps.count("I"))
        hypothesis = ["v"] * (len(steps) - steps.count("D"))
        sentence = AlignedSentence(f"{speaker}-{number}", reference, hypothesis, steps)
        speakers.setdefault(speaker, []).append(sentence)
    path = tmp_path_factory.mktemp("result") / "result.txt"
    path.write_text(format_result("hyp.trn", speakers))
    found = read_result(path)
    assert found == total([sentence for group in speakers.values() for sentence in group])
    if found.percentages is not None:
        *_, sentence_errors = found.percentages
        assert 0 <= sentence_errors <= 100
        assert sum(found.percentages[:3]) == pytest.approx(100)


@pytest.mark.parametrize("content", ["", "| Sum/Avg | 1 2 | 3 |\n", "\x00\xff"])
def test_another_file_is_refused_by_name(tmp_path, content):
    path = tmp_path / "result.txt"
    path.write_text(content)
    with pytest.raises(UserError, match="result.txt: no row"):
        read_result(path)
    with pytest.raises(UserError, match="absent.txt: no such file"):
        read_result(tmp_path / "absent.txt")
