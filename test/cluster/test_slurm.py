"""The Slurm that the other tests of this directory run on."""

import pytest

pytestmark = pytest.mark.cluster


def test_it_has_three_nodes_that_run_jobs(slurm):
    names = slurm.call("srun", "-N3", "bash", "-c", "echo $SLURMD_NODENAME").split()
    assert sorted(names) == ["n1", "n2", "n3"]


def test_partitions_are_those_of_espnets_slurm_conf(slurm):
    assert slurm.call("sinfo", "--noheader", "--format=%R").split() == ["cpu", "gpu"]
