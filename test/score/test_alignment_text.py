import jiwer
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.score.align import align
from mtla_espnet.score.alignment_text import format_alignments

words = st.lists(st.sampled_from(["a", "be", "see"]), max_size=8)


def drawn(pairs):
    """Ids, and rows of reference, hypothesis and marks, of what is drawn."""
    references = {f"utt-{i}": reference for i, (reference, _) in enumerate(pairs)}
    hypotheses = {f"utt-{i}": hypothesis for i, (_, hypothesis) in enumerate(pairs)}
    steps = {key: align(references[key], hypotheses[key]) for key in references}
    text = format_alignments(references, hypotheses, steps)
    blocks = text.split("=== ")[1:]
    return references, steps, [block.partition(" ===\n\n") for block in blocks]


@given(st.lists(st.tuples(words, words), min_size=1, max_size=4))
def test_the_rows_spell_both_sides_and_every_error(pairs):
    references, steps, blocks = drawn(pairs)
    assert [key for key, _, _ in blocks] == list(references)
    for (key, _, rows), (reference, hypothesis) in zip(blocks, pairs, strict=True):
        first, second, *marks = rows.splitlines()
        for row, name, tokens in ((first, "REF:", reference), (second, "HYP:", hypothesis)):
            assert row.startswith(name)
            shown = [word for word in row[len(name) :].split() if set(word) != {"*"}]
            assert shown == tokens
        errors = "".join(marks).split()
        assert sorted(errors) == sorted(steps[key].replace("C", ""))


@given(words.filter(len), words)
def test_an_alignment_is_the_one_that_jiwer_would_draw(reference, hypothesis):
    # jiwer's own alignment, in our letters: what is drawn must be the same, byte for byte.
    theirs = jiwer.process_words(" ".join(reference), " ".join(hypothesis))
    letters = {"equal": "C", "substitute": "S", "delete": "D", "insert": "I"}
    steps = ""
    for chunk in theirs.alignments[0]:
        length = max(
            chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx
        )
        steps += letters[chunk.type] * length
    text = format_alignments({"a": reference}, {"a": hypothesis}, {"a": steps})
    expected = jiwer.visualize_alignment(theirs, show_measures=False, skip_correct=False)
    assert text == expected.replace("SENTENCE 1", "a")


def test_a_name_that_looks_like_a_heading_stays():
    name = "=== SENTENCE 1 ==="
    text = format_alignments({name: ["a"]}, {name: []}, {name: "D"})
    assert text.startswith(f"=== {name} ===\n")
