"""What a training keeps: rebuilt from the checkpoint, and averaged of what is there."""

import logging
import shutil

import pytest
import torch

from mtla_espnet.files import UserError
from mtla_espnet.tasks.register import run_espnet

pytestmark = pytest.mark.espnet

DAMAGES = {
    "of zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:5000]),
}
CRITERIA = ["--best_model_criterion", "valid,acc,max"]


def train(corpus, directory, *more):
    run_espnet("espnet2.bin.asr_train", [*corpus.arguments(directory), *CRITERIA, *more])


def state(directory):
    """File -> bytes, or where a link leads; without what holds times."""
    return {
        path.name: str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in directory.glob("*.pth")
        if path.name != "checkpoint.pth"
    }


@pytest.fixture(scope="module")
def trained(corpus, tmp_path_factory):
    """Three epochs, of which two models are kept."""
    directory = tmp_path_factory.mktemp("trained") / "exp"
    train(corpus, directory, "--max_epoch", "3", "--keep_nbest_models", "2")
    return directory


@pytest.fixture
def copy(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "exp", symlinks=True)


def test_what_was_removed_is_rebuilt_from_the_checkpoint(corpus, trained, copy):
    for name in ("3epoch.pth", "latest.pth", "valid.acc.best.pth", "valid.acc.ave.pth"):
        (copy / name).unlink()
    train(corpus, copy, "--max_epoch", "3", "--keep_nbest_models", "2")
    assert state(copy) == state(trained)


def test_links_that_a_kill_left_behind_are_set_right(corpus, trained, copy):
    for name in ("latest.pth", "valid.acc.best.pth"):
        (copy / name).unlink()
        (copy / name).symlink_to("1epoch.pth")
    train(corpus, copy, "--max_epoch", "3", "--keep_nbest_models", "2")
    assert state(copy) == state(trained)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_last_model_that_a_power_cut_damaged_is_rebuilt(corpus, trained, copy, damage):
    DAMAGES[damage](copy / "3epoch.pth")
    train(corpus, copy, "--max_epoch", "3", "--keep_nbest_models", "2")
    assert state(copy) == state(trained)


@pytest.mark.parametrize("damage", ["gone", *DAMAGES])
def test_the_average_is_one_of_the_models_that_are_there(corpus, copy, caplog, damage):
    gone = next(path for path in copy.glob("*epoch.pth") if path.name != "3epoch.pth")
    DAMAGES.get(damage, lambda path: path.unlink())(gone)
    with caplog.at_level(logging.WARNING):
        train(corpus, copy, "--max_epoch", "3", "--keep_nbest_models", "2")
    assert f"{gone.name} missing or damaged: the average is one of other models" in caplog.text
    average = torch.load(copy / "valid.acc.ave.pth", weights_only=True)
    gone.unlink(missing_ok=True)
    left = [torch.load(path, weights_only=True) for path in copy.glob("[0-9]epoch.pth")]
    name = "decoder.after_norm.weight"
    name = name if name in average else next(iter(average))
    expected = sum(model[name] for model in left) / len(left)
    torch.testing.assert_close(average[name], expected)


def test_more_models_than_were_kept_may_be_asked_for(corpus, copy):
    train(corpus, copy, "--max_epoch", "4", "--keep_nbest_models", "4")
    present = len(list(copy.glob("[0-9]epoch.pth")))
    assert present < 4
    assert (copy / "valid.acc.ave.pth").readlink().name == f"valid.acc.ave_{present}best.pth"


def test_a_cut_checkpoint_is_one_line(corpus, copy):
    whole = (copy / "checkpoint.pth").read_bytes()
    (copy / "checkpoint.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"checkpoint.pth: not a whole checkpoint .*: remove it to"):
        train(corpus, copy)


def test_a_training_that_stopped_early_stays_so(corpus, tmp_path):
    argv = ["--max_epoch", "9", "--patience", "1", "--optim_conf", "lr=0.0"]
    argv += ["--early_stopping_criterion", "valid", "loss", "min"]
    train(corpus, tmp_path, *argv)
    before = state(tmp_path)
    last = int(before["latest.pth"][0])
    assert last < 9
    train(corpus, tmp_path, *argv)
    assert state(tmp_path) == before
    train(corpus, tmp_path, *argv, "--patience", "2")
    assert int(state(tmp_path)["latest.pth"][0]) > last
