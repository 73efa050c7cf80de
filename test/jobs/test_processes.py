"""Where a run stands among those that train one model together."""

import argparse

import pytest
import torch
from espnet2.train.distributed_utils import DistributedOption, resolve_distributed_mode

from mtla_espnet.files import UserError
from mtla_espnet.jobs.processes import (
    ProcessPlace,
    check_stages,
    is_submitted,
    number_of_gpus,
    training_place,
)
from mtla_espnet.recipe.options import parse_options

pytestmark = pytest.mark.espnet

VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
MACHINES = {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"}


@pytest.fixture
def environment(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)

    def change(**values):
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return change


def espnet_understands(arguments):
    """What ESPnet makes of them: its namespace after it has decided how to train."""
    found = argparse.Namespace(
        **{name: None for name in ("dist_rank", "local_rank", "dist_world_size")},
        **{name: None for name in ("dist_master_addr", "dist_master_port", "dist_launcher")},
        dist_backend="nccl",
        dist_init_method="env://",
    )
    words = iter(arguments)
    for name in words:
        value = next(words)
        if name in ("--dist_rank", "--dist_world_size", "--dist_master_port", "--ngpu"):
            value = int(value)
        elif value in ("true", "false"):
            value = value == "true"
        setattr(found, name.removeprefix("--"), value)
    resolve_distributed_mode(found)
    return found


@pytest.mark.parametrize(
    ("ngpu", "distributed", "spawns"), [(0, False, False), (1, False, False), (4, True, True)]
)
def test_on_one_machine_espnet_spawns_for_several_gpus(environment, ngpu, distributed, spawns):
    place = training_place(parse_options(["--ngpu", str(ngpu)]))
    assert place == ProcessPlace()
    assert place.log_name == "train.log"
    found = espnet_understands(place.arguments(ngpu))
    assert (found.distributed, found.multiprocessing_distributed) == (distributed, spawns)


@pytest.mark.parametrize(("ngpu", "spawns", "local_rank"), [(0, False, None), (1, False, 0)])
def test_of_several_machines_each_has_its_number(environment, ngpu, spawns, local_rank):
    environment(RANK="2", **MACHINES)
    place = training_place(parse_options(["--num_nodes", "3", "--ngpu", str(ngpu)]))
    assert (place.rank, place.size, place.log_name) == (2, 3, "train.rank2.log")
    found = espnet_understands(place.arguments(ngpu))
    assert found.distributed and found.multiprocessing_distributed == spawns
    assert found.local_rank == local_rank
    assert found.dist_backend == ("nccl" if ngpu else "gloo")
    names = [field for field in DistributedOption.__dataclass_fields__ if hasattr(found, field)]
    option = DistributedOption(**{name: getattr(found, name) for name in names})
    option.init_options()
    assert (option.dist_rank, option.dist_world_size) == (2, 3)
    assert option.dist_init_method == "tcp://10.0.0.1:29500"


def test_several_gpus_of_several_machines_are_spawned_there(environment):
    environment(RANK="1", **MACHINES)
    place = training_place(parse_options(["--num_nodes", "2", "--ngpu", "4"]))
    found = espnet_understands(place.arguments(4))
    assert found.distributed and found.multiprocessing_distributed
    # ESPnet counts processes from the number of machines: 4 * 1 + 0 is the first one here.
    assert (found.dist_world_size, found.dist_rank, found.ngpu) == (2, 1, 4)


@pytest.mark.parametrize("ngpu", [0, 1])
def test_torchrun_starts_every_process(environment, ngpu):
    environment(RANK="3", LOCAL_RANK="1", WORLD_SIZE="4", **MACHINES)
    place = training_place(parse_options(["--ngpu", str(ngpu)]))
    assert (place.rank, place.size) == (3, 4)
    found = espnet_understands(place.arguments(ngpu))
    assert found.distributed and not found.multiprocessing_distributed
    option = DistributedOption(distributed=True, ngpu=ngpu)
    option.init_options()
    assert (option.dist_rank, option.dist_world_size, option.local_rank) == (3, 4, 1)


def test_torchrun_with_one_process_is_as_without(environment):
    environment(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", **MACHINES)
    assert training_place(parse_options(["--ngpu", "1"])) == ProcessPlace()


@pytest.mark.parametrize(
    ("variables", "argv", "message"),
    [
        ({}, ["--num_nodes", "0"], "--num_nodes must be at least 1"),
        (MACHINES, ["--num_nodes", "2"], "--num_nodes 2 needs .* 0 to 1, in RANK"),
        ({**MACHINES, "RANK": "2"}, ["--num_nodes", "2"], "RANK=2 must be 0 to 1"),
        ({**MACHINES, "RANK": "one"}, ["--num_nodes", "2"], "RANK='one' must be a number"),
        ({"RANK": "0", "MASTER_PORT": "1"}, ["--num_nodes", "2"], "machine 0 in MASTER_ADDR"),
        ({"RANK": "0", "MASTER_ADDR": "a"}, ["--num_nodes", "2"], "machine 0 in MASTER_PORT"),
        ({"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}, ["--ngpu", "2"], "say --ngpu 1"),
        ({"LOCAL_RANK": "0", "WORLD_SIZE": "2"}, ["--num_nodes", "2"], "say --nnodes to torchrun"),
        ({"LOCAL_RANK": "0", "WORLD_SIZE": "2"}, [], "RANK is not set"),
    ],
)
def test_what_does_not_fit_is_named(environment, variables, argv, message):
    environment(**variables)
    with pytest.raises(UserError, match=message) as raised:
        training_place(parse_options(argv))
    assert raised.value.exit_code == 2
    assert "\n" not in str(raised.value)


def test_a_training_of_several_runs_alone():
    check_stages(ProcessPlace(), [1, 2, 3, 11, 12])
    for stages in ([7], [11]):
        check_stages(ProcessPlace(1, 2), stages)
    for stages in ([], [10, 11], [7, 11], [12]):
        with pytest.raises(UserError, match="2 processes train together, .* --stage 11"):
            check_stages(ProcessPlace(1, 2), stages)


def test_gpus_are_counted_where_no_number_is_given(monkeypatch):
    for there in (False, True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert number_of_gpus(parse_options([])) == int(there)
    assert number_of_gpus(parse_options(["--ngpu", "3"])) == 3


def test_trainings_are_submitted_where_the_file_names_a_slurm(environment, tmp_path):
    path = tmp_path / "parallel.yaml"
    for env, submitted in (("slurm", True), ("sge", False), ("local", False)):
        path.write_text(f"parallel: {{env: {env}, options: {{cores: 1, memory: 1GB}}}}\n")
        argv = ["--parallel", str(path), "--num_nodes", "2"]
        assert is_submitted(parse_options(argv)) == submitted
        assert not is_submitted(parse_options([*argv, "--submit_training", "false"]))
    assert not is_submitted(parse_options([]))
    path.write_text("parallel: {env: slurm, options: {cores: 1, memory: 1GB}}\n")
    assert training_place(parse_options(argv)) == ProcessPlace()  # RANK is that of the job
