from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st

from mtla_espnet.frontend.fbank import FbankFrontend, fbank, fbank_of, num_frames

SPH = Path(__file__).parents[1] / "fixtures" / "an4_quarter_second.sph"
TOLERANCE = 1e-3


def noise(length, seed=0, scale=0.1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(length, generator=generator) * scale


def padded(waves, filler=7.0):
    """A batch whose padding is not silent."""
    batch = torch.full((len(waves), max(map(len, waves))), filler)
    for row, wave in zip(batch, waves, strict=True):
        row[: len(wave)] = wave
    return batch, torch.tensor([len(wave) for wave in waves])


def kaldi(wave, rate_hz=16000, n_mels=80):
    """The reference: torchaudio's, on samples in the range of 16 bits."""
    return torchaudio.compliance.kaldi.fbank(
        wave[None] * 32768, num_mel_bins=n_mels, sample_frequency=rate_hz, dither=0.0
    )


@settings(deadline=None, max_examples=40, print_blob=True)
@given(
    lengths=st.lists(st.integers(400, 9000), min_size=1, max_size=4),
    scale=st.sampled_from([1e-4, 0.1, 0.9]),
    seed=st.integers(0, 99),
)
def test_a_ragged_batch_equals_kaldi_one_by_one(lengths, scale, seed):
    waves = [noise(length, seed + i, scale) for i, length in enumerate(lengths)]
    features, n_frames = fbank(*padded(waves))
    assert features.shape == (len(waves), int(n_frames.max()), 80)
    for row, frames, wave in zip(features, n_frames.tolist(), waves, strict=True):
        reference = kaldi(wave)
        assert frames == len(reference)
        torch.testing.assert_close(row[:frames], reference, atol=TOLERANCE, rtol=0)
        assert not row[frames:].any()


@pytest.mark.parametrize(("rate_hz", "n_mels"), [(8000, 40), (22050, 80), (44100, 128)])
def test_other_rates_and_bands_equal_kaldi(rate_hz, n_mels):
    wave = noise(rate_hz // 2)
    features, _ = fbank(wave[None], torch.tensor([len(wave)]), rate_hz, n_mels)
    torch.testing.assert_close(features[0], kaldi(wave, rate_hz, n_mels), atol=TOLERANCE, rtol=0)


def test_recorded_speech_and_silence_equal_kaldi():
    speech = torch.from_numpy(soundfile.read(SPH, dtype="float32")[0])
    features, _ = fbank(speech[None], torch.tensor([len(speech)]))
    torch.testing.assert_close(features[0], kaldi(speech), atol=TOLERANCE, rtol=0)
    silence = torch.zeros(800)
    features, _ = fbank(silence[None], torch.tensor([800]))
    torch.testing.assert_close(features[0], kaldi(silence), atol=TOLERANCE, rtol=0)


def test_blocks_of_frames_change_nothing(monkeypatch):
    batch, lengths = padded([noise(4000), noise(2500, 1)])
    whole, _ = fbank(batch, lengths)
    monkeypatch.setattr("mtla_espnet.frontend.fbank._CPU_BLOCK_FRAMES", 6)
    blocks, _ = fbank(batch, lengths)
    torch.testing.assert_close(blocks, whole, atol=1e-5, rtol=0)


def test_what_is_shorter_than_a_frame_has_none():
    features, n_frames = fbank(*padded([noise(399), noise(700)]))
    assert n_frames.tolist() == [0, 2]
    assert not features[0].any()
    features, n_frames = fbank(*padded([noise(100), noise(3)]))
    assert features.shape == (2, 0, 80)
    assert n_frames.tolist() == [0, 0]
    assert num_frames(torch.tensor([0, 80079, 80080]), 16000).tolist() == [0, 498, 499]


def test_offline_features_are_those_of_the_model():
    wave = noise(5000)
    online, _ = FbankFrontend(fs="16k").eval()(*padded([wave, noise(3000)]))
    offline = fbank_of(wave.numpy(), 16000)
    assert offline.dtype == np.float32
    np.testing.assert_allclose(online[0].numpy(), offline, atol=1e-5)


def test_gradients_pass_also_after_a_first_call_without_them():
    fbank_of(noise(900).numpy(), 22222)  # a rate that nothing else uses
    speech = noise(3000).requires_grad_()
    features, _ = fbank(speech[None], torch.tensor([3000]), 22222)
    features.sum().backward()
    assert speech.grad.abs().min() > 0 or speech.grad.count_nonzero() > 2500


def test_dither_is_for_training_alone():
    frontend = FbankFrontend(dither=1.0)
    speech, lengths = padded([noise(2000)])
    torch.manual_seed(0)
    assert not torch.equal(frontend(speech, lengths)[0], frontend(speech, lengths)[0])
    frontend.eval()
    torch.testing.assert_close(frontend(speech, lengths)[0], fbank(speech, lengths)[0])


def test_low_precision_outside_changes_nothing():
    speech, lengths = padded([noise(2000)])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features, _ = fbank(speech, lengths)
    torch.testing.assert_close(features, fbank(speech, lengths)[0], atol=0, rtol=0)


@pytest.mark.espnet
@pytest.mark.parametrize("task", ["asr", "st", "slu"])
def test_espnet_knows_it_with_normalisation_and_masks(task, tmp_path):
    import importlib

    from espnet2.asr.specaug.specaug import SpecAug
    from espnet2.layers.global_mvn import GlobalMVN
    from espnet2.layers.utterance_mvn import UtteranceMVN

    import mtla_espnet.tasks  # noqa: F401  (registers)

    choices = importlib.import_module(f"espnet2.tasks.{task}").frontend_choices
    frontend = choices.get_class("fbank")(fs=16000)
    features, lengths = frontend(*padded([noise(8000), noise(5000, 1)]))
    normalised, _ = UtteranceMVN(norm_vars=True)(features.clone(), lengths)
    for row, frames in zip(normalised, lengths.tolist(), strict=True):
        torch.testing.assert_close(row[:frames].mean(0), torch.zeros(80), atol=1e-4, rtol=0)
    flat = torch.cat([features[0, : lengths[0]], features[1, : lengths[1]]]).numpy()
    statistics = {"count": len(flat), "sum": flat.sum(0), "sum_square": (flat**2).sum(0)}
    np.savez(tmp_path / "stats.npz", **statistics)
    normalised, _ = GlobalMVN(tmp_path / "stats.npz")(features.clone(), lengths)
    joined = torch.cat([normalised[0, : lengths[0]], normalised[1, : lengths[1]]])
    torch.testing.assert_close(joined.mean(0), torch.zeros(80), atol=1e-3, rtol=0)
    torch.testing.assert_close(joined.std(0), torch.ones(80), atol=0.02, rtol=0)
    masked, _ = SpecAug(apply_time_warp=False, time_mask_width_range=(0, 5))(features, lengths)
    assert masked.shape == features.shape
