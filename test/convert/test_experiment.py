"""An experiment with heads becomes one with latents, which decodes and scores as before."""

import argparse

import numpy as np
import pytest
import soundfile
import torch
import yaml

from mtla_espnet.cli import main
from mtla_espnet.config import lay_attention
from mtla_espnet.inference.speech2text import Speech2Text
from mtla_espnet.json_files import read_json
from quick_training import QUICK_TRAINING

pytestmark = pytest.mark.espnet
RATE_HZ = 8000
WORDS = {"utt1": "on off", "utt2": "up", "utt3": "off down up", "utt4": "down on"}
TOKENS = ["<blank>", "<unk>", "<space>", *"dfnopuw", "<sos/eos>"]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """A recipe's directory with a dump of four utterances, named relative to it."""
    directory = tmp_path_factory.mktemp("recipe")
    data = directory / "dump/raw/train"
    data.mkdir(parents=True)
    random = np.random.default_rng(0)
    for number, name in enumerate(WORDS):
        samples = random.uniform(-0.5, 0.5, 4000 + 900 * number)
        soundfile.write(data / f"{name}.wav", samples, RATE_HZ)
    lines = [f"{name} dump/raw/train/{name}.wav\n" for name in WORDS]
    (data / "wav.scp").write_text("".join(lines))
    (data / "text").write_text("".join(f"{name} {words}\n" for name, words in WORDS.items()))
    return directory


def experiment(recipe, attention, conf=None):
    """A trained model with random weights, as ESPnet's training would leave it."""
    directory = recipe / "exp" / f"asr_{attention}"
    if directory.exists():
        return directory
    from mtla_espnet.tasks.register import register

    register()
    from espnet2.tasks.asr import ASRTask

    files = [["dump/raw/train/wav.scp", "speech", "sound"], ["dump/raw/train/text", "text", "text"]]
    config = vars(ASRTask.get_parser().parse_args([])) | {
        "token_list": TOKENS,
        "token_type": "char",
        "frontend_conf": {"fs": RATE_HZ, "n_fft": 256, "hop_length": 80, "n_mels": 20},
        "normalize": None,
        "encoder": "conv1d_conformer",
        "encoder_conf": {
            "output_size": 32, "attention_heads": 2, "linear_units": 32, "num_blocks": 1
        },
        "decoder": "decoder_only",
        "decoder_conf": {
            "attention": attention, "attention_heads": 4, "linear_units": 32, "num_blocks": 2,
            "attention_conf": conf or {},
        },
        "train_data_path_and_name_and_type": files,
        "valid_data_path_and_name_and_type": files,
    }  # fmt: skip
    torch.manual_seed(1)
    model = ASRTask.build_model(argparse.Namespace(**config))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    directory.mkdir(parents=True)
    torch.save(model.state_dict(), directory / "valid.acc.ave.pth")
    (directory / "config.yaml").write_text(yaml.safe_dump(config))
    (directory / "inference.yaml").write_text("beam_size: 2\nctc_weight: 0.0\n")
    return directory


def converted(source, out, *options):
    call = ["convert", "--to", *options, str(source), str(out)]
    assert main(call) == 0
    return read_json(out / "conversion.json")["models"]


@pytest.mark.parametrize(("attention", "groups"), [("mha", 4), ("gqa", 2), ("mqa", 1)])
def test_with_all_sizes_loss_and_hypotheses_are_the_same(recipe, attention, groups, capsys):
    source, out = experiment(recipe, attention), recipe / "exp" / f"asr_whole_{attention}"
    sizes = ["--kv_lora_rank", str(8 * groups), "--qk_rope_head_dim", str(8 * groups)]
    rows = converted(source, out, "mla", *sizes)
    assert [row["model"] for row in rows] == ["given", f"mla, rank {8 * groups}"]
    assert [row["numbers a position"] for row in rows] == 2 * [16 * groups]
    assert rows[1]["loss"] == pytest.approx(rows[0]["loss"], rel=1e-4)
    assert rows[1]["accuracy"] == pytest.approx(rows[0]["accuracy"])
    told = capsys.readouterr().out
    assert "| given " in told and f"--pretrained_model {out}/valid.acc.ave.pth" in told
    overlay = yaml.safe_load((out / "mla_converted.yaml").read_text())["decoder_conf"]
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert config["decoder_conf"] == overlay | {
        "attention_heads": 4, "linear_units": 32, "num_blocks": 2
    }  # fmt: skip
    speech, _ = soundfile.read(recipe / "dump/raw/train/utt3.wav")
    found = [
        Speech2Text.from_pretrained(path, maxlenratio=0.5, minlenratio=0.3)(speech)[0]
        for path in (source, out)
    ]
    assert found[0][2] == found[1][2] and len(found[0][2]) > 0


