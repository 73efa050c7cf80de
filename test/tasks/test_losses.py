import importlib

import pytest
import torch
from espnet2.asr.ctc import CTC as ESPnetCTC
from espnet2.legacy.nets.pytorch_backend import nets_utils
from espnet2.legacy.nets.pytorch_backend.transformer import add_sos_eos as espnet_add_sos_eos
from espnet2.legacy.nets.pytorch_backend.transformer import label_smoothing_loss
from espnet2.torch_utils import device_funcs
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.position import Lengths
from mtla_espnet.tasks.losses import (
    ABSENT,
    CTC,
    LabelSmoothingLoss,
    add_sos_eos,
    force_gatherable,
    th_accuracy,
)
from mtla_espnet.tasks.register import register
from strategies import seeds

pytestmark = pytest.mark.espnet

PADDING, VOCABULARY = -1, 7
lengths = st.lists(st.integers(1, 6), min_size=1, max_size=4)


def padded(lengths, seed):
    """Targets (B, L) as wide as the longest, and their logits."""
    torch.manual_seed(seed)
    targets = torch.full((len(lengths), max(lengths)), PADDING)
    for row, length in enumerate(lengths):
        targets[row, :length] = torch.randint(1, VOCABULARY, (length,))
    return targets, torch.randn(*targets.shape, VOCABULARY)


@given(lengths, st.integers(1, 2), seeds)
def test_texts_begin_and_end_as_espnets(lengths, repeat, seed):
    targets, _ = padded(lengths, seed)
    found = add_sos_eos(targets, 8, 9, PADDING, repeat)
    expected = espnet_add_sos_eos.add_sos_eos(targets, 8, 9, PADDING, repeat)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)


def test_padding_beyond_the_longest_text_stays():
    read, said = add_sos_eos(torch.tensor([[3, -1, -1]]), 1, 2, -1)
    assert read.tolist() == [[1, 3, 2, 2]]
    assert said.tolist() == [[3, 2, -1, -1]]


def test_a_row_that_is_no_text_says_nothing():
    read, said = add_sos_eos(torch.tensor([[3, 4], [ABSENT, ABSENT]]), 1, 2, -1)
    assert read.tolist() == [[1, 3, 4], [1, 2, 2]]
    assert said.tolist() == [[3, 4, 2], [-1, -1, -1]]


@given(lengths, seeds)
def test_accuracy_is_espnets(lengths, seed):
    targets, logits = padded(lengths, seed)
    found = th_accuracy(logits.flatten(0, 1), targets, PADDING)
    assert found.shape == ()
    expected = nets_utils.th_accuracy(logits.flatten(0, 1), targets, PADDING)
    assert found.item() == torch.tensor(expected).item()


@given(
    lengths,
    st.sampled_from([0.0, 0.1, 0.5]),
    st.booleans(),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    seeds,
)
def test_the_smoothed_loss_and_its_gradient_are_espnets(
    lengths, smoothing, normalize_length, dtype, seed
):
    targets, logits = padded(lengths, seed)
    options = VOCABULARY, PADDING, smoothing, normalize_length
    results = []
    for loss in (LabelSmoothingLoss, label_smoothing_loss.LabelSmoothingLoss):
        x = logits.to(dtype).requires_grad_()
        # ESPnet's rounds the smoothed targets to the dtype of the logits
        read = x if loss is LabelSmoothingLoss else x.to(torch.float64)
        value = loss(*options)(read, targets)
        value.backward()
        results.append((value.double(), x.grad))
    (ours, our_gradient), (theirs, their_gradient) = results
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(our_gradient, their_gradient)


def test_another_criterion_is_left_to_espnet():
    targets, logits = padded([3, 1], 0)
    options = VOCABULARY, PADDING, 0.1, False, torch.nn.MSELoss(reduction="none")
    expected = label_smoothing_loss.LabelSmoothingLoss(*options)(logits, targets)
    assert torch.equal(LabelSmoothingLoss(*options)(logits, targets), expected)


