import logging

import numpy as np
import pytest
import soundfile
import torch
import yaml

from mtla_espnet.files import UserError
from mtla_espnet.search.speech2text import NOTHING, Recognizer, transcribe

OPTIONS = {"beam_size": 3, "ctc_weight": 0.3, "maxlenratio": -12}

pytestmark = pytest.mark.espnet


@pytest.fixture(scope="module")
def recognizer(model):
    return Recognizer(model.config_file, model.file, OPTIONS, batch_size=3)


@pytest.fixture
def wave(recipe):
    return soundfile.read(recipe / "dump/raw/test/utt1.flac", dtype="float32")[0]


def test_it_takes_rate_and_paths_from_the_configuration(recognizer, recipe):
    assert recognizer.rate_hz == 8000
    stats = recipe / "exp/asr_stats/feats_stats.npz"
    assert recognizer.speech2text.asr_train_args.normalize_conf["stats_file"] == str(stats)


def test_an_utterance_too_short_to_decode_is_nothing_and_is_named(recognizer, wave, caplog):
    with caplog.at_level(logging.WARNING):
        found = recognizer({"a": wave, "short": wave[:30], "b": wave})
    assert found[0].token_int == found[2].token_int
    assert found[0].score == pytest.approx(found[2].score, abs=1e-4)
    assert found[1] == NOTHING
    assert "short: too short to decode" in caplog.text
    assert recognizer({"alone": wave[:30]}) == [NOTHING]


def test_any_rate_and_format_is_transcribed(recognizer, model, wave, tmp_path):
    same, other = tmp_path / "same.wav", tmp_path / "other.ogg"
    soundfile.write(same, wave, 8000, subtype="FLOAT")
    soundfile.write(other, np.repeat(wave[:, None], 2, axis=1), 8000)
    found = transcribe(model.directory, [same, other], beam_size=3, device="cpu")
    assert [path for path, _ in found] == [same, other]
    plain = Recognizer(model.config_file, model.file, {"beam_size": 3, "ctc_weight": 0.3})
    assert found[0][1]
    assert found[0][1] == plain({"same": wave})[0].text


def test_another_rate_is_resampled(model, wave, tmp_path, monkeypatch):
    seen = {}

    def spy(self, waves):
        seen.update(waves)
        return [NOTHING]

    monkeypatch.setattr(Recognizer, "__call__", spy)
    path = tmp_path / "a.wav"
    soundfile.write(path, np.repeat(wave, 2), 16000, subtype="FLOAT")
    transcribe(model.directory, [path], device="cpu")
    assert len(seen[str(path)]) == len(wave)


class TestErrors:
    """Each is one line that names what is wrong."""

    def test_audio(self, model, tmp_path):
        with pytest.raises(UserError, match="none.wav: no such file"):
            transcribe(model.directory, [tmp_path / "none.wav"])
        (tmp_path / "text.wav").write_text("not audio")
        with pytest.raises(UserError, match="text.wav: cannot be read as audio"):
            transcribe(model.directory, [tmp_path / "text.wav"])

    def test_experiment(self, recipe, tmp_path):
        audio = [recipe / "dump/raw/test/utt1.flac"]
        with pytest.raises(UserError, match="has no config.yaml"):
            transcribe(tmp_path, audio)
        (tmp_path / "config.yaml").write_text("token_list: [a]\n")
        with pytest.raises(UserError, match="has none of valid.acc.ave.pth, valid.acc.best.pth"):
            transcribe(tmp_path, audio)

    @pytest.mark.parametrize("content", ["just words", "a: [", "a: 1"])
    def test_configuration(self, model, tmp_path, content):
        config = tmp_path / "config.yaml"
        config.write_text(content)
        with pytest.raises(UserError, match="config.yaml: not a"):
            Recognizer(config, model.file, OPTIONS)

    def test_file_named_in_the_configuration(self, model, tmp_path):
        config = yaml.safe_load(model.config_file.read_text())
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
        with pytest.raises(UserError, match="names exp/asr_stats/feats_stats.npz, which is not"):
            Recognizer(tmp_path / "config.yaml", model.file, OPTIONS)

    def test_model_file(self, model, tmp_path):
        path = tmp_path / "model.pth"
        with pytest.raises(UserError, match="model.pth: no such model file"):
            Recognizer(model.config_file, path, OPTIONS)
        for content in (b"", b"text", model.file.read_bytes()[:-1000]):
            path.write_bytes(content)
            with pytest.raises(UserError, match="model.pth: not a whole model file"):
                Recognizer(model.config_file, path, OPTIONS)
        torch.save({"model": {}, "epoch": 3}, path)
        with pytest.raises(UserError, match="model.pth: holds no model parameters alone"):
            Recognizer(model.config_file, path, OPTIONS)

    def test_model_of_another_configuration(self, model, transformer, tmp_path):
        with pytest.raises(UserError, match=r"not a model of .*config.yaml: it has no 'decoder"):
            Recognizer(model.config_file, transformer.file, OPTIONS)
        state = torch.load(model.file, weights_only=True)
        name = next(name for name in state if name.startswith("encoder.") and state[name].dim())
        state[name] = torch.zeros(3, *state[name].shape)
        torch.save(state, tmp_path / "model.pth")
        with pytest.raises(UserError, match="parameters do not have the shapes of"):
            Recognizer(model.config_file, tmp_path / "model.pth", OPTIONS)

    def test_option(self, model):
        with pytest.raises(UserError, match="decoding option 'beam' is not known here"):
            Recognizer(model.config_file, model.file, {"beam": 3})

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
    def test_device(self, model):
        with pytest.raises(UserError, match="CUDA is not available"):
            Recognizer(model.config_file, model.file, OPTIONS, device="cuda")
        with pytest.raises(UserError, match="device 'gpu' is unknown"):
            Recognizer(model.config_file, model.file, OPTIONS, device="gpu")