def test_mtla_of_mha_and_of_the_mla_between(recipe):
    source = experiment(recipe, "mha")
    rows = converted(source, recipe / "exp/asr_mtla", "mtla", "--down_rate", "3")
    assert [row["numbers a position"] for row in rows] == [64, 36, 12]
    between = recipe / "exp/asr_mla"
    converted(source, between, "mla")
    again = converted(between, recipe / "exp/asr_again", "mtla", "--down_rate", "3")
    assert again[0]["loss"] == pytest.approx(rows[1]["loss"], rel=1e-5)
    assert again[-1]["loss"] == pytest.approx(rows[2]["loss"], rel=1e-4)
    config = yaml.safe_load((recipe / "exp/asr_again/config.yaml").read_text())["decoder_conf"]
    assert (config["attention"], config["attention_conf"]["down_rate"]) == ("mtla", 3)


def test_a_converted_experiment_is_trained_on_by_its_recipes_trainer(recipe):
    """The overlay says what the decoder is, and every parameter is that of the conversion."""
    from espnet2.tasks.asr import ASRTask

    out, training = recipe / "exp/asr_to_train", recipe / "exp/asr_trained_on"
    converted(experiment(recipe, "mha"), out, "mtla", "--down_rate", "2")
    given = yaml.safe_load((recipe / "exp/asr_mha/config.yaml").read_text())
    overlay = yaml.safe_load((out / "mtla_converted.yaml").read_text())
    laid = lay_attention(given, overlay, "mtla_converted.yaml")
    kept = ("token_list", "token_type", "frontend_conf", "normalize", "encoder", "encoder_conf")
    config = {name: laid[name] for name in (*kept, "decoder", "decoder_conf")} | QUICK_TRAINING
    config |= {
        "optim": "sgd",
        "optim_conf": {"lr": 0.0},
        "batch_size": 2,
        "output_dir": str(training),
    }
    shapes = recipe / "shapes"
    shapes.write_text("".join(f"{name} 8000\n" for name in WORDS))
    data = []
    for name, kind, file in (("speech", "sound", "wav.scp"), ("text", "text", "text")):
        lines = (recipe / "dump/raw/train" / file).read_text().replace(" dump/", f" {recipe}/dump/")
        (recipe / file).write_text(lines)
        data.append([str(recipe / file), name, kind])
    for mode in ("train", "valid"):
        config |= {f"{mode}_data_path_and_name_and_type": data, f"{mode}_shape_file": [str(shapes)]}
    (recipe / "training.yaml").write_text(yaml.safe_dump(config))
    before = torch.load(out / "valid.acc.ave.pth", weights_only=True)
    init = ["--init_param", str(out / "valid.acc.ave.pth")]
    ASRTask.main(cmd=["--config", str(recipe / "training.yaml"), *init])
    after = torch.load(training / "1epoch.pth", weights_only=True)
    assert before.keys() == after.keys()
    for name, value in before.items():
        if "running" not in name and "num_batches" not in name:  # statistics of the encoder
            assert torch.equal(after[name], value), name
    assert (training / "valid.acc.ave.pth").exists()


def refused(capsys, *call):
    code = main(["convert", *map(str, call)])
    (line,) = capsys.readouterr().err.splitlines()
    return code, line


def test_what_cannot_be_converted(recipe, tmp_path, capsys):
    source, out = experiment(recipe, "mha"), tmp_path / "out"
    call = ["--to", "mla", source, out, "--kv_lora_rank"]
    code, line = refused(capsys, *call, 66)
    assert code == 1 and "kv_lora_rank 66: say an even number from 4 to 64" in line
    assert not out.exists() and not list(tmp_path.iterdir())
    mtla = experiment(recipe, "mtla", {"down_rate": 2})
    code, line = refused(capsys, "--to", "mla", mtla, out)
    assert "its decoder is mtla: mha, gqa, mqa and mla are converted" in line
    code, line = refused(capsys, "--to", "mla", experiment(recipe, "mla"), out)
    assert "is MLA already; --to mtla merges positions" in line
    code, line = refused(capsys, "--to", "mla", source, out, "--calibration", "a.txt")
    assert code == 2 and "an experiment is calibrated on its data" in line
    (recipe / "dump/raw").rename(recipe / "dump/away")
    try:
        code, line = refused(capsys, "--to", "mla", source, out)
        assert "dump/raw/train/wav.scp is not there, which is needed to calibrate" in line
    finally:
        (recipe / "dump/away").rename(recipe / "dump/raw")
