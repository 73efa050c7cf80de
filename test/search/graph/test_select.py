import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.search.graph import select
from strategies import seeds

NOTHING = float("-inf")


def draw(batch, beams, vocabulary, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(batch * beams, vocabulary, generator=generator)
    total = torch.randn(batch, beams, generator=generator).double()
    total[torch.rand(batch, beams, generator=generator) < 0.3] = NOTHING
    total[0, 0] = -2.0  # one utterance at least goes on
    return logits, total


def slow(logits, total, temperature, penalty, blank=None):
    """Every continuation, sorted: (score, parent, token) of the best ones."""
    beams = total.size(1)
    score = (logits / temperature).log_softmax(-1).unflatten(0, total.shape).double() + penalty
    if blank is not None:
        score[..., blank] = NOTHING
    score = (total[..., None] + score).flatten(1)
    found = []
    for row in score:
        best = row.sort(descending=True)
        pairs = zip(best.values[:beams].tolist(), best.indices[:beams].tolist(), strict=True)
        found.append([(s, i // logits.size(1), i % logits.size(1)) for s, i in pairs])
    return found


def check(score, parent, token, expected, vocabulary):
    assert ((token >= 0) & (token < vocabulary) & (parent >= 0)).all()
    assert (parent < score.size(1)).all()
    for row, best in enumerate(expected):
        ours = sorted(
            zip(score[row].tolist(), parent[row].tolist(), token[row].tolist(), strict=True),
            reverse=True,
        )
        for a, b in zip(ours, best, strict=True):
            assert a[0] == pytest.approx(b[0], abs=1e-5)
            if b[0] > NOTHING:
                assert a[1:] == b[1:]


@given(
    st.integers(1, 3), st.integers(1, 6), st.integers(7, 100), seeds,
    st.sampled_from([1.0, 1.7]), st.sampled_from([0.0, 0.3]), st.sampled_from([None, 0, 6]),
)  # fmt: skip
def test_best_tokens_are_those_of_a_sort(
    batch, beams, vocabulary, seed, temperature, penalty, blank
):
    logits, total = draw(batch, beams, vocabulary, seed)
    if blank is not None:
        logits[:, blank] += 5.0
    found = select.best_tokens(logits, total, temperature, penalty, blank)
    check(*found, slow(logits, total, temperature, penalty, blank), vocabulary)


@pytest.mark.gpu
@pytest.mark.parametrize("blank", [None, 0, 33])
@pytest.mark.parametrize("beams, vocabulary", [(1, 40), (5, 70), (50, 8000), (64, 32001)])
def test_the_kernels_choose_the_same(beams, vocabulary, blank):
    logits, total = draw(3, beams, vocabulary, 0)
    total[2] = NOTHING
    if blank is not None:
        logits[:, blank] += 5.0
    found = select.best_tokens(logits.cuda(), total.cuda(), 1.2, 0.1, blank)
    check(*(x.cpu() for x in found), slow(logits, total, 1.2, 0.1, blank), vocabulary)
