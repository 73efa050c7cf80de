import subprocess
import sys
from pathlib import Path

import pytest

from mtla_espnet.jobs.fan_out import (
    fan_out,
    jobs_run_by,
    memory_of_worker,
    number_of_shards,
    on_cluster,
    worker_memory_bytes,
)

CHECKOUT = Path(__file__).resolve().parents[2]


class Recorder:
    """An engine that runs the jobs in this process, and notes them."""

    n_workers = 3

    def __init__(self):
        self.ran = []

    def run_jobs(self, function, argument_list, progress):
        self.ran += argument_list
        return [function(argument) for argument in argument_list]


def test_jobs_run_by_the_engine_inside_alone():
    engine = Recorder()
    with jobs_run_by(engine):
        assert on_cluster()
        assert fan_out(abs, [-1, 2], 2) == [1, 2]
        assert fan_out(abs, [], 2) == []
    assert not on_cluster()
    assert fan_out(abs, [-3], 2) == [3]
    assert engine.ran == [-1, 2]


@pytest.mark.parametrize(("nj", "shards"), [(1, 12), (15, 15), (32, 24)])
def test_there_are_four_to_eight_shards_a_worker(nj, shards):
    assert number_of_shards(nj) == nj
    with jobs_run_by(Recorder()):
        assert number_of_shards(nj) == shards


def test_a_worker_says_how_much_memory_a_job_has():
    assert worker_memory_bytes() is None
    with memory_of_worker(5):
        assert worker_memory_bytes() == 5
    assert worker_memory_bytes() is None


def test_a_local_run_loads_nothing_of_a_cluster():
    program = (
        "import sys\n"
        "from mtla_espnet.runner import runner\n"
        "for number in runner.BODIES:\n"
        "    __import__(f'mtla_espnet.stages.{runner.BODIES[number]}')\n"
        "from mtla_espnet.jobs.cluster_config import jobs_run_by_file\n"
        "from mtla_espnet.jobs.fan_out import fan_out\n"
        "with jobs_run_by_file(None, None):\n"
        "    print(fan_out(abs, [-1, -2, -3], 2))\n"
        "print({'dask', 'distributed', 'espnet3', 'omegaconf'} & sys.modules.keys())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=CHECKOUT, check=True
    )
    assert done.stdout.splitlines() == ["[1, 2, 3]", "set()"]
