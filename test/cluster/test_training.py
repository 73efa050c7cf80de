"""Training as a job of a Slurm: the same model, whatever happens to the job on the way."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mtla_espnet.data.kaldi.tables import write_table

pytestmark = [pytest.mark.cluster, pytest.mark.espnet]
CHECKOUT = Path(__file__).resolve().parents[2]
PATIENCE_S = 500
ARGV = [
    *("--train_set", "train", "--valid_set", "dev", "--test_sets", "test", "--ngpu", "0"),
    *("--token_type", "char", "--nj", "1", "--lm_config", "conf/train_lm.yaml"),
]
STAGE = ["--stage", "7", "--stop_stage", "7", "--num_nodes", "2", "--parallel", "slurm.yaml"]
ENGINE = "parallel: {env: slurm, options: {cores: 1, memory: 1GB}}\n"
# Four updates an epoch; each process draws its own dropout.
CONFIG = """
lm_conf: {unit: 8, nlayers: 1, dropout_rate: 0.3}
optim: adam
optim_conf: {lr: 0.01}
batch_type: unsorted
batch_size: 2
max_epoch: 2
keep_nbest_models: 1
best_model_criterion: [[valid, loss, min]]
num_workers: 0
use_matplotlib: false
use_tensorboard: false
"""
# Each Python of a job imports this: the training waits after a file has been written for the
# n-th time, while `hold` is there.
HOLD = """
import os, time

replace, counts = os.replace, {}

def replace_and_hold(source, target, **more):
    replace(source, target, **more)
    place, name = os.path.split(os.fspath(target))
    counts[name] = counts.get(name, 0) + 1
    hold = os.path.join(place, "hold")
    if os.path.exists(hold) and open(hold).read() == f"{name} {counts[name]}":
        open(os.path.join(place, "held"), "w").close()
        while os.path.exists(hold):
            time.sleep(0.05)

