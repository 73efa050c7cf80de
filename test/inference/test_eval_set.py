"""What is decoded: audio or features, and what a model does not take."""

from types import SimpleNamespace

import numpy as np
import pytest

from audio_files import SPH, make_data_dir
from mtla_espnet.data.audio.format import format_audio
from mtla_espnet.data.features.format import Extractor, format_features
from mtla_espnet.data.kaldi.tables import read_table, write_table
from mtla_espnet.files import UserError
from mtla_espnet.inference.eval_set import FeatureSet, SpeechSet, eval_set
from mtla_espnet.inference.speech2text import Speech2Text

PAIRS = Extractor("pairs", lambda samples, rate_hz: samples.reshape(-1, 2))


@pytest.fixture
def data(tmp_path):
    return make_data_dir(tmp_path / "data", {"a-1": SPH, "a-2": SPH})


def model(feature_size=None, rate_hz=16000):
    """What a set asks of a model."""
    prepare = lambda number, value: {"speech": value}  # noqa: E731
    return SimpleNamespace(feature_size=feature_size, rate_hz=rate_hz, prepare=prepare)


@pytest.mark.parametrize("feats_type", ["extracted", "fairseq_zip"])
def test_features_are_read_and_timed_by_their_frames(data, tmp_path, feats_type):
    (data / "frame_shift").write_text("0.02\n")
    format_features(data, tmp_path / "f", feats_type, PAIRS, 16000)
    (tmp_path / "f/frame_shift").write_text("0.02\n")
    found = eval_set(tmp_path / "f", ["a-2"], Speech2Text)
    assert isinstance(found, FeatureSet)
    assert found.lengths(model(2), ["a-2"]) == {"a-2": 2000}
    assert found.read("a-2", model(2))["speech"].shape == (2000, 2)
    assert found.audio_s(model(2), ["a-2"]) == pytest.approx(40.0)


def test_what_a_model_does_not_take_is_refused(data, tmp_path):
    format_audio(data, tmp_path / "raw", 16000)
    format_features(data, tmp_path / "f", "fairseq_zip", PAIRS, 16000)
    audio, features = (eval_set(tmp_path / name, None, Speech2Text) for name in ("raw", "f"))
    assert isinstance(audio, SpeechSet) and not isinstance(audio, FeatureSet)
    assert audio.lengths(model(), ["a-1"]) == {"a-1": 4000}
    with pytest.raises(UserError, match="wav.scp: the model takes features, not audio .give the"):
        audio.lengths(model(2), ["a-1"])
    with pytest.raises(UserError, match="feats.scp: the model takes audio, not features .give th"):
        features.lengths(model(), ["a-1"])
    with pytest.raises(
        UserError, match=r"\.zip:\d+:\d+: has 2 features a frame, the model takes 3"
    ):
        features.read("a-1", model(3))
    with pytest.raises(UserError, match="has 16000 Hz, the model takes 8000 Hz"):
        audio.read("a-1", model(rate_hz=8000))


def test_bad_tables_and_entries_are_named(data, tmp_path):
    format_features(data, tmp_path / "f", "fairseq_zip", PAIRS, 16000)
    with pytest.raises(UserError, match="feats.scp: no line for 'b'"):
        eval_set(tmp_path / "f", ["b"], Speech2Text)
    entries = read_table(tmp_path / "f/feats.scp")
    path = tmp_path / "n.npy"
    np.save(path, np.full((3, 2), np.nan, np.float32))
    write_table(tmp_path / "f/feats.scp", entries | {"a-1": path})
    with pytest.raises(UserError, match=r"n.npy: has features that are not finite"):
        eval_set(tmp_path / "f", None, Speech2Text).read("a-1", model(2))
    write_table(tmp_path / "f/feats_shape", {"a-1": "x,2", "a-2": "3,2"})
    with pytest.raises(UserError, match="feats_shape: 'a-1' has 'x,2', not a number"):
        eval_set(tmp_path / "f", None, Speech2Text)
