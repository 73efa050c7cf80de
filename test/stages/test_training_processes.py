"""A training stage of several processes: the recipe's own part in it, by gloo on a CPU."""

import io
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch.multiprocessing import ProcessExitedException
from torch.multiprocessing.spawn import ProcessContext

from mtla_espnet.data.kaldi.tables import write_table
from mtla_espnet.files import UserError
from mtla_espnet.jobs.log import JobFailed
from mtla_espnet.jobs.training_progress import TrainingProgress
from mtla_espnet.runner.runner import run_recipe
from mtla_espnet.stages.shared.training import lost_processes

pytestmark = pytest.mark.espnet

CHECKOUT = Path(__file__).resolve().parents[2]
ARGV = [
    *("--train_set", "train", "--valid_set", "dev", "--test_sets", "test", "--ngpu", "0"),
    *("--token_type", "char", "--nj", "1", "--lm_config", "conf/train_lm.yaml"),
]
STAGE = ["--stage", "7", "--stop_stage", "7"]
CONFIG = """
lm_conf: {unit: 8, nlayers: 1, dropout_rate: 0.0}
optim: adam
optim_conf: {lr: 0.01}
batch_type: unsorted
batch_size: 2
max_epoch: 2
keep_nbest_models: 1
best_model_criterion: [[valid, loss, min]]
num_workers: 0
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("recipe")
    text = {"utt1": "ON OFF", "utt2": "UP", "utt3": "OFF DOWN UP", "utt4": "DOWN ON"}
    write_table(root / "dump/raw/lm_train.txt", text)
    write_table(root / "dump/raw/org/dev/text", {"dev1": "ON UP", "dev2": "OFF"})
    tokens = ["<blank>", "<unk>", "<space>", *"DFNOPUW", "<sos/eos>"]
    token_list = root / "data/token_list/char/tokens.txt"
    token_list.parent.mkdir(parents=True)
    token_list.write_text("".join(f"{token}\n" for token in tokens))
    (root / "conf").mkdir()
    (root / "conf/train_lm.yaml").write_text(CONFIG)
    run_recipe([*ARGV, "--stage", "6", "--stop_stage", "6"], root)
    return root


def start(root, program, *argv, **variables):
    return subprocess.Popen(
        [sys.executable, "-m", *program, "recipe", "asr", *ARGV, *STAGE, *argv],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def free_port():
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return str(listener.getsockname()[1])


def losses(directory):
    stats = torch.load(directory / "checkpoint.pth", weights_only=True)["reporter"]["stats"]
    return [stats[epoch][phase]["loss"] for epoch in stats for phase in ("train", "valid")]


def test_torchrun_starts_a_training_stage(root):
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    child = start(root, [*torchrun, "mtla_espnet"], "--lm_tag", "torchrun")
    run_recipe([*ARGV, *STAGE, "--lm_tag", "one"], root)
    out, err = child.communicate(timeout=300)
    assert child.returncode == 0, out + err
    one, two = root / "exp/lm_one", root / "exp/lm_torchrun"
    assert len(losses(one)) == 4
    assert losses(two) == pytest.approx(losses(one), rel=1e-4)
    assert json.loads((two / "training.json").read_text())["processes"] == 2
    assert "process 2 of 2" in out
    assert err.count("epoch 2/2") == 1  # the first process reports
    assert (two / ".done.7").exists() and not (two / ".begun.7").exists()
    assert (two / "train.log").exists() and (two / "train.rank1.log").exists()


@pytest.mark.slow
def test_a_killed_process_ends_the_training_in_one_line(root):
    variables = {"MASTER_ADDR": "localhost", "MASTER_PORT": free_port()}
    argv = ["--lm_tag", "killed", "--num_nodes", "2", "--lm_args", "--max_epoch 1000000"]
    machines = [start(root, ["mtla_espnet"], *argv, RANK=str(rank), **variables) for rank in (0, 1)]
    directory = root / "exp/lm_killed"
    deadline = time.monotonic() + 200
    while not (directory / "checkpoint.pth").exists():
        assert machines[0].poll() is None, machines[0].communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    machines[1].send_signal(signal.SIGKILL)
    out, err = machines[0].communicate(timeout=100)
    machines[1].communicate()
    assert machines[0].returncode == 1
    (line,) = [line for line in err.splitlines() if line.startswith("run.pl: ")]
    assert line == (
        "run.pl: job failed, log is in exp/lm_killed/train.log: another of the 2 training "
        "processes is gone; the same command goes on from the last checkpoint"
    )

    epochs = len(losses(directory)) // 2
    assert epochs >= 1
    more = ["--lm_tag", "killed", "--lm_args", f"--max_epoch {epochs + 1}"]
    run_recipe([*ARGV, *STAGE, *more], root)
    assert len(losses(directory)) == 2 * (epochs + 1)


@pytest.mark.parametrize(
    ("code", "how"), [(-9, "was killed by SIGKILL (out of memory?)"), (1, "ended with 1")]
)
def test_a_lost_worker_is_named_and_the_spawned_ones_are_ended(tmp_path, code, how):
    spawned = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(300,))
    loader = multiprocessing.get_context("fork").Process(target=time.sleep, args=(300,))
    spawned.start()
    loader.start()
    log = tmp_path / "train.log"
    for there, after in ((False, "run it again"), (True, "the same command goes on from the last")):
        if there:
            (tmp_path / "checkpoint.pth").touch()
        with pytest.raises(JobFailed) as raised, lost_processes(log, 2):
            raise ProcessExitedException("", error_index=1, error_pid=1, exit_code=code)
        message = f"run.pl: job failed, log is in {log}: training process 2 of 2 {how}; {after}"
        assert str(raised.value).startswith(message)
    assert not spawned.is_alive()
    assert loader.is_alive()
    loader.kill()
    loader.join()


def spawn_two():
    processes = [
        multiprocessing.get_context("spawn").Process(target=time.sleep, args=(300,)) for _ in "ab"
    ]
    for process in processes:
        process.start()
    return processes


def test_a_spawned_worker_is_killed_while_espnet_waits_for_all(tmp_path):
    processes = spawn_two()
    processes[1].kill()
    with pytest.raises(JobFailed) as raised, lost_processes(tmp_path / "train.log", 2):
        # As ESPnet's task waits.
        while not ProcessContext(processes, [str(tmp_path / name) for name in "ab"]).join():
            pass
    assert "training process 2 of 2 was killed by SIGKILL (out of memory?)" in str(raised.value)
    assert [process.is_alive() for process in processes] == [False, False]


def test_an_interrupted_training_leaves_no_worker(tmp_path):
    processes = spawn_two()
    with pytest.raises(KeyboardInterrupt), lost_processes(tmp_path / "train.log", 2):
        raise KeyboardInterrupt
    assert [process.is_alive() for process in processes] == [False, False]


def test_other_errors_of_a_training_pass(tmp_path):
    for size, message in ((1, "Connection closed by peer"), (2, "shapes do not fit")):
        with pytest.raises(RuntimeError, match=message), lost_processes(tmp_path / "log", size):
            raise RuntimeError(message)


def test_the_console_follows_a_log_that_others_write(tmp_path):
    log, console = tmp_path / "train.log", io.StringIO()
    log.write_text("1/3epoch started\n0epoch results: [train] loss=9, [valid] loss=9\n")
    with TrainingProgress(console).following(log), open(log, "a") as stream:
        stream.write("INFO: 1/2epoch started\nINFO: 1epoch results: [train] loss=2.5, acc=0")
        stream.flush()
        time.sleep(0.6)
        stream.write(".5, time=1 second, [valid] loss=3.5, acc=0.25\n")
    (line,) = console.getvalue().splitlines()
    assert line.startswith("  epoch 1/2  train loss 2.5 acc 0.5  valid loss 3.5 acc 0.25  ")


def test_a_training_of_several_machines_is_refused_among_other_stages(root, monkeypatch):
    for name, value in (("RANK", "0"), ("MASTER_ADDR", "localhost"), ("MASTER_PORT", "1")):
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="2 processes train together") as raised:
        run_recipe([*ARGV, "--stage", "6", "--num_nodes", "2"], root)
    assert raised.value.exit_code == 2
