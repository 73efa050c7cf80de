"""A model on features in files hears audio: what made them is kept, and makes them again."""

import shutil

import numpy as np
import pytest
import soundfile

from mtla_espnet.cli import main
from mtla_espnet.data.features.format import EXTRACTOR_FILE, format_features
from mtla_espnet.data.features.reader import read_features
from mtla_espnet.data.kaldi.datadir import write_data_dir
from mtla_espnet.data.kaldi.tables import read_table
from mtla_espnet.files import UserError
from mtla_espnet.frontend.fbank import fbank_extractor
from mtla_espnet.inference.from_files import decode_recordings
from mtla_espnet.inference.speech2text import Speech2Text
from mtla_espnet.yaml_files import load_yaml
from tiny_whisper import write_whisper

pytestmark = pytest.mark.espnet

OPTIONS = {"beam_size": 3, "maxlenratio": -6}


@pytest.fixture
def data(tmp_path):
    wave = np.random.default_rng(0).normal(0, 0.1, 12_000)
    soundfile.write(tmp_path / "a.flac", wave, 16_000)
    write_data_dir(tmp_path / "data", {"a": tmp_path / "a.flac"}, {"a": "x"}, {"a": "a"})
    return tmp_path / "data"


def stored(directory):
    return read_features(read_table(directory / "feats.scp")["a"])


def same(one, other):
    assert [found[2] for found in one] == [found[2] for found in other] and one
    assert one[0][3].score == pytest.approx(other[0][3].score, abs=1e-4)


def test_filterbank_features(make_model, data, tmp_path):
    org, dump = tmp_path / "org", tmp_path / "dump"
    format_features(tmp_path / "data", org, "extracted", fbank_extractor(20), 8000)
    shutil.copy(tmp_path / "data/text", org)
    format_features(org, dump, "extracted", fbank_extractor(80), 16_000)
    kept = dump / EXTRACTOR_FILE
    assert load_yaml(kept) == {"fs": 8000, "frontend": "fbank", "frontend_conf": {"n_mels": 20}}

    more = {"input_size": 20, "frontend": None, "frontend_conf": {}}
    model = make_model(tmp_path / "recipe", "fbank", "decoder_only", more, attention="mtla")
    speech2text = Speech2Text.from_pretrained(model.directory, **OPTIONS)
    with pytest.raises(UserError, match="the model takes 20 features, and no extractor.yaml"):
        speech2text(tmp_path / "a.flac")
    expected = speech2text(stored(dump))

    shutil.copy(kept, model.directory)
    speech2text = Speech2Text.from_pretrained(model.directory, **OPTIONS)
    assert speech2text.rate_hz == 8000
    for value in (stored(dump), tmp_path / "a.flac", soundfile.read(tmp_path / "a.flac")):
        same(speech2text(value), expected)
    paths = [tmp_path / "a.flac"]
    (piece,) = decode_recordings("asr", model.directory, paths, options=OPTIONS, device="cpu")
    assert piece.text == expected[0][0]


def test_layers_of_an_encoder(make_model, data, tmp_path, monkeypatch):
    recipe, folder = tmp_path / "recipe", "downloads/whisper"
    write_whisper(recipe / folder)
    monkeypatch.chdir(recipe)  # the encoder is named as the recipe's configurations name it
    assert main(["feats", "transformers", str(data), "out", "--model", folder, "--nj", "1"]) == 0
    dump, features = recipe / "out/data", stored(recipe / "out/data")
    monkeypatch.chdir(tmp_path)
    layers = {"num_layers": 2, "layer_size": 16}
    more = {"frontend": "stored_layers", "frontend_conf": layers, "normalize": None}
    model = make_model(recipe, "stored", "decoder_only", more, attention="mtla")
    shutil.copy(dump / EXTRACTOR_FILE, model.directory)
    speech2text = Speech2Text.from_pretrained(model.directory, **OPTIONS)
    expected = speech2text(features)
    same(speech2text(tmp_path / "a.flac"), expected)

    (recipe / folder).rename(tmp_path / "elsewhere")
    speech2text = Speech2Text.from_pretrained(model.directory, **OPTIONS)
    same(speech2text(features), expected)
    with pytest.raises(UserError, match="features cannot be made: .*downloads/whisper"):
        speech2text(tmp_path / "a.flac")