os.replace = replace_and_hold
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A recipe whose stages before the training are done."""
    from mtla_espnet.runner.runner import run_recipe

    root = tmp_path_factory.mktemp("recipe")
    words = ["ON OFF", "UP", "OFF DOWN UP", "DOWN ON", "UP UP ON", "OFF", "DOWN DOWN", "ON UP"]
    text = {f"utt{number}": line for number, line in enumerate(words)}
    write_table(root / "dump/raw/lm_train.txt", text)
    write_table(root / "dump/raw/org/dev/text", {"dev1": "ON UP", "dev2": "OFF"})
    tokens = ["<blank>", "<unk>", "<space>", *"DFNOPUW", "<sos/eos>"]
    contents = {
        "data/token_list/char/tokens.txt": "".join(f"{token}\n" for token in tokens),
        "conf/train_lm.yaml": CONFIG,
        "slurm.yaml": ENGINE,
        "hooks/sitecustomize.py": HOLD,
    }
    for name, content in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    run_recipe([*ARGV, "--stage", "6", "--stop_stage", "6"], root)
    return root


@pytest.fixture
def start(slurm, root):
    """Start the recipe's training, of a tag; what is left at the end is ended."""
    started = []

    def start(tag, *argv):
        driver = subprocess.Popen(
            [sys.executable, "-m", "mtla_espnet", "recipe", "asr", *ARGV, *STAGE]
            + ["--lm_tag", tag, *argv],
            cwd=root,
            env={
                **slurm.environment,
                "PYTHONPATH": f"{root}/hooks:{CHECKOUT}",
                "OMP_NUM_THREADS": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # Ctrl-C works also where the tests run in the background of a shell.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        started.append(driver)
        return driver

    yield start
    for driver in started:
        driver.kill()
        driver.wait()
        driver.stdout.close()
    slurm.call("scancel", "--user", str(os.getuid()))
    wait_until(lambda: slurm.jobs() == [])


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def end_of(driver, code=0):
    """Wait for a driver, and return what it has printed."""
    out, _ = driver.communicate(timeout=PATIENCE_S)
    assert driver.returncode == code, out
    return out


@pytest.fixture(scope="module")
def whole(root):
    """Directory of the training that nothing happened to; the first test that asks makes it."""
    return root / "exp/lm_whole"


class Held:
    """A training that waits after a file was written for the n-th time.

    Args:
        slurm: where it runs.
        start: starts a driver.
        directory: of the training.
        file: the file, and how often it is written, as in `midway.pth 3`.
        argv: more options.
    """

    def __init__(self, slurm, start, directory, file, *argv):
        self.directory = directory
        directory.mkdir(parents=True)
        (directory / "hold").write_text(file)
        self.driver = start(directory.name.removeprefix("lm_"), *argv)
        wait_until(lambda: (directory / "held").exists() or self.driver.poll() is not None)
        assert self.driver.poll() is None, self.driver.communicate()
        (self.job,) = slurm.jobs()

    def go_on(self):
        (self.directory / "hold").unlink()


def assert_same(directory, whole):
    """Compare the models and losses of two trainings, to the last bit."""
    import torch

    one, other = (
        torch.load(each / "checkpoint.pth", weights_only=True) for each in (directory, whole)
    )
    assert one["model"].keys() == other["model"].keys()
    assert all(one["model"][key].equal(other["model"][key]) for key in one["model"])
    for epoch in (1, 2):
        for phase in ("train", "valid"):
            losses = [each["reporter"]["stats"][epoch][phase]["loss"] for each in (one, other)]
            assert losses[0] == losses[1]
    assert (directory / ".done.7").exists() and not (directory / ".begun.7").exists()


SAVES = ("--save_interval_updates", "1")


@pytest.fixture
def trained(start, whole, slurm):
    """The training that nothing happened to, with what its driver printed."""
    if not (whole / ".done.7").exists():
        out = end_of(start("whole", *SAVES))
        (whole / "printed").write_text(out)
    return whole


def test_two_machines_train_one_model(trained, slurm):
    out = (trained / "printed").read_text()
    assert "Slurm job " in out and ": RUNNING" in out
    assert ", start 1, on n[1-2]\n" in out
    assert out.count("epoch 2/2") == 1  # the first process reports
    assert "Stage 7: finished in " in out
    assert (trained / "train.rank1.log").exists()
    assert '"processes": 2' in (trained / "training.json").read_text()
    assert slurm.jobs() == []


def test_a_job_requeued_in_the_middle_trains_the_same(trained, slurm, start, root):
    held = Held(slurm, start, root / "exp/lm_requeued", "midway.pth 6", *SAVES)
    slurm.call("scontrol", "requeue", held.job)
    held.go_on()
    out = end_of(held.driver)
    assert f"# Slurm job {held.job}, start 2, on " in out
    assert "goes on in epoch 2 after 2 batches" in (held.directory / "train.log").read_text()
    assert_same(held.directory, trained)


@pytest.mark.slow
def test_a_job_whose_time_is_nearly_up_saves_and_is_requeued(trained, slurm, start, root):
    held = Held(slurm, start, root / "exp/lm_asked", "1epoch.pth 1")
    slurm.call("scancel", "--batch", "--signal=USR1", held.job)
    wait_until((held.directory / "job/save").exists)
    held.go_on()
    out = end_of(held.driver)
    assert "# requeued: the time limit is near\n" in out
    assert f"# Slurm job {held.job}, start 2, on " in out
    assert "goes on in epoch 2 after 1 batches" in (held.directory / "train.log").read_text()
    assert_same(held.directory, trained)


@pytest.mark.slow
def test_a_driver_that_comes_back_waits_for_its_job_and_ctrl_c_cancels_it(
    trained, slurm, start, root
):
    held = Held(slurm, start, root / "exp/lm_driver", "midway.pth 2", *SAVES)
    held.driver.kill()
    held.driver.communicate()
    assert slurm.jobs() == [held.job]
    second = start("driver", *SAVES)
    line = f"Slurm job {held.job} trains in exp/lm_driver already: waiting for it"
    for printed in second.stdout:
        if line in printed:
            break
    else:
        pytest.fail("it has not found the job")
    assert slurm.jobs() == [held.job]
    second.send_signal(signal.SIGINT)
    assert f"Slurm job {held.job}: cancelled" in end_of(second, 130)
    wait_until(lambda: slurm.jobs() == [])
    held.go_on()
    end_of(start("driver", *SAVES))
    assert "goes on in epoch 1 after 2 batches" in (held.directory / "train.log").read_text()
    assert_same(held.directory, trained)


@pytest.mark.slow
@pytest.mark.parametrize("which", ["first", "last"])
def test_a_job_that_loses_a_machine_trains_the_same_on_others(trained, slurm, start, root, which):
    held = Held(slurm, start, root / f"exp/lm_{which}", "midway.pth 6", *SAVES)
    place = slurm.call("squeue", "--noheader", "--job", held.job, "--format=%N").strip()
    nodes = slurm.call("scontrol", "show", "hostnames", place).split()
    lost = nodes[0 if which == "first" else -1]
    slurm.node(lost, "lose")
    try:
        held.go_on()
        out = end_of(held.driver)
    finally:
        slurm.node(lost, "return")
        idle = ("sinfo", "--noheader", "--partition=cpu", "--states=idle", "--format=%D")
        wait_until(lambda: slurm.call(*idle).strip() == "3")
    (line,) = [line for line in out.splitlines() if ", start 2, on " in line]
    assert lost not in slurm.call("scontrol", "show", "hostnames", line.split()[-1]).split()
    assert_same(held.directory, trained)


@pytest.mark.parametrize(
    ("conf", "argv", "reason"),
    [
        ("option gpu=* -p none\n", [], "Invalid partition name specified"),
        ("", ["--ngpu", "9"], "Requested node configuration is not available"),
        ("", ["--num_nodes", "4"], "Requested node configuration is not available"),
    ],
)
def test_a_queue_that_refuses_is_told_before_the_first_stage(
    slurm, start, root, conf, argv, reason
):
    (root / "conf/slurm.conf").write_text(conf)
    try:
        out = end_of(start("refused", "--stage", "6", *argv), 1)
    finally:
        (root / "conf/slurm.conf").unlink()
    (line,) = out.splitlines()
    assert line.startswith("Error: the queue refuses sbatch ")
    assert reason in line
    assert slurm.jobs() == []
    assert not (root / "exp/lm_refused").exists()
