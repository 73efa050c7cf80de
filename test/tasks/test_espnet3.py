"""espnet3's ASR task and stages with our classes."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from mtla_espnet.files import UserError

if importlib.util.find_spec("lightning") is None:
    pytest.skip("espnet3's packages are not installed", allow_module_level=True)
pytestmark = pytest.mark.espnet
CHECKOUT = Path(__file__).resolve().parents[2]
RECIPE = CHECKOUT / "egs3/smarthome/asr"
STAGES = "create_dataset train_tokenizer collect_stats train infer measure pack_model".split()


@pytest.fixture
def data_dir(tmp_path):
    """Two segments of a recording of one second at 8 kHz."""
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "a.wav", rng.uniform(-0.5, 0.5, 8000), 8000)
    (tmp_path / "wav.scp").write_text(f"a {tmp_path / 'a.wav'}\n")
    (tmp_path / "segments").write_text("a-1 a 0.0 0.5\na-2 a 0.5 0.75\n")
    (tmp_path / "text").write_text("a-1 one\na-2 two words\n")
    return tmp_path


def test_our_classes_are_choices_of_espnet3():
    from espnet3.systems.esp2_asr.task import ASRTask as Theirs
    from espnet3.systems.esp2_asr.task import decoder_choices, encoder_choices, frontend_choices

    from mtla_espnet.tasks.espnet3 import ESPnet3ASRTask

    assert issubclass(ESPnet3ASRTask, Theirs) and ESPnet3ASRTask is not Theirs
    assert decoder_choices.get_class("decoder_only").__module__.startswith("mtla_espnet")
    assert encoder_choices.get_class("conv1d_conformer").__module__.startswith("mtla_espnet")
    assert frontend_choices.get_class("fbank").__module__.startswith("mtla_espnet")


def test_a_data_directory_is_a_data_set(data_dir):
    from mtla_espnet.tasks.espnet3 import Dataset, texts

    items = Dataset(str(data_dir), with_id=True)
    assert [items[number]["utt_id"] for number in range(len(items))] == ["a-1", "a-2"]
    assert items[1]["text"] == "two words" and items[1]["speech"].shape == (4000,)
    assert Dataset(str(data_dir), fs=8000)[0].keys() == {"speech", "text"}
    assert texts(str(data_dir)) == ["one", "two words"]


def test_text_without_audio_is_an_error(data_dir):
    from mtla_espnet.tasks.espnet3 import Dataset

    (data_dir / "text").write_text("a-1 one\na-2 two\na-3 three\n")
    with pytest.raises(UserError, match="'a-3' has a text and no audio"):
        Dataset(str(data_dir))


def make_recipe(directory, processes):
    """Copy the recipe, with a model and a corpus that take seconds.

    Args:
        processes: espnet3's workers are processes, as by default; each imports ESPnet.
    """
    recipe = directory / "egs3/smarthome/asr"
    made = shutil.ignore_patterns("__pycache__", "data", "downloads", "exp")
    shutil.copytree(RECIPE, recipe, ignore=made)
    path = recipe / "conf/training.yaml"
    config = yaml.safe_load(path.read_text())
    options = {"processes": processes, "dashboard_address": None}
    workers = {"parallel": {"env": "local", "n_workers": 1, "options": options}}
    sizes = {"train_utterances": 12, "valid_utterances": 4, "test_utterances": 4}
    config["create_dataset"]["corpus"] = sizes
    config["tokenizer"]["vocab_size"] = 40
    small = {"linear_units": 16, "num_blocks": 1, "attention_heads": 2}
    config["model"]["encoder_conf"] |= small | {"output_size": 16}
    config["model"]["decoder_conf"] |= small
    config["dataloader"]["train"]["iter_factory"]["batches"]["batch_size"] = 4
    config["trainer"] |= {"max_epochs": 2, "accelerator": "cpu"}
    path.write_text(yaml.safe_dump(config | workers))
    path = recipe / "conf/inference.yaml"
    config = yaml.safe_load(path.read_text().replace("ave_5best", "ave_1best"))
    path.write_text(yaml.safe_dump(config | workers))
    return recipe


@pytest.mark.parametrize("processes", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_stages_of_espnet3(tmp_path, processes):
    recipe = make_recipe(tmp_path, processes)
    roles = ("training", "inference", "metrics", "publication")
    configs = [word for role in roles for word in (f"--{role}_config", f"conf/{role}.yaml")]
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"}
    environment |= {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "run.py", "--stages", *STAGES, *configs],
        cwd=recipe, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    exp = recipe / "exp/training"
    assert yaml.safe_load((exp / "config.yaml").read_text())["decoder"] == "decoder_only"
    spoken = (recipe / "data/test/text").read_text().split("\n")[:-1]
    heard = (exp / "inference/test/text.scp").read_text().split("\n")[:-1]
    assert [line.split()[0] for line in heard] == [line.split()[0] for line in spoken]
    assert re.search(r'"WER"|wer', (exp / "inference/metrics.json").read_text())
    pack = exp / "model_pack"
    assert {"training.yaml", "inference.yaml"} <= {path.name for path in (pack / "conf").iterdir()}
    assert list(pack.rglob("valid.acc.ave_1best.pth")) and list(pack.rglob("tokens.txt"))
