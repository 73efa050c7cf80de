"""Jobs in processes with a GPU each; no GPU is needed, the processes tell what they see."""

import os

import pytest
import torch

from mtla_espnet.files import UserError
from mtla_espnet.jobs.devices import Devices, devices_of
from mtla_espnet.jobs.fan_out import fan_out, jobs_run_by

VISIBLE = "CUDA_VISIBLE_DEVICES"
ANSWER = "__import__('os').environ['CUDA_VISIBLE_DEVICES']"


def test_each_process_has_its_share_of_the_jobs():
    with jobs_run_by(Devices(["5", "6"])):
        jobs = [f"({number}, {ANSWER}, __import__('os').getpid())" for number in range(5)]
        found = fan_out(eval, jobs, 1)
    assert [(number, name) for number, name, _ in found] == [
        (number, "56"[number % 2]) for number in range(5)
    ]
    assert len({pid for *_, pid in found}) == 2
    assert VISIBLE not in os.environ or os.environ[VISIBLE] != "5"


def test_the_share_of_a_lost_process_is_done_by_another():
    die = f"{ANSWER} == '0' and __import__('os').kill(__import__('os').getpid(), 9)"
    jobs = [f"({die}, {number})[1]" for number in range(4)]
    assert Devices(["0", "1"]).run_jobs(eval, jobs, None) == [0, 1, 2, 3]


def test_a_mistake_of_the_user_comes_back_as_it_is():
    job = "(_ for _ in ()).throw(__import__('mtla_espnet.files').files.UserError('a.scp:2: bad'))"
    with pytest.raises(UserError, match=r"^a\.scp:2: bad$"):
        Devices(["0", "1"]).run_jobs(eval, [job], None)


@pytest.mark.parametrize(
    ("names", "n_processes", "devices"),
    [
        (None, None, ["0", "1"]),
        ("4,7", None, ["4", "7"]),
        ("4,7", 3, ["4", "7", "4"]),
        ("4,7", 1, ["4"]),
    ],
)
def test_processes_share_the_visible_gpus_in_turn(monkeypatch, names, n_processes, devices):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv(VISIBLE, raising=False)
    if names:
        monkeypatch.setenv(VISIBLE, names)
    assert devices_of(n_processes) == devices
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert devices_of(n_processes) == []
