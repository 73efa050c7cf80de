"""CTC prefix scores at fixed shapes are those of `CTCPrefixScorer`; float32 chooses the same."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interpreted import run_interpreted
from mtla_espnet.search.ctc import CTCPrefixScorer
from mtla_espnet.search.graph.ctc import GraphCTC
from strategies import seeds

BLANK, EOS, VOCABULARY, BEAMS = 0, 6, 7, 3


def posteriors(sizes, vocabulary, sharpness, seed, device="cpu"):
    generator = torch.Generator().manual_seed(seed)
    logits = sharpness * torch.randn(len(sizes), max(sizes), vocabulary, generator=generator)
    return logits.log_softmax(-1).to(device)


def walk(
    sizes, steps, sharpness, seed, beams=BEAMS, vocabulary=VOCABULARY, skip=0, device="cpu",
    idle=1,
):  # fmt: skip
    """Yield the scores of both for all labels, along random hypotheses that fork.

    The fixed buffers are larger than the batch, and held another one before.
    """
    generator = torch.Generator().manual_seed(seed)
    eos = vocabulary - 1
    lengths = torch.tensor(sizes, device=device)
    log_p = posteriors(sizes, vocabulary, sharpness, seed, device)
    batch = len(sizes)
    fixed = GraphCTC(
        lambda x: x, vocabulary, batch + idle, max(sizes) + 3, beams, BLANK, eos, skip,
        torch.device(device),
    )  # fmt: skip
    fixed.log_p.normal_().neg_()
    exact = CTCPrefixScorer(log_p, lengths, BLANK, eos, skip)
    fixed.start(log_p, lengths)
    fixed.begin()
    state = exact.start()
    everything = torch.arange(vocabulary, device=device)
    for step in range(steps):
        index = torch.tensor([step], device=device)
        label = everything.expand(batch + idle, beams, -1)
        ours, theirs = fixed.score(label, index), exact.score(state)
        yield ours[:batch, : theirs.size(1)], theirs
        width = theirs.size(1)
        parent = torch.randint(width, (batch, beams), generator=generator).to(device)
        chosen = torch.randint(1, eos, (batch, beams), generator=generator).to(device)
        row = torch.arange(batch, device=device)[:, None]
        given = theirs[row, parent, chosen]
        state = exact.extend(state, parent, chosen, given)
        pad = torch.nn.functional.pad
        fixed.extend(
            pad(parent, (0, 0, 0, idle)), pad(chosen, (0, 0, 0, idle), value=1),
            pad(ours[:batch][row, parent, chosen], (0, 0, 0, idle)), index,
        )  # fmt: skip


def differences(*arguments, **options):
    """The largest difference of finite scores; infinite ones must agree."""
    for ours, theirs in walk(*arguments, **options):
        assert torch.equal(ours.isfinite(), theirs.isfinite())
        finite = theirs.isfinite()
        yield (ours - theirs)[finite].abs().max().item() if finite.any() else 0.0


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=3), st.sampled_from([0.5, 4.0]),
    st.sampled_from([0, 1, 2]), seeds,
)  # fmt: skip
def test_scores_are_those_of_the_plain_scorer(sizes, sharpness, skip, seed):
    assert max(differences(sizes, 4, sharpness, seed, skip=skip)) < 1e-8


def test_posteriors_are_computed_a_few_utterances_at_once(monkeypatch):
    from mtla_espnet.search.graph import ctc

    monkeypatch.setattr(ctc, "_AT_ONCE", 2 * 9 * VOCABULARY)
    calls = []
    log_p = posteriors([9, 9, 4, 2, 1], VOCABULARY, 2.0, 0)

    def layer(encoded):
        calls.append(len(encoded))
        return encoded

    sizes = VOCABULARY, 6, 12, BEAMS, BLANK, EOS, 0
    fixed = GraphCTC(layer, *sizes, torch.device("cpu"))
    fixed.start(log_p, torch.tensor([9, 9, 4, 2, 1]))
    assert calls == [2, 2, 1]
    assert torch.equal(fixed.log_p[:5, :, :9], log_p.transpose(1, 2))
    assert fixed.lengths.tolist() == [9, 9, 4, 2, 1, 1]


def test_the_interpreted_kernel_chooses_as_float64_does():
    run_interpreted("import interpreted_ctc; interpreted_ctc.main()", lines=6)


@pytest.mark.gpu
@pytest.mark.parametrize("sharpness", [1.0, 8.0])
def test_the_kernel_scores_as_float64_does(sharpness):
    found = differences(
        [700, 31, 64, 65], 12, sharpness, 0, beams=20, vocabulary=500, device="cuda"
    )
    assert max(found) < 1e-5
