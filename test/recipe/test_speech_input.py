import pytest

from mtla_espnet.files import UserError
from mtla_espnet.recipe.speech_input import SpeechInput


@pytest.mark.parametrize(
    ("feats_type", "audio_format", "loader", "scp"),
    [
        ("raw", "flac", "sound", "wav.scp"),
        ("raw", "wav.ark", "kaldi_ark", "wav.scp"),
        ("extracted", "flac", "kaldi_ark", "feats.scp"),
        ("fairseq_zip", "flac", "fairseq_zip", "feats.scp"),
    ],
)
def test_loaders_are_those_of_the_form(feats_type, audio_format, loader, scp):
    speech = SpeechInput(feats_type, audio_format, 16000)
    assert (speech.loader, speech.scp) == (loader, scp)


def test_lengths_and_their_unit(tmp_path):
    (tmp_path / "utt2num_samples").write_text("a 8000\n")
    raw = SpeechInput("raw", "flac", 16000)
    assert (raw.read_lengths(tmp_path), raw.units_per_s(tmp_path)) == ({"a": 8000}, 16000)
    assert raw.model_arguments([tmp_path], {}) == ["--frontend_conf", "fs=16000"]
    (tmp_path / "feats_shape").write_text("a 25,80\n")
    (tmp_path / "frame_shift").write_text("0.02\n")
    features = SpeechInput("extracted", "flac", 16000)
    assert features.read_lengths(tmp_path) == {"a": 25}
    assert features.units_per_s(tmp_path) == pytest.approx(50)
    assert (raw.unit_of_fold, features.unit_of_fold) == (100, 1)


def test_a_model_is_told_the_size_of_features(tmp_path):
    sets = [tmp_path / "train", tmp_path / "valid"]
    features = SpeechInput("fairseq_zip", "flac", 16000)
    assert features.model_arguments(sets, {}) == ["--input_size", "DIM"]
    for path in sets:
        path.mkdir()
        (path / "feats_dim").write_text("80\n")
    assert features.model_arguments(sets, {"frontend": "default"}) == ["--input_size", "80"]
    assert features.model_arguments(sets, {"frontend": "stored_layers"}) == []
    (sets[1] / "feats_dim").write_text("40\n")
    with pytest.raises(UserError, match=r"different sizes \(.*train/feats_dim: 80, .*valid/fea"):
        features.model_arguments(sets, {})


@pytest.mark.parametrize(
    ("rate", "conf", "fitted"),
    [
        (16000, {"n_fft": 400, "hop_length": 320}, {}),
        (8000, {"n_fft": 400, "hop_length": 160}, {"win_length": 200, "hop_length": 80}),
        (8000, {}, {"win_length": 256, "hop_length": 64}),
        (8000, {"n_fft": 256, "win_length": 200, "hop_length": 80}, {}),
        (8000, {"n_fft": 256, "hop_length": 80, "fmax": 7600}, {"fmax": 4000}),
        (
            48000,
            {"n_fft": 512, "win_length": 400, "hop_length": 160},
            {"win_length": 1200, "hop_length": 480, "n_fft": 2048},
        ),
        (8000, {"n_fft": "x"}, {}),
    ],
)
def test_a_front_end_fits_the_rate(rate, conf, fitted):
    speech = SpeechInput("raw", "flac", rate)
    assert speech.fitted_frontend({"frontend_conf": conf}) == fitted
    words = speech.model_arguments([], {"frontend_conf": conf})
    told = dict(word.split("=") for word in words if word != "--frontend_conf")
    assert told == {"fs": str(rate)} | {name: str(value) for name, value in fitted.items()}
    assert speech.fitted_frontend({"frontend": "fbank", "frontend_conf": conf}) == {}
    assert SpeechInput("extracted", "flac", rate).fitted_frontend({"frontend_conf": conf}) == {}
