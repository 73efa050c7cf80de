import json
import math

import espnet2.train.trainer
import pytest
import torch
from espnet2.train.reporter import Reporter

from mtla_espnet.tasks import trainer
from mtla_espnet.tasks.register import run_espnet

pytestmark = pytest.mark.espnet


class Killed(Exception):
    pass


class ExplodesWhenSaved:
    def __reduce__(self):
        raise Killed


def test_save_whole_leaves_the_old_file_when_saving_fails(tmp_path):
    path = tmp_path / "model.pth"
    trainer.save_whole({"weight": torch.ones(3)}, path)
    before = path.read_bytes()
    with pytest.raises(Killed):
        trainer.save_whole({"weight": torch.zeros(1000), "last": ExplodesWhenSaved()}, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_save_whole_gives_the_same_bytes_under_every_name(tmp_path):
    for name in ("one.pth", "another.pth"):
        trainer.save_whole({"weight": torch.ones(3)}, tmp_path / name)
    assert (tmp_path / "one.pth").read_bytes() == (tmp_path / "another.pth").read_bytes()


def test_training_summary_counts_all_epochs():
    reporter = Reporter()
    batches = {1: 5, 2: 4}
    for epoch, count in batches.items():
        reporter.set_epoch(epoch)
        for phase in ("train", "valid"):
            with reporter.observe(phase) as sub_reporter:
                for _ in range(count):
                    sub_reporter.register({"loss": 1.0})
                    sub_reporter.next()
    model = torch.nn.Linear(3, 2)
    model.bias.requires_grad = False
    summary = trainer.training_summary(reporter, model, accum_grad=2)
    seconds = sum(
        reporter.stats[epoch][phase]["time"].total_seconds()
        for epoch in batches
        for phase in ("train", "valid")
    )
    assert summary == {
        "parameters": 6,
        "epochs": 2,
        "updates": 5 // 2 + 4 // 2,
        "train_s": round(seconds, 3),
        "device": "cpu",
        "processes": 1,
        "threads": torch.get_num_threads(),
    }


def train(corpus, directory, *more):
    run_espnet("espnet2.bin.asr_train", [*corpus.arguments(directory), *more])


def load(path):
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize("dies_at", ["checkpoint.pth", "2epoch.pth", "training.json"])
def test_training_goes_on_after_dying_in_any_save(corpus, tmp_path, monkeypatch, dies_at):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(corpus, whole)
    train(corpus, broken, "--max_epoch", "1")

    def save_but_die(save):
        def wrapped(first, second):
            path = next(each for each in (first, second) if hasattr(each, "name"))
            if path.name == dies_at:
                raise Killed
            save(first, second)

        return wrapped

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "save_whole", save_but_die(trainer.save_whole))
        patch.setattr(trainer, "write_json", save_but_die(trainer.write_json))
        with pytest.raises(Killed):
            train(corpus, broken)
    assert load(broken / "checkpoint.pth")["reporter"]["epoch"] == 1
    assert espnet2.train.trainer.torch is torch

    train(corpus, broken)
    for name in ("2epoch.pth", "valid.acc.ave.pth"):
        expected, result = load(whole / name), load(broken / name)
        assert expected.keys() == result.keys()
        for key in expected:
            torch.testing.assert_close(result[key], expected[key])
    for key in ("parameters", "epochs", "updates"):
        summaries = [json.loads((each / "training.json").read_text()) for each in (whole, broken)]
        assert summaries[0][key] == summaries[1][key]
    assert summaries[0]["updates"] == 2 * math.ceil(4 / 2)
