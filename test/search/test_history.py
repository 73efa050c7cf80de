import torch
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.search.history import nbest
from strategies import seeds

SOS_EOS = 9


def slow(parent, token, ended, part, count, exponent):
    """Every ended hypothesis by recursion, sorted."""

    def tokens(step, slot):
        before = tokens(step - 1, parent[step][slot]) if step else []
        return [*before, token[step][slot]]

    found = []
    for step, row in enumerate(ended):
        for slot, score in enumerate(row):
            if score > float("-inf"):
                yseq = [SOS_EOS, *tokens(step, slot)]
                yseq += [] if yseq[-1] == SOS_EOS else [SOS_EOS]
                found.append((yseq, score, part[step][slot]))
    return sorted(found, key=lambda h: -h[1] / (len(h[0]) - 1) ** exponent)[:count]


@given(
    st.integers(1, 5), st.integers(1, 3), st.integers(1, 4), st.integers(1, 9),
    st.sampled_from([0.0, 0.5, 1.0, 2.0]), seeds,
)  # fmt: skip
def test_nbest_are_those_of_a_slow_trace(steps, batch, beams, count, exponent, seed):
    generator = torch.Generator().manual_seed(seed)
    shape = (steps, batch, beams)
    parent = torch.randint(beams, shape, generator=generator)
    token = torch.randint(SOS_EOS + 1, shape, generator=generator)
    ended = torch.randn(shape, generator=generator, dtype=torch.float64)
    ended[torch.rand(shape, generator=generator) < 0.5] = float("-inf")
    part = torch.randn(shape, generator=generator, dtype=torch.float64)
    found = nbest(parent, token, ended, {"decoder": part}, SOS_EOS, count, exponent)
    for b in range(batch):
        own = (x[:, b].tolist() for x in (parent, token, ended, part))
        expected = slow(*own, count, exponent)
        assert [(h.yseq, h.score, h.scores["decoder"]) for h in found[b]] == expected


def test_no_step_no_hypothesis():
    nothing = torch.zeros(0, 2, 3, dtype=torch.int64)
    assert nbest(nothing, nothing, nothing.double(), {}, SOS_EOS, 1, 0.0) == [[], []]
