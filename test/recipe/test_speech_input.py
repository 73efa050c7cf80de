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
    assert raw.model_arguments([tmp_path], None) == ["--frontend_conf", "fs=16000"]
    (tmp_path / "feats_shape").write_text("a 25,80\n")
    (tmp_path / "frame_shift").write_text("0.02\n")
    features = SpeechInput("extracted", "flac", 16000)
    assert features.read_lengths(tmp_path) == {"a": 25}
    assert features.units_per_s(tmp_path) == pytest.approx(50)
    assert (raw.unit_of_fold, features.unit_of_fold) == (100, 1)


def test_a_model_is_told_the_size_of_features(tmp_path):
    sets = [tmp_path / "train", tmp_path / "valid"]
    features = SpeechInput("fairseq_zip", "flac", 16000)
    assert features.model_arguments(sets, None) == ["--input_size", "DIM"]
    for path in sets:
        path.mkdir()
        (path / "feats_dim").write_text("80\n")
    assert features.model_arguments(sets, "default") == ["--input_size", "80"]
    assert features.model_arguments(sets, "stored_layers") == []
    (sets[1] / "feats_dim").write_text("40\n")
    with pytest.raises(UserError, match=r"different sizes \(.*train/feats_dim: 80, .*valid/fea"):
        features.model_arguments(sets, None)
