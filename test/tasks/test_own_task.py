"""Several processes that train one model, by gloo on a CPU."""

import json
import multiprocessing
import os
import pickle
import subprocess
import sys
from pathlib import Path

import espnet2.tasks.asr
import espnet2.tasks.lm
import espnet2.tasks.mt
import espnet2.tasks.slu
import espnet2.tasks.st
import pytest
import torch

from mtla_espnet.tasks.own_task import settle_in_spawned_process
from mtla_espnet.tasks.register import run_espnet

pytestmark = pytest.mark.espnet

CHECKOUT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"}
TASKS = [
    espnet2.tasks.asr.ASRTask,
    espnet2.tasks.lm.LMTask,
    espnet2.tasks.mt.MTTask,
    espnet2.tasks.slu.SLUTask,
    espnet2.tasks.st.STTask,
]
# Nothing random and no statistics of a batch: what is left are sums, in another order.
MODEL = [
    *("--encoder", "conv1d_transformer", "--encoder_conf", "dropout_rate=0.0"),
    *("--encoder_conf", "positional_dropout_rate=0.0"),
    *("--encoder_conf", "attention_dropout_rate=0.0", "--decoder_conf", "attention=mtla"),
    # Adam would turn the last bits of a gradient near 0 into a step.
    *("--decoder_conf", "dropout_rate=0.0", "--optim", "sgd", "--optim_conf", "lr=0.1"),
]
# Both processes train an epoch, the first of them alone goes on, then both again. What they
# begin with is all that a process has which ESPnet spawned: a bound method to unpickle.
PROCESS = """
import json, pickle, sys
rank, directory, workers, argv = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:]
modules = [worker.__self__.__mro__[2].__module__ for worker in pickle.loads(bytes.fromhex(workers))]
for module in modules:
    if module != "espnet2.tasks.lm":
        assert "decoder_only" in sys.modules[module].decoder_choices.choices(), module
        assert "conv1d_conformer" in sys.modules[module].encoder_choices.choices(), module

import torch
from mtla_espnet.tasks import trainer
from mtla_espnet.tasks.own_task import settle_in_spawned_process
from mtla_espnet.tasks.register import run_espnet

saved, save = [], trainer.save_whole
trainer.save_whole = lambda value, path: (saved.append(path.name), save(value, path))
for epoch in (1, 2, 3):
    if epoch == 2 and rank == 1:
        continue
    more = ["--max_epoch", str(epoch), "--keep_nbest_models", "1"]
    if epoch != 2:
        more += ["--dist_world_size", "2", "--dist_rank", str(rank), "--dist_backend", "gloo"]
        more += ["--dist_init_method", f"file://{directory}/meeting.{epoch}"]
        more += ["--multiprocessing_distributed", "false"]
    run_espnet("espnet2.bin.asr_train", [*argv, *more])
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
print(json.dumps({"modules": modules, "saved": saved}))
"""


