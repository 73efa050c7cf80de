"""CTC's kernels, interpreted where there is no GPU, against PyTorch's loss."""

import importlib.util
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

import mtla_espnet
from interpreted import run_interpreted
from strategies import seeds

VOCABULARY = 5  # few, so that texts repeat labels
utterances = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4)), min_size=1, max_size=3)


def kernels():
    """The module of the kernels, without ESPnet, which its package loads."""
    path = Path(mtla_espnet.__file__).parent / "tasks" / "ctc_triton.py"
    spec = importlib.util.spec_from_file_location("ctc_triton", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def is_torchs(ctc_loss, utterances, seed, device):
    torch.manual_seed(seed)
    frames, labels = (torch.tensor(each) for each in zip(*utterances, strict=True))
    # beyond the longest there is padding
    logits = 3 * torch.randn(len(frames), int(frames.max()) + 2, VOCABULARY)
    texts = torch.randint(1, VOCABULARY, (len(frames), int(labels.max()) + 1))
    weight = torch.rand(len(frames)) + 0.5
    results = []
    for where in ("own", "torch"):
        place = device if where == "own" else "cpu"
        dtype = torch.float32 if where == "own" else torch.float64
        x = logits.to(place, dtype, copy=True).requires_grad_()
        log_probs = x.log_softmax(dim=-1)
        if where == "own":
            loss = ctc_loss(log_probs, *(each.to(place) for each in (texts, frames, labels)))
        else:
            loss = torch.nn.functional.ctc_loss(
                log_probs.transpose(0, 1), texts, frames, labels, reduction="none"
            )
        finite = loss.isfinite()
        torch.where(finite, loss, 0.0).mul(weight.to(place)).sum().backward()
        results.append((loss.detach().double().cpu(), x.grad.double().cpu(), finite.cpu()))
    (own, own_grad, finite), (expected, expected_grad, _) = results
    torch.testing.assert_close(own, expected, atol=1e-4, rtol=1e-5)
    # PyTorch's gradient of an infinite loss is no number
    torch.testing.assert_close(own_grad[finite], expected_grad[finite], atol=1e-5, rtol=1e-4)
    assert (own_grad[~finite] == 0).all()


def interpreted():
    ctc_loss = kernels().ctc_loss

    @settings(max_examples=40, deadline=None)
    @given(utterances, seeds)
    @example([(1, 1), (1, 0), (5, 3)], 0)
    def law(utterances, seed):
        is_torchs(ctc_loss, utterances, seed, "cpu")

    law()
    print("equal")


def test_interpreted():
    run_interpreted("import test_ctc_triton; test_ctc_triton.interpreted()", lines=1)


@pytest.mark.gpu
def test_on_a_gpu():
    ctc_loss = kernels().ctc_loss
    for utterances in ([(400, 90), (731, 260), (731, 5), (3, 2), (1, 3)], [(9, 4)] * 3, [(5, 0)]):
        for seed in range(3):
            is_torchs(ctc_loss, utterances, seed, "cuda")
