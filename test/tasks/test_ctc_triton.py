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
# one at least has a finite loss
utterances = utterances.map(lambda drawn: [*drawn, (3, 1)])


def kernels():
    """The module of the kernels, without ESPnet, which its package loads."""
    path = Path(mtla_espnet.__file__).parent / "tasks" / "ctc_triton.py"
    spec = importlib.util.spec_from_file_location("ctc_triton", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def loss_and_gradient(loss_of, logits, weight, dtype, device):
    """The losses of utterances, the gradient of their weighted sum, and which are finite."""
    x = logits.to(device, dtype, copy=True).requires_grad_()
    loss = loss_of(x.log_softmax(dim=-1))
    finite = loss.isfinite()
    (torch.where(finite, loss, 0.0) * weight.to(device)).sum().backward()
    return loss.detach().double().cpu(), x.grad.double().cpu(), finite.cpu()


def is_torchs(ctc_loss, utterances, seed, device):
    """Infinite where PyTorch's is, else at most twice as far from float64 as PyTorch's float32."""
    torch.manual_seed(seed)
    frames, labels = (torch.tensor(each) for each in zip(*utterances, strict=True))
    # beyond the longest there is padding
    logits = 3 * torch.randn(len(frames), int(frames.max()) + 2, VOCABULARY)
    texts = torch.randint(1, VOCABULARY, (len(frames), int(labels.max()) + 1))
    data = logits, torch.rand(len(frames)) + 0.5

    def torchs(log_probs):
        return torch.nn.functional.ctc_loss(
            log_probs.transpose(0, 1), texts, frames, labels, reduction="none"
        )

    def own(log_probs):
        return ctc_loss(log_probs, *(each.to(device) for each in (texts, frames, labels)))

    *exact, finite = loss_and_gradient(torchs, *data, torch.float64, "cpu")
    *rounded, _ = loss_and_gradient(torchs, *data, torch.float32, "cpu")
    *found, own_finite = loss_and_gradient(own, *data, torch.float32, device)
    assert torch.equal(own_finite, finite)
    for ours, theirs, true in zip(found, rounded, exact, strict=True):
        error, allowed = ((each - true)[finite].abs().max() for each in (ours, theirs))
        assert error <= 2 * allowed + 1e-5, (error, allowed)
    assert (found[1][~finite] == 0).all()  # PyTorch's gradient is no number


def interpreted():
    ctc_loss = kernels().ctc_loss

    @settings(max_examples=8, deadline=None)
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
