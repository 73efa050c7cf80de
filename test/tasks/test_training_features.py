"""What ESPnet's trainer offers works through ours: each by its effect."""

import glob

import pytest
import torch
import yaml

from mtla_espnet.tasks.register import run_espnet

pytestmark = pytest.mark.espnet


def train(corpus, directory, *more):
    run_espnet("espnet2.bin.asr_train", [*corpus.arguments(directory), *more])
    return torch.load(directory / "latest.pth", weights_only=True)


@pytest.fixture(scope="module")
def plain(corpus, tmp_path_factory):
    directory = tmp_path_factory.mktemp("plain")
    return directory, train(corpus, directory, "--max_epoch", "1")


def test_frozen_parameters_stay(corpus, plain, tmp_path):
    start = plain[0] / "1epoch.pth"
    argv = ["--init_param", str(start), "--freeze_param", "encoder", "decoder.embed"]
    after = train(corpus, tmp_path, "--max_epoch", "1", *argv)
    before = plain[1]
    moved = {
        name
        for name, value in before.items()
        if value.is_floating_point() and "running" not in name and not value.equal(after[name])
    }
    assert moved
    assert not [name for name in moved if name.startswith(("encoder.", "decoder.embed."))]


def test_a_part_of_a_pretrained_model_is_taken_by_espnets_rules(corpus, plain, tmp_path):
    rules = f"{plain[0] / '1epoch.pth'}:encoder:encoder:encoder.after_norm"
    after = train(
        corpus, tmp_path, "--max_epoch", "1", "--init_param", rules, "--optim_conf", "lr=0.0",
        "--seed", "7",
    )  # fmt: skip
    for name, value in plain[1].items():
        if (
            name.startswith(("encoder.", "decoder."))
            and name.endswith("weight")
            and value.dim() > 1
        ):
            taken = name.startswith("encoder.") and not name.startswith("encoder.after_norm")
            assert value.equal(after[name]) == taken, name


def test_accumulated_gradients_are_those_of_a_larger_batch(corpus, tmp_path):
    options = ["--max_epoch", "1", "--optim", "sgd", "--optim_conf", "lr=0.1", "--grad_clip", "1e6"]
    options += ["--encoder", "conv1d_transformer", "--model_conf", "ctc_weight=0.0"]
    for name in ("dropout_rate", "positional_dropout_rate", "attention_dropout_rate"):
        options += ["--encoder_conf", f"{name}=0.0"]
    for name in ("dropout_rate", "self_attention_dropout_rate"):
        options += ["--decoder_conf", f"{name}=0.0"]
    once = train(corpus, tmp_path / "once", *options, "--batch_size", "4")
    twice = train(corpus, tmp_path / "twice", *options, "--accum_grad", "2")
    small = train(corpus, tmp_path / "small", *options)
    for name, value in once.items():
        if value.is_floating_point():
            torch.testing.assert_close(twice[name], value, rtol=1e-4, atol=1e-5)
    assert any(not value.allclose(small[name], atol=1e-3) for name, value in once.items())


def test_use_amp_changes_nothing_on_a_cpu(corpus, plain, tmp_path):
    after = train(corpus, tmp_path, "--max_epoch", "1", "--use_amp", "true")
    assert all(value.equal(after[name]) for name, value in plain[1].items())


def test_scalars_and_plots_are_written(corpus, tmp_path):
    train(corpus, tmp_path, "--use_tensorboard", "true", "--use_matplotlib", "true")
    images = {path.name for path in (tmp_path / "images").iterdir()}
    assert {"loss.png", "acc.png", "optim0_lr0.png", "inputs.png"} <= images
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (train_events,) = glob.glob(f"{tmp_path}/tensorboard/train/events*")
    found = EventAccumulator(train_events)
    found.Reload()
    assert {"loss", "acc", "optim0_lr0"} <= {tag.split("/")[-1] for tag in found.Tags()["scalars"]}
    assert any(found.Scalars(tag) for tag in found.Tags()["scalars"])


def test_several_averages_are_made_of_what_is_kept(corpus, tmp_path):
    train(corpus, tmp_path, "--max_epoch", "3", "--keep_nbest_models", "1", "2", "3")
    assert {path.name for path in tmp_path.glob("valid.acc.ave*")} == {
        *("valid.acc.ave_1best.pth", "valid.acc.ave_2best.pth", "valid.acc.ave_3best.pth"),
        "valid.acc.ave.pth",
    }
    models = [torch.load(tmp_path / f"{n}epoch.pth", weights_only=True) for n in (1, 2, 3)]
    average = torch.load(tmp_path / "valid.acc.ave_3best.pth", weights_only=True)
    for name, value in average.items():
        if value.is_floating_point():
            expected = sum(model[name] for model in models) / 3
            torch.testing.assert_close(value, expected)


def test_the_throughput_is_counted_in_the_inputs(corpus, tmp_path):
    train(corpus, tmp_path, "--max_epoch", "1")
    states = torch.load(tmp_path / "checkpoint.pth", weights_only=True)
    # Four utterances of 3200 to 5600 samples in two batches; speech is given as samples.
    assert states["reporter"]["stats"][1]["train"]["inputs"] == (3200 + 4000 + 4800 + 5600) / 2
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["max_epoch"] == 1
