import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.search.ctc import CTCPrefixScorer
from strategies import seeds

BLANK, EOS, VOCABULARY = 0, 4, 5


def posteriors(sizes, seed):
    torch.manual_seed(seed)
    return (2 * torch.randn(len(sizes), max(sizes), VOCABULARY)).double().log_softmax(-1)


def collapse(path):
    """The labelling of a frame-by-frame path: repeats merged, then blanks removed."""
    return tuple(label for label, _ in itertools.groupby(path) if label != BLANK)


def by_enumeration(log_probability, prefix, whole=False):
    """Sum the probability of every path whose labelling begins with (or is) `prefix`."""
    total = 0.0
    for path in itertools.product(range(VOCABULARY), repeat=len(log_probability)):
        labelling = collapse(path)
        if labelling == prefix if whole else labelling[: len(prefix)] == prefix:
            steps = zip(log_probability.double(), path, strict=True)
            total += torch.stack([frame[label] for frame, label in steps]).sum().exp().item()
    return total


def close(score, other):
    """Equal but for the order of additions, which the number of hypotheses may change."""
    torch.testing.assert_close(score, other.expand_as(score), rtol=1e-12, atol=1e-12)


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=3),
    st.lists(st.sampled_from([1, 2, 3]), max_size=3),
    seeds,
)
def test_scores_are_the_probabilities_of_all_paths(sizes, prefix, seed):
    log_probability = posteriors(sizes, seed)
    scorer = CTCPrefixScorer(log_probability, torch.tensor(sizes), BLANK, EOS)
    state = scorer.start()
    total = torch.zeros(len(sizes), 1, dtype=torch.float64)
    zeros = torch.zeros(len(sizes), 1, dtype=torch.int64)
    for label in prefix:
        score = scorer.score(state)[..., label]
        total += score
        state = scorer.extend(state, zeros, zeros + label, score)
    last = scorer.score(state)
    assert (last[..., BLANK] == float("-inf")).all()
    for b, size in enumerate(sizes):
        reached = total[b, 0]
        if not reached.isfinite():
            assert by_enumeration(log_probability[b, :size], tuple(prefix)) == 0
            continue
        for label in range(1, VOCABULARY):
            whole = label == EOS
            longer = tuple(prefix) if whole else (*prefix, label)
            expected = by_enumeration(log_probability[b, :size], longer, whole)
            ours = (reached + last[b, 0, label]).exp().item()
            assert ours == pytest.approx(expected, abs=1e-9)


@given(st.lists(st.integers(1, 9), min_size=2, max_size=4), seeds)
def test_a_batch_and_what_stays_of_it_equal_utterances_alone(sizes, seed):
    log_probability = posteriors(sizes, seed)
    lengths = torch.tensor(sizes)
    together = CTCPrefixScorer(log_probability, lengths, BLANK, EOS)
    state = together.start()
    parent = torch.zeros(len(sizes), 2, dtype=torch.int64)
    label = torch.tensor([[1, 2]]).expand(len(sizes), -1)
    score = together.score(state).gather(2, label[:, None])[:, 0]
    state = together.extend(state, parent, label, score)
    keep = torch.arange(1, len(sizes))
    together.select(keep)
    scores = together.score(state.select(keep))
    for row, b in enumerate(keep.tolist()):
        own = log_probability[b : b + 1, : sizes[b]]
        alone = CTCPrefixScorer(own, lengths[b : b + 1], BLANK, EOS)
        first = alone.score(alone.start()).gather(2, label[b : b + 1, None])[:, 0]
        other = alone.extend(alone.start(), parent[b : b + 1], label[b : b + 1], first)
        assert torch.equal(scores[row].isfinite(), alone.score(other)[0].isfinite())
        difference = (scores[row] - alone.score(other)[0]).nan_to_num(0.0)
        assert difference.abs().max() < 1e-9


def test_a_long_silence_loses_no_precision():
    """3,000 frames of certain blank around two labels: cumulative sums must not cancel."""
    log_probability = torch.full((1, 3000, VOCABULARY), 1e-4)
    log_probability[..., BLANK] = 1.0
    log_probability[0, 1500] = log_probability[0, 2500] = 1e-4
    log_probability[0, 1500, 1] = log_probability[0, 2500, 2] = 1.0
    log_probability = log_probability.log_softmax(-1) * 20  # as sharp as a trained model
    log_probability = log_probability.log_softmax(-1)
    scorer = CTCPrefixScorer(log_probability, torch.tensor([3000]), BLANK, EOS)
    state = scorer.start()
    zero = torch.zeros(1, 1, dtype=torch.int64)
    best = []
    for _ in range(3):
        score = scorer.score(state)
        label = score.argmax(-1)
        best.append(label.item())
        state = scorer.extend(state, zero, label, score.amax(-1))
    assert best == [1, 2, EOS]


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=3),
    st.lists(st.sampled_from([1, 2, 3]), max_size=3),
    st.integers(1, 2),
    seeds,
)
def test_skipped_labels_cost_nothing_and_change_nothing(sizes, prefix, skip, seed):
    log_probability = posteriors(sizes, seed)
    lengths = torch.tensor(sizes)
    plain = CTCPrefixScorer(log_probability, lengths, BLANK, EOS)
    skipping = CTCPrefixScorer(log_probability, lengths, BLANK, EOS, skip)
    state, expected = skipping.start(), plain.start()
    zeros = torch.zeros(len(sizes), 2, dtype=torch.int64)
    label = zeros + torch.tensor([1, 2])
    for _ in range(skip):
        score = skipping.score(state)
        assert (score[..., 1:EOS] == 0).all()
        assert (score[..., BLANK] == float("-inf")).all()
        # what ends here says that nothing was spoken
        assert torch.equal(
            score[..., EOS], plain.score(plain.start())[..., EOS].expand_as(score[..., EOS])
        )
        state = skipping.extend(state, zeros, label, torch.zeros(label.shape))
    for new in prefix:
        score, other = skipping.score(state), plain.score(expected)
        close(score, other)
        parent = torch.arange(2).expand_as(zeros)
        state = skipping.extend(state, parent, zeros + new, score[..., new])
        expected = plain.extend(expected, zeros[:, :1], zeros[:, :1] + new, other[..., new])
    score = skipping.score(state)
    close(score, plain.score(expected))
