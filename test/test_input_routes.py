"""The same audio by every route through a recipe: raw in any format, features in archives."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mtla_espnet.cli import main
from mtla_espnet.data.features.reader import FeatureTable
from mtla_espnet.data.kaldi.tables import read_table
from mtla_espnet.runner.runner import run_recipe

pytestmark = pytest.mark.espnet

CHECKOUT = Path(__file__).resolve().parents[1]
RECIPE = CHECKOUT / "egs2/smarthome/asr1"
OPTIONS = {
    "train_set": "train",
    "valid_set": "valid",
    "test_sets": "test",
    "lang": "en",
    "token_type": "char",
    "use_lm": "false",
    "nj": "2",
    "inference_nj": "1",
    "ngpu": "0",
    "batch_size": "4",
    "max_unaligned": "100",
    "inference_args": "--beam_size 2 --maxlenratio -5",
}
TINY = {"asr_config": RECIPE / "conf/train_asr_tiny.yaml"}
ROUTES = {
    "flac": TINY,
    "wav.ark": TINY | {"audio_format": "wav.ark"},
    "fbank": TINY | {"frontend": CHECKOUT / "conf/frontend/fbank.yaml"},
    "s3prl": TINY | {"frontend": CHECKOUT / "conf/frontend/s3prl_fbank.yaml"},
    "extracted": TINY | {"feats_type": "extracted"},
    "fairseq_zip": TINY | {"feats_type": "fairseq_zip"},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A recipe's directory after stage 1."""
    path = tmp_path_factory.mktemp("recipe")
    sizes = {"train": 24, "valid": 6, "test": 6}
    argv = [f"--{name}_utterances={count}" for name, count in sizes.items()]
    command = [sys.executable, "-m", "mtla_espnet", "prepare", "smarthome", *argv, "--nj", "2"]
    done = subprocess.run(command, cwd=path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return path


def run(root, route, stop_stage):
    """Run a route from stage 3 on; stages that it ran before are skipped."""
    options = OPTIONS | ROUTES[route] | {"dumpdir": f"dump_{route}", "expdir": f"exp_{route}"}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    run_recipe([*words, "--stage", "3", "--stop_stage", str(stop_stage)], root)
    return root / f"exp_{route}"


def experiment(exp):
    (path,) = exp.glob("asr_train_*")
    return path


def parameters(exp):
    return torch.load(experiment(exp) / "valid.acc.ave.pth", weights_only=True)


def test_flac_and_wav_ark_give_identical_models(root, monkeypatch):
    monkeypatch.chdir(root)
    flac, ark = (run(root, route, 12) for route in ("flac", "wav.ark"))
    first, second = parameters(flac), parameters(ark)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert value.equal(second[name]), name
    for table in ("text", "score"):
        found = [next(experiment(exp).glob(f"*/test/{table}")).read_bytes() for exp in (flac, ark)]
        assert found[0] == found[1] and found[0].count(b"\n") == 6


def test_features_in_files_are_those_of_the_model(root, monkeypatch):
    monkeypatch.chdir(root)
    online, ark, archive = (run(root, name, 12) for name in ("fbank", "extracted", "fairseq_zip"))
    tables = [
        FeatureTable(root / f"dump_{name}/{name}/train/feats.scp")
        for name in ("extracted", "fairseq_zip")
    ]
    for key in tables[0]:
        np.testing.assert_array_equal(tables[0][key], tables[1][key])
    for name, value in parameters(ark).items():
        assert value.equal(parameters(archive)[name]), name
    # The front end has no parameters, and its features differ by rounding.
    for name, value in parameters(online).items():
        torch.testing.assert_close(value, parameters(ark)[name], atol=5e-3, rtol=0)
    for exp in (ark, archive):
        (table,) = experiment(exp).glob("*/test/text")
        assert len(read_table(table)) == 6
    sums = [
        np.load(next(exp.glob("asr_stats_*")) / "train/feats_stats.npz") for exp in (online, ark)
    ]
    assert sums[0]["count"] == sums[1]["count"]
    np.testing.assert_allclose(sums[0]["sum"], sums[1]["sum"], rtol=1e-4)


def test_an_upstream_of_s3prl_is_trained_on_and_decoded(root, monkeypatch):
    monkeypatch.chdir(root)
    exp = run(root, "s3prl", 12)
    (table,) = experiment(exp).glob("*/test/text")
    assert len(read_table(table)) == 6
    assert (root / "exp_s3prl/asr_stats_raw_en_char_s3prl_fbank").is_dir()


def test_manifests_of_fairseq_are_trained_on_and_decoded(root, monkeypatch):
    monkeypatch.chdir(root)
    sets = [f"data/{name}" for name in ("train", "valid", "test")]
    assert main(["feats", "fbank-zip", *sets, "s2t", "--nj", "1"]) == 0
    text = "transforms: {'*': [utterance_cmvn], _train: [utterance_cmvn]}\n"
    with open("s2t/config.yaml", "a") as stream:
        stream.write(text)
    options = OPTIONS | TINY | {"feats_type": "fairseq_zip", "fairseq_dir": f"{root}/s2t"}
    # Fairseq's max_tokens: frames of a batch with its padding.
    options |= {"asr_args": "--batch_type length --batch_bins 2000"}
    (root / "manifests").mkdir()
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    run_recipe([*words, "--stop_stage", "13"], root / "manifests")
    (table,) = root.glob("manifests/exp/asr_train_*/*/test/text")
    assert len(read_table(table)) == 6
    config = (experiment(root / "manifests/exp") / "config.yaml").read_text()
    assert "normalize: utterance_mvn" in config and "input_size: 80" in config
