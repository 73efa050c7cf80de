import sys
import types

import pytest

from mtla_espnet.files import UserError
from mtla_espnet.jobs import cluster_config
from mtla_espnet.jobs.cluster_config import check_engine, jobs_run_by_file, read_cluster_config
from mtla_espnet.jobs.fan_out import on_cluster


def write(tmp_path, text):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    return path


GOOD = "parallel: {env: slurm, n_workers: 3, options: {cores: 1, memory: 1GB}}"


def test_the_file_is_read(tmp_path):
    config = read_cluster_config(write(tmp_path, GOOD))
    assert (config.env, config.n_workers, config.start_timeout_s) == ("slurm", 3, 600)
    assert config.options == {"cores": 1, "memory": "1GB"}
    assert config.describe() == f"3 slurm jobs with 3 workers ({tmp_path}/c.yaml)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("parallell: {}", "unknown key 'parallell' (nearest: 'parallel')"),
        ("{}", "needs the key 'parallel' with env, n_workers and options"),
        ("parallel: {n_worker: 2}", "unknown key 'parallel.n_worker' (nearest: 'n_workers')"),
        ("parallel: {env: slrum}", "parallel.env: unknown 'slrum' (nearest: 'slurm')"),
        ("parallel: {n_workers: 0}", "parallel.n_workers must be a whole number from 1 on"),
        ("parallel: {n_workers: true}", "parallel.n_workers must be a whole number from 1 on"),
        ("parallel: {start_timeout: -1}", "parallel.start_timeout must be seconds, above 0"),
        ("parallel: {options: [a]}", "parallel.options must be a mapping"),
        ("parallel: {env: slurm}", "parallel.options needs cores and memory of a job"),
        (
            "parallel: {env: sge, options: {cores: 1, memory: 1GB, processes: 0}}",
            "parallel.options.processes must be a whole number from 1 on",
        ),
        (
            "parallel: {env: ssh, options: {hosts: [a]}}",
            "parallel.options.hosts must list the scheduler's host and then one for each worker",
        ),
        (
            "parallel: {env: ssh, n_workers: 2, options: {hosts: [a, b]}}",
            "parallel.n_workers is 2, and parallel.options.hosts has 1 after the scheduler's: "
            "name a host for each worker",
        ),
    ],
)
def test_a_mistake_is_one_line(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(UserError) as error:
        read_cluster_config(path)
    assert str(error.value) == f"{path}: {message}"


def test_a_missing_package_names_the_extra(tmp_path, monkeypatch):
    config = read_cluster_config(write(tmp_path, GOOD))
    monkeypatch.setattr(cluster_config.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"env: slurm needs the package distributed: pip install"):
        check_engine(config)


def test_a_missing_program_says_where_to_run(tmp_path, monkeypatch):
    config = read_cluster_config(write(tmp_path, GOOD))
    monkeypatch.setattr(cluster_config.importlib.util, "find_spec", lambda name: True)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="env: slurm needs sbatch, which is not on PATH: run this"):
        check_engine(config)


def test_kubernetes_needs_the_name_that_espnet3_imports(tmp_path, monkeypatch):
    config = read_cluster_config(write(tmp_path, "parallel: {env: kube}"))
    monkeypatch.setattr(cluster_config.importlib.util, "find_spec", lambda name: True)
    monkeypatch.setitem(sys.modules, "dask_kubernetes", types.ModuleType("dask_kubernetes"))
    with pytest.raises(UserError, match="env: kube: this dask_kubernetes has no KubeCluster"):
        check_engine(config)


@pytest.mark.parametrize("text", [None, "parallel: {env: local, n_workers: 5}"])
def test_local_means_forks(tmp_path, text):
    path = text and write(tmp_path, text)
    with jobs_run_by_file(path, tmp_path) as engine:
        assert engine is None
        assert not on_cluster()
