import json
import math
import random

import numpy as np
import pytest
import torch
from espnet2.train.reporter import Reporter

from mtla_espnet.files import UserError
from mtla_espnet.jobs.processes import SAVE_REQUEST
from mtla_espnet.tasks import midway
from mtla_espnet.tasks.register import run_espnet

pytestmark = pytest.mark.espnet


class Killed(BaseException):
    """As by SIGKILL: nothing of ESPnet or of ours catches it."""


def train(corpus, directory, *more):
    arguments = [
        *corpus.arguments(directory, ["dropout_rate=0.3"]),
        *("--batch_size", "1", "--save_interval_updates", "1"),
        *("--scheduler", "warmuplr", "--scheduler_conf", "warmup_steps=3"),
        *more,
    ]
    run_espnet("espnet2.bin.asr_train", arguments)


def request_at(number, monkeypatch, path):
    """Ask for a save while the `number`-th batch of this run is trained on."""
    seen = []

    def is_there(self, request):
        seen.append(path)
        if len(seen) == number:
            path.touch()
        return before(self, request)

    before = midway.Midway._is_there
    monkeypatch.setattr(midway.Midway, "_is_there", is_there)
    monkeypatch.setenv(SAVE_REQUEST, str(path))


def load(path):
    return torch.load(path, weights_only=True)


def train_until_save(number, monkeypatch, *arguments):
    """Train, and die right after a save inside an epoch, the `number`-th of this run."""
    saves = []

    def save_and_die(value, path):
        save_whole(value, path)
        saves.append(path)
        if len(saves) == number:
            raise Killed

    save_whole = midway.save_whole
    with monkeypatch.context() as patch:
        patch.setattr(midway, "save_whole", save_and_die)
        with pytest.raises(Killed):
            train(*arguments)


def assert_same(one, other):
    """Compare everything that a checkpoint holds but how long things took, to the last bit."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            if not str(key).endswith("time"):
                assert_same(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_same(*pair)
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, float) and math.isnan(one):
        assert math.isnan(other)
    else:
        assert one == other


@pytest.mark.parametrize(
    ("more", "deaths"),
    [
        ([], [6, 1]),  # in the second epoch, and again one update later
        (["--accum_grad", "2"], [2]),  # after the last update of an epoch
        (["--num_workers", "1"], [3]),
    ],
)
def test_a_training_killed_inside_an_epoch_goes_on_bit_for_bit(
    corpus, tmp_path, monkeypatch, more, deaths
):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(corpus, whole, *more)
    after_whole = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    for number in deaths:
        train_until_save(number, monkeypatch, corpus, broken, *more)
        assert (broken / midway.MIDWAY).exists()
    train(corpus, broken, *more)
    after_broken = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    assert_same(after_whole, after_broken)
    for name in ("1epoch.pth", "2epoch.pth", "checkpoint.pth", "valid.acc.ave.pth"):
        assert_same(load(whole / name), load(broken / name))
    updates = [
        json.loads((each / "training.json").read_text())["updates"] for each in (whole, broken)
    ]
    assert updates[0] == updates[1]
    assert not (broken / midway.MIDWAY).exists()
    assert not list(broken.glob(".*"))  # nothing under a temporary name


def test_a_training_that_is_asked_to_saves_ends_and_goes_on_bit_for_bit(
    corpus, tmp_path, monkeypatch
):
    whole, broken, request = tmp_path / "whole", tmp_path / "broken", tmp_path / "request"
    accumulated = ("--accum_grad", "2", "--save_interval_updates", "0")
    train(corpus, whole, *accumulated)
    with monkeypatch.context() as patch:
        request_at(1, patch, request)
        with pytest.raises(UserError, match="asked to save and end: run it again to go on"):
            train(corpus, broken, *accumulated)
    assert load(broken / midway.MIDWAY)["batches"] == 2  # an update
    request.unlink()
    train(corpus, broken, *accumulated)
    for name in ("1epoch.pth", "2epoch.pth", "valid.acc.ave.pth"):
        assert_same(load(whole / name), load(broken / name))


def test_saves_inside_an_epoch_change_nothing(corpus, tmp_path):
    train(corpus, tmp_path / "with")
    train(corpus, tmp_path / "without", "--save_interval_updates", "0")
    assert_same(load(tmp_path / "with/checkpoint.pth"), load(tmp_path / "without/checkpoint.pth"))


def test_a_training_that_does_not_resume_begins_anew(corpus, tmp_path, monkeypatch):
    train(corpus, tmp_path / "whole")
    broken = tmp_path / "broken"
    train_until_save(2, monkeypatch, corpus, broken, "--optim_conf", "lr=0.5")
    train(corpus, broken, "--resume", "false")
    assert_same(load(tmp_path / "whole/checkpoint.pth"), load(broken / "checkpoint.pth"))


def test_a_save_of_an_epoch_that_is_whole_is_not_read(corpus, tmp_path, monkeypatch):
    whole, stale = tmp_path / "whole", tmp_path / "stale"
    train(corpus, whole)
    train(corpus, stale, "--max_epoch", "1")
    train_until_save(1, monkeypatch, corpus, tmp_path / "first", "--optim_conf", "lr=0.5")
    (tmp_path / "first" / midway.MIDWAY).rename(stale / midway.MIDWAY)  # of epoch 1
    train(corpus, stale)
    assert_same(load(whole / "checkpoint.pth"), load(stale / "checkpoint.pth"))


def test_a_save_that_is_not_whole_is_told_in_one_line(tmp_path):
    path = tmp_path / midway.MIDWAY
    assert midway.read_midway(path) is None
    path.write_bytes(bytes(100))
    with pytest.raises(UserError, match=r"midway.pth: not a whole checkpoint \(.*\): remove it"):
        midway.read_midway(path)


def test_a_loader_without_a_list_of_batches_goes_through_those_that_are_done():
    assert list(midway._after(range(5), 3)) == [3, 4]
    loader = torch.utils.data.DataLoader([*"abcde"], batch_sampler=[[0], [1, 2], [3]])
    assert list(midway._after(loader, 1)) == [["b", "c"], ["d"]]


def test_reports_are_taken_over_with_their_weights():
    def reported(reporter):
        return {
            name: values for name, values in reporter.stats[1]["train"].items() if name != "time"
        }

    whole, parts = Reporter(), Reporter()
    for reporter in (whole, parts):
        reporter.set_epoch(1)
    rows = [({"loss": 1.0}, 3), ({"loss": 2.0, "acc": 0.5}, 1), ({"loss": 4.0}, 2)]
    with whole.observe("train") as sub:
        for row in rows:
            sub.register(*row)
            sub.next()
    first = parts.start_epoch("train")
    for row in rows[:2]:
        first.register(*row)
        first.next()
    with parts.observe("train") as sub:
        midway._take_reports(sub, midway._reports(first))
        sub.register(*rows[2])
        sub.next()
    assert reported(parts) == reported(whole)
    assert reported(whole)["loss"] == pytest.approx((3 * 1 + 1 * 2 + 2 * 4) / 6)


def test_updates_before_a_resumption_count_as_valid():
    sub = Reporter(1).start_epoch("train")
    epoch = midway.Midway([], None, 0, 1, None, [], [], None, sub)
    assert not epoch.has_updated()
    sub.register({"grad_norm": math.nan})
    sub.next()
    assert not epoch.has_updated()
    sub.register({"grad_norm": 1.0})
    sub.next()
    assert epoch.has_updated()