def start(code, *argv):
    return subprocess.Popen(
        [sys.executable, "-c", code, *argv],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def load(path):
    return torch.load(path, weights_only=True)


def losses(directory):
    stats = load(directory / "checkpoint.pth")["reporter"]["stats"]
    return {
        (epoch, phase, name): stats[epoch][phase][name]
        for epoch in stats
        for phase in ("train", "valid")
        # Not the accuracy: it is a mean of utterances' in ESPnet, whatever their lengths.
        for name in ("loss", "loss_att", "loss_ctc")
    }


def test_two_processes_give_the_loss_of_one_and_write_once(corpus, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    argv = [*corpus.arguments(two), *MODEL]
    workers = pickle.dumps([task.main_worker for task in TASKS]).hex()
    children = [start(PROCESS, str(rank), str(tmp_path), workers, *argv) for rank in (0, 1)]
    more = ["--max_epoch", "3", "--keep_nbest_models", "1"]
    run_espnet("espnet2.bin.asr_train", [*corpus.arguments(one), *MODEL, *more])
    told = []
    for child in children:
        out, err = child.communicate(timeout=300)
        assert child.returncode == 0, err
        told.append(json.loads(out.splitlines()[-1]))
    for each in told:
        assert each["modules"] == [task.__mro__[2].__module__ for task in TASKS]
    first, second = (each["saved"] for each in told)
    assert second == []
    for epoch in (1, 2, 3):
        assert first.count(f"{epoch}epoch.pth") == 1
    assert first.count("checkpoint.pth") == 3

    expected, found = losses(one), losses(two)
    assert len(expected) == 3 * 2 * 3
    assert found == pytest.approx(expected, rel=1e-4)
    model = load(one / "3epoch.pth")
    for name, value in load(two / "3epoch.pth").items():
        torch.testing.assert_close(value, model[name], rtol=1e-3, atol=1e-4)
    summary = json.loads((two / "training.json").read_text())
    assert (summary["processes"], summary["updates"]) == (2, 6)
    assert json.loads((one / "training.json").read_text())["processes"] == 1


SPAWNED = """
import multiprocessing

def tell(queue):
    before = multiprocessing.get_start_method()
    from mtla_espnet.tasks.own_task import settle_in_spawned_process
    settle_in_spawned_process()
    queue.put((before, multiprocessing.get_start_method()))

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    context.Process(target=tell, args=(queue,)).start()
    print(*queue.get())
"""


def test_a_spawned_process_forks_the_processes_that_load_data(tmp_path):
    script = tmp_path / "spawned.py"
    script.write_text(SPAWNED)
    child = subprocess.run(
        [sys.executable, script], env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert child.stdout.split() == ["spawn", "fork"], child.stderr


def test_nothing_changes_in_a_process_that_was_not_spawned():
    before = multiprocessing.get_start_method()
    settle_in_spawned_process()
    assert multiprocessing.get_start_method() == before


class OnGpu(torch.nn.Parameter):
    """A parameter that says that it is on a GPU."""

    is_cuda = True


def optimizer_of(parameter, optim="adam", **optim_conf):
    model = torch.nn.Module()
    model.weight = parameter
    task = espnet2.tasks.asr.ASRTask
    args = task.get_parser().parse_args(["--optim", optim])
    args.optim_conf = optim_conf
    (optimizer,) = task.build_optimizers(args, model)
    assert args.optim_conf == optim_conf  # what config.yaml says
    return optimizer


@pytest.mark.parametrize("optim", ["adam", "adamw"])
def test_adam_is_fused_on_a_gpu_unless_said(optim):
    on_gpu = OnGpu(torch.ones(3))
    assert optimizer_of(on_gpu, optim, lr=0.1).param_groups[0]["fused"]
    assert not optimizer_of(on_gpu, optim, foreach=True).param_groups[0]["fused"]
    assert not optimizer_of(on_gpu, optim, fused=False).param_groups[0]["fused"]
    assert not optimizer_of(torch.nn.Parameter(torch.ones(3)), optim).param_groups[0]["fused"]
    assert "fused" not in optimizer_of(on_gpu, "adadelta").defaults


def test_a_fused_adam_goes_on_from_one_that_was_not():
    ends = []
    for next_parameter in (torch.nn.Parameter, OnGpu):
        parameter = torch.nn.Parameter(torch.ones(3))
        first = optimizer_of(parameter, lr=0.1)
        parameter.grad = torch.tensor([1.0, -2.0, 0.5])
        first.step()
        copy = next_parameter(parameter.detach().clone())
        second = optimizer_of(copy, lr=0.1)
        second.load_state_dict(first.state_dict())
        assert second.param_groups[0]["fused"] is (True if next_parameter is OnGpu else None)
        copy.grad = torch.tensor([0.3, 0.2, 0.1])
        second.step()
        ends.append(copy.detach())
    torch.testing.assert_close(*ends)
