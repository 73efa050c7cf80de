"""Words are laid where their gradient is: against all divisions, and autograd by hand."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mtla_espnet.inference import places as module
from mtla_espnet.inference.from_files import load
from mtla_espnet.inference.places import pauses, places

POSITIVE = st.floats(0, 1, width=32)


@given(st.data(), st.integers(1, 3), st.integers(3, 9))
def test_the_division_is_the_best_of_all(data, units, frames):
    score = data.draw(arrays(np.float64, (units, frames), elements=POSITIVE))
    sizes = data.draw(arrays(np.float64, units, elements=st.floats(1, 3)))
    expected = frames * sizes / sizes.sum()
    bounds = module._bounds(score, expected)

    def value(bounds):
        each = zip(bounds, bounds[1:], strict=False)
        return sum(
            score[unit, a:b].sum()
            - module._WEIGHT * (np.log((b - a) / expected[unit]) / module._DEVIATION) ** 2 / 2
            for unit, (a, b) in enumerate(each)
        )

    inner = itertools.combinations(range(1, frames), units - 1)
    best = max(value([0, *bounds, frames]) for bounds in inner)
    assert value(bounds) == pytest.approx(best)


@given(st.data(), st.integers(1, 4), st.integers(1, 60))
def test_places_are_in_order_and_not_in_pauses(data, units, frames):
    evidence = data.draw(arrays(np.float32, (units, frames), elements=POSITIVE))
    is_pause = data.draw(arrays(np.bool_, frames))
    found = places(evidence, is_pause, np.arange(1, units + 1))
    if frames < units:
        assert found is None
        return
    flat = found.flatten().tolist()
    assert flat == sorted(flat) and 0 <= flat[0] and flat[-1] <= frames
    assert (found[:, 0] < found[:, 1]).all()
    if (~is_pause).sum() >= units:
        assert not is_pause[found[:, 0]].any() and not is_pause[found[:, 1] - 1].any()


def test_evidence_beats_length_and_length_decides_without_evidence():
    evidence = np.zeros((2, 100), dtype=np.float32)
    speech = np.zeros(100, dtype=bool)
    assert places(evidence, speech, np.array([1, 3])).tolist() == [[0, 25], [25, 100]]
    evidence[0, :50], evidence[1, 50:] = 1, 1
    (_, end), (start, _) = places(evidence, speech, np.array([1, 3]))
    assert start == end and 45 <= end <= 50


def test_pauses_are_long_and_quiet():
    random = np.random.default_rng(0)
    level = np.full(16_000, 0.3)
    level[:1_600], level[6_400:9_600], level[12_000:12_800] = 1e-3, 1e-3, 1e-3
    is_pause = pauses(random.normal(0, 1, 16_000) * level, 100, 2.0)
    assert is_pause.nonzero()[0].tolist() == [*range(10), *range(41, 60)]


@pytest.mark.espnet
class TestEvidence:
    @pytest.fixture
    def heard(self, model):
        found = load("asr", model.directory, device="cpu")
        samples = np.random.default_rng(0).normal(0, 0.1, 12_000)
        return found, found.prepare("a", samples)

    def test_it_is_the_gradient_of_ctc(self, heard):
        found, utterance = heard
        units = [[(3, 2, 4), (4, 5, 6)], [(5, 8, 9)]]
        found.decode_prepared([utterance])  # whatever ran before
        evidence = found.ctc_evidence(utterance, units, reach=1000)
        model = found.model
        speech = torch.as_tensor(utterance["speech"])[None].float()
        features, lengths = model._extract_feats(speech, torch.tensor([speech.size(1)]))
        features, lengths = model.normalize(features, lengths)
        features.requires_grad_()
        score = model.ctc.log_softmax(model.encoder(features, lengths)[0])[0]
        for unit, row in zip(units, evidence, strict=True):
            total = sum(score[a:b, label].sum() for label, a, b in unit)
            (gradient,) = torch.autograd.grad(total, features, retain_graph=True)
            np.testing.assert_allclose(row, gradient[0].norm(dim=-1), rtol=1e-4, atol=1e-6)

    def test_units_that_share_a_pass_are_told_apart_by_their_windows(self, heard):
        found, utterance = heard
        frames = len(found.ctc_log_probability(utterance))
        units = [[(3, 0, 1)], [(4, frames // 2, frames // 2 + 1)], [(5, frames - 1, frames)]]
        together = found.ctc_evidence(utterance, units, reach=1)
        for unit, row in zip(units, together, strict=True):
            (alone,) = found.ctc_evidence(utterance, [unit], reach=1)
            assert (row > 0).sum() == (alone > 0).sum() > 0
            assert ((row > 0) == (alone > 0)).all()
