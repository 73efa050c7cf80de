"""What a model cannot be trained on is listed before its training, which too much of it stops."""

from pathlib import Path

import pytest
import yaml

from audio_files import make_data_dir, noise, write_wav
from mtla_espnet.data.kaldi.rejected import read_rejected
from mtla_espnet.data.kaldi.tables import read_table, write_table
from mtla_espnet.files import UserError
from mtla_espnet.runner.runner import run_recipe
from quick_training import QUICK_TRAINING

pytestmark = pytest.mark.espnet

ARGV = [
    *("--train_set", "train", "--valid_set", "dev", "--test_sets", "test", "--fs", "8k"),
    *("--token_type", "char", "--asr_config", "train.yaml", "--use_lm", "false"),
    *("--nj", "1", "--ngpu", "0", "--stage", "3", "--stop_stage", "11"),
]
SMALL = {"attention_heads": 2, "linear_units": 8, "num_blocks": 1}
CONFIG = {
    "frontend_conf": {"n_fft": 256, "hop_length": 80, "n_mels": 20, "center": False},
    "encoder": "conv1d_conformer",
    "encoder_conf": {"output_size": 8, **SMALL},
    "decoder": "decoder_only",
    "decoder_conf": SMALL,
    "model_conf": {"ctc_weight": 0.3},
    "batch_size": 2,
    **QUICK_TRAINING,
}
# 0.5 s are 12 frames of this encoder
LONG = "ON OFF ON OFF ON"


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, count in {"train": 6, "dev": 2, "test": 1}.items():
        recordings = {
            f"s-{number}": write_wav(tmp_path / f"{name}-{number}.wav", noise(4000), 8000)
            for number in range(count)
        }
        make_data_dir(tmp_path / "data" / name, recordings)
    write_table(tmp_path / "data/train/text", dict.fromkeys(train_ids(), "ON OFF") | {"s-4": LONG})
    write_config(tmp_path, CONFIG)
    return tmp_path


def train_ids():
    return [f"s-{number}" for number in range(6)]


def write_config(root, config):
    (root / "train.yaml").write_text(yaml.safe_dump(config))


def exp_dir(root):
    return root / "exp/asr_train_raw_8k_char"


def test_too_many_texts_that_ctc_cannot_align_are_one_line_and_nothing_is_trained(root):
    with pytest.raises(UserError) as caught:
        run_recipe(ARGV, root)
    place = f"{root}/dump/raw_8k/train/text:5: 's-4'"
    reason = "CTC needs 18 frames for its 16 tokens, and the encoder makes 12 of the audio"
    assert str(caught.value) == (
        f"{exp_dir(root)}/limits/train/unaligned.tsv: CTC cannot align the texts of 1 of 6 "
        "utterances (16.7 %, more than --max_unaligned 10 %): sub-sample less, take larger tokens, "
        f"or leave CTC out; the first: {place}: {reason}"
    )
    assert not list(exp_dir(root).glob("*.pth")) and not (exp_dir(root) / ".done.11").exists()


def test_a_few_such_texts_are_listed_and_trained_on(root, capsys):
    run_recipe([*ARGV, "--max_unaligned", "20"], root)
    place = exp_dir(root) / "limits/train"
    assert [each.utterance for each in read_rejected(place / "unaligned.tsv")] == ["s-4"]
    said = "train: CTC cannot align the texts of 1 of 6 utterances, see"
    assert f"{said} {place}: the other losses have them" in capsys.readouterr().out
    assert trained_on(root) == [train_ids()] * 2


def test_without_ctc_a_text_may_be_long(root):
    write_config(root, CONFIG | {"model_conf": {"ctc_weight": 0.0}})
    run_recipe(ARGV, root)
    assert not (exp_dir(root) / "limits").exists()
    assert (exp_dir(root) / "valid.acc.ave.pth").exists()


@pytest.fixture
def with_a_short_one(root):
    # ESPnet's encoder needs 15 frames; 0.15 s are 12 of 256 samples every 80
    encoder = {"encoder": "conformer", "encoder_conf": {**SMALL, "output_size": 8}}
    encoder["encoder_conf"]["input_layer"] = "conv2d8"
    write_config(root, CONFIG | encoder | {"model_conf": {"ctc_weight": 0.0}})
    write_wav(root / "train-2.wav", noise(1200), 8000)
    return root


def test_too_much_that_the_encoder_cannot_take_is_one_line(with_a_short_one):
    root = with_a_short_one
    with pytest.raises(UserError) as caught:
        run_recipe(ARGV, root)
    assert str(caught.value) == (
        f"{exp_dir(root)}/limits/train/rejected.tsv: 1 of 6 utterances rejected "
        f"(16.7 %, more than --max_rejected 1 %); the first: {root}/dump/raw_8k/train/wav.scp:3: "
        "'s-2': 1200 samples are too short for the encoder"
    )
    assert not list(exp_dir(root).glob("*.pth"))


@pytest.mark.parametrize("splits", [1, 2])
def test_a_few_that_the_encoder_cannot_take_are_left_out(with_a_short_one, splits, capsys):
    root = with_a_short_one
    run_recipe([*ARGV, "--max_rejected", "20", "--num_splits_asr", str(splits)], root)
    place = exp_dir(root) / "limits/train"
    assert [each.utterance for each in read_rejected(place / "rejected.tsv")] == ["s-2"]
    assert f"train: 1 utterances are left out, see {place}" in capsys.readouterr().out
    assert trained_on(root) == [[key for key in train_ids() if key != "s-2"]] * 2
    assert (exp_dir(root) / "valid.acc.ave.pth").exists()


def trained_on(root):
    """Return the ids that each file of shapes names; a split one is a directory."""
    config = yaml.safe_load((exp_dir(root) / "config.yaml").read_text())
    assert "/exp/asr_stats_raw_8k_char/valid/" in config["valid_shape_file"][0]
    found = []
    for path in map(Path, config["train_shape_file"]):
        files = path.glob("split.*") if path.is_dir() else [path]
        found.append(sorted(key for file in files for key in read_table(file)))
    return found


def test_a_set_smaller_than_the_processes(root, monkeypatch):
    run_recipe([*ARGV[:-1], "10"], root)
    # as torchrun says it
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "3"}.items():
        monkeypatch.setenv(name, value)
    argv = [*ARGV[:-4], "--max_unaligned", "20", "--stage", "11", "--stop_stage", "11"]
    message = "valid/speech_shape: 2 utterances cannot be split over 3 processes"
    with pytest.raises(UserError, match=message):
        run_recipe(argv, root)
    assert not (exp_dir(root) / "checkpoint.pth").exists()