@given(lengths, st.booleans(), seeds)
def test_ctc_is_espnets(lengths, reduce, seed):
    targets, _ = padded(lengths, seed)
    frames = torch.tensor([2 * length + 1 for length in lengths])
    x = torch.randn(len(lengths), int(frames.max()), 5)
    theirs = ESPnetCTC(VOCABULARY, 5, reduce=reduce)
    ours = CTC(VOCABULARY, 5, reduce=reduce)
    ours.load_state_dict(theirs.state_dict())
    gradients = []
    for ctc in (ours, theirs):
        own = x.clone().requires_grad_()
        loss = ctc(own, frames, targets, torch.tensor(lengths))
        loss.sum().backward()
        gradients.append((loss.detach(), own.grad))
    torch.testing.assert_close(gradients[0], gradients[1])


@given(lengths, st.booleans(), seeds)
def test_rows_that_are_no_texts_have_no_loss(lengths, reduce, seed):
    targets, logits = padded(lengths, seed)
    rows, filled = len(targets), torch.cat((targets, torch.full_like(targets, ABSENT)))
    smoothed = LabelSmoothingLoss(VOCABULARY, PADDING, 0.1)
    said = filled.masked_fill(filled == ABSENT, PADDING)
    expected = smoothed(logits, targets)
    torch.testing.assert_close(smoothed(torch.cat((logits, logits)), said), expected)

    ctc = CTC(VOCABULARY, 5, reduce=reduce)
    frames = torch.tensor([2 * length + 1 for length in lengths])
    x = torch.randn(rows, int(frames.max()), 5)
    expected = ctc(x, frames, targets, torch.tensor(lengths))
    counts = torch.tensor([*lengths, *[0] * rows])
    found = ctc(torch.cat((x, x)), torch.cat((frames, frames)), filled, counts)
    if not reduce:
        assert (found[rows:] == 0).all()
        found = found[:rows]
    torch.testing.assert_close(found, expected)


def test_numbers_are_gathered_as_by_espnet():
    results = torch.tensor(2.0), {"a": 0.5, "b": torch.ones(1), "c": None, "d": torch.tensor(3)}, 7
    found, expected = (
        gather(results, torch.device("cpu"))
        for gather in (force_gatherable, device_funcs.force_gatherable)
    )
    torch.testing.assert_close(
        [found[0], *list(found[1].values())[:2], found[1]["d"], found[2]],
        [expected[0], *list(expected[1].values())[:2], expected[1]["d"], expected[2]],
    )
    assert found[1]["c"] is None and found[1].keys() == expected[1].keys()


@pytest.mark.parametrize("task", ["asr", "st", "slu", "mt"])
def test_espnets_models_compute_by_them(task):
    register()
    module = importlib.import_module(f"espnet2.{task}.espnet_model")
    assert module.LabelSmoothingLoss is LabelSmoothingLoss
    assert module.force_gatherable is force_gatherable
    if task != "slu":  # whose losses are those of asr
        assert module.add_sos_eos is add_sos_eos and module.th_accuracy is th_accuracy
    if task != "mt":
        assert importlib.import_module(f"espnet2.tasks.{task}").CTC is CTC


@pytest.mark.gpu
@pytest.mark.parametrize("zero_infinity", [True, False])
def test_ctc_on_a_gpu_is_that_of_the_cpu(zero_infinity):
    targets, _ = padded([6, 3, 1, 5], 0)
    frames = torch.tensor([9, 3 if zero_infinity else 30, 5, 2 if zero_infinity else 30])
    counts, x = torch.tensor([6, 3, 1, 5]), torch.randn(4, 31, 5)
    ctc = CTC(VOCABULARY, 5, zero_infinity=zero_infinity)
    results = []
    for device in ("cpu", "cuda"):
        own = x.to(device, copy=True).requires_grad_()
        known = Lengths.of(frames.to(device), 31)
        loss = ctc.to(device)(own, known, targets.to(device), counts.to(device))
        loss.backward()
        results.append((loss.detach().cpu(), own.grad.cpu()))
    torch.testing.assert_close(*results, atol=1e-4, rtol=1e-4)
