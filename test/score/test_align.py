import tracemalloc
from pathlib import Path

import jiwer
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.score.align import (
    DELETION,
    INSERTION,
    SUBSTITUTION,
    Counts,
    align,
    count,
    fold_case,
)

FIXTURES = Path(__file__).parents[1] / "fixtures" / "sclite"

tokens = st.lists(st.sampled_from("abcd"), max_size=12)


def sclite_cases(name="alignments.tsv"):
    _, *lines = (FIXTURES / name).read_text(encoding="utf-8").splitlines()
    for line in lines:
        name, reference, hypothesis, steps, counts = line.split("\t")
        yield name, reference.split(), hypothesis.split(), steps, counts


def cost(steps):
    counts = count(steps)
    return (
        SUBSTITUTION * counts.substitutions
        + DELETION * counts.deletions
        + INSERTION * counts.insertions
    )


def cheapest(reference, hypothesis):
    """Least cost by the textbook recursion."""
    previous = [INSERTION * j for j in range(len(hypothesis) + 1)]
    for i, token in enumerate(reference, 1):
        row = [DELETION * i]
        for j, other in enumerate(hypothesis, 1):
            pair = previous[j - 1] + SUBSTITUTION * (token != other)
            row.append(min(pair, previous[j] + DELETION, row[-1] + INSERTION))
        previous = row
    return previous[-1]


@pytest.mark.parametrize(("file", "fold"), [("alignments", fold_case), ("alignments_case", str)])
def test_every_stored_alignment_of_sclite_is_ours_step_by_step(file, fold):
    cases = list(sclite_cases(f"{file}.tsv"))
    assert len(cases) == 600
    for name, reference, hypothesis, steps, counts in cases:
        found = align([fold(token) for token in reference], [fold(token) for token in hypothesis])
        assert found == steps, name
        assert [found.count(letter) for letter in "CSDI"] == [int(c) for c in counts.split()], name


def test_the_stored_pairs_are_varied():
    cases = list(sclite_cases())
    differ = zip(sclite_cases(), sclite_cases("alignments_case.tsv"), strict=True)
    variety = {
        "empty reference": sum(not case[1] for case in cases),
        "empty hypothesis": sum(not case[2] for case in cases),
        "insertions": sum("I" in case[3] for case in cases),
        "beyond ASCII": sum(not "".join(case[1] + case[2]).isascii() for case in cases),
        "case matters": sum(one[3] != other[3] for one, other in differ),
        "long": sum(len(case[3]) > 30 for case in cases),
    }
    assert min(variety.values()) >= 8, variety


@given(tokens, tokens)
def test_steps_spell_both_sides_at_least_cost(reference, hypothesis):
    steps = align(reference, hypothesis)
    left, right = iter(reference), iter(hypothesis)
    for step in steps:
        if step in "CS":
            assert (next(left) == next(right)) == (step == "C")
        else:
            next(left if step == "D" else right)
    assert [*left, *right] == []
    assert cost(steps) == cheapest(reference, hypothesis)


@given(st.lists(st.sampled_from("ab"), max_size=40), st.lists(st.sampled_from("ab"), max_size=40))
def test_blocks_of_a_large_table_change_nothing(reference, hypothesis):
    whole = align(reference, hypothesis)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mtla_espnet.score.align._LARGE", 0)
        assert align(reference, hypothesis) == whole


def test_a_line_of_many_characters_needs_little_memory():
    reference, hypothesis = list("abcd" * 800), list("x" + "abcd" * 799 + "abc")
    tracemalloc.start()
    steps = align(reference, hypothesis)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert steps == "I" + "C" * 3199 + "D"
    assert peak_bytes < 10e6  # the table takes 41 MB


@given(tokens, tokens)
def test_swapped_sides_swap_insertions_and_deletions_at_equal_cost(reference, hypothesis):
    one, other = align(reference, hypothesis), align(hypothesis, reference)
    assert cost(one) == cost(other)
    difference = len(reference) - len(hypothesis)
    assert one.count("D") - one.count("I") == difference
    assert other.count("I") - other.count("D") == difference


@given(tokens)
def test_a_sentence_equals_itself(reference):
    assert align(reference, reference) == "C" * len(reference)


@given(tokens.filter(len), tokens)
def test_counts_are_never_better_than_those_of_unit_weights(reference, hypothesis):
    ours = count(align(reference, hypothesis))
    theirs = jiwer.process_words(" ".join(reference), " ".join(hypothesis) or "")
    fewest = theirs.substitutions + theirs.deletions + theirs.insertions
    assert ours.errors >= fewest
    # As many correct words as theirs: sclite pays a little more to keep a word correct.
    assert ours.correct >= theirs.hits
    assert 3 * ours.errors <= cost(align(reference, hypothesis)) <= 4 * fewest


def test_the_rate_of_the_fixture_is_near_that_of_unit_weights():
    cases = [case for case in sclite_cases() if case[1]]
    ours = sum((count(steps) for *_, steps, _ in cases), Counts())
    references = [" ".join(reference) for _, reference, *_ in cases]
    hypotheses = [" ".join(hypothesis) for _, _, hypothesis, *_ in cases]
    theirs = jiwer.process_words(
        [fold_case(text) for text in references], [fold_case(text) for text in hypotheses]
    )
    assert 0 <= ours.errors / ours.reference - theirs.wer < 0.01


def test_only_ascii_letters_are_folded():
    assert fold_case("Über Ä it'S") == "Über Ä it's"
