"""The file that `--parallel` names: which engine runs jobs, with espnet3's keys.

```yaml
parallel:
  env: slurm          # local | slurm | sge | pbs | lsf | htcondor | ssh | kube
  n_workers: 8
  start_timeout: 600  # s until the first worker must have started; a key of this project
  options: {}         # of Dask's class for the engine, as they are
```
"""

import contextlib
import dataclasses
import importlib.util
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from mtla_espnet.config import check_keys, nearest
from mtla_espnet.files import UserError
from mtla_espnet.jobs.fan_out import Engine, jobs_run_by
from mtla_espnet.yaml_files import load_yaml

# Engine -> the program that submits its jobs, and the one that shows them.
PROGRAMS = {
    "slurm": ("sbatch", "squeue --me"),
    "sge": ("qsub", "qstat"),
    "pbs": ("qsub", "qstat"),
    "lsf": ("bsub", "bjobs"),
    "htcondor": ("condor_submit", "condor_q"),
}
_ENGINES = ("local", *PROGRAMS, "ssh", "kube")
_KEYS = ("env", "n_workers", "options", "start_timeout")
_START_TIMEOUT_S = 600
# Module -> what installs it.
_EXTRA = "pip install -e '.[recipes,cluster]' in the checkout"
_MODULES = {name: _EXTRA for name in ("distributed", "dask_jobqueue", "omegaconf", "cryptography")}


@dataclasses.dataclass(frozen=True)
class ClusterConfig:
    """What the file says.

    Args:
        path: the file, for messages.
        env: the engine; local: forks of this process.
        n_workers: Dask workers.
        options: of Dask's class.
        start_timeout_s: until the first worker must have started.
    """

    path: Path
    env: str
    n_workers: int
    options: Mapping
    start_timeout_s: float

    @property
    def is_local(self) -> bool:
        """Whether jobs are forks of this process."""
        return self.env == "local"

    def describe(self) -> str:
        """Say what will be asked for, for `--dry_run` and the log.

        Example:
            >>> ClusterConfig(Path("x.yaml"), "slurm", 6, {"processes": 2}, 600).describe()
            '3 slurm jobs with 6 workers (x.yaml)'
        """
        if self.is_local:
            return f"forks of this process ({self.path})"
        jobs = -(-self.n_workers // int(self.options.get("processes") or 1))
        many = "" if jobs == 1 else "s"
        workers = f"{self.n_workers} worker{'' if self.n_workers == 1 else 's'}"
        return f"{jobs} {self.env} job{many} with {workers} ({self.path})"


def read_cluster_config(path: Path) -> ClusterConfig:
    """Read the file and check what can be known of it without Dask.

    Raises:
        UserError: it is missing or wrong; names the key, and the nearest legal one.
    """
    content = load_yaml(path)
    check_keys(content, ["parallel"], path)
    section = content.get("parallel")
    if not isinstance(section, dict):
        raise UserError(f"{path}: needs the key 'parallel' with env, n_workers and options")
    check_keys(section, _KEYS, path, "parallel")
    env = section.get("env", "local")
    if env not in _ENGINES:
        raise UserError(f"{path}: parallel.env: unknown {env!r} {nearest(env, _ENGINES)}")
    n_workers = section.get("n_workers", 1)
    if isinstance(n_workers, bool) or not isinstance(n_workers, int) or n_workers < 1:
        raise UserError(f"{path}: parallel.n_workers must be a whole number from 1 on")
    timeout_s = section.get("start_timeout", _START_TIMEOUT_S)
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float) or not timeout_s > 0:
        raise UserError(f"{path}: parallel.start_timeout must be seconds, above 0")
    options = section.get("options") or {}
    if not isinstance(options, dict):
        raise UserError(f"{path}: parallel.options must be a mapping")
    config = ClusterConfig(path, env, n_workers, options, float(timeout_s))
    if env in PROGRAMS and not (options.get("cores") and options.get("memory")):
        raise UserError(f"{path}: parallel.options needs cores and memory of a job")
    processes = options.get("processes", 1)
    if isinstance(processes, bool) or not isinstance(processes, int) or processes < 1:
        raise UserError(f"{path}: parallel.options.processes must be a whole number from 1 on")
    if env == "ssh":
        _check_hosts(config)
    return config


def _check_hosts(config: ClusterConfig) -> None:
    hosts = config.options.get("hosts")
    if not isinstance(hosts, list) or len(hosts) < 2:
        raise UserError(
            f"{config.path}: parallel.options.hosts must list the scheduler's host and then one "
            "for each worker"
        )
    if config.n_workers > len(hosts) - 1:
        raise UserError(
            f"{config.path}: parallel.n_workers is {config.n_workers}, and parallel.options.hosts "
            f"has {len(hosts) - 1} after the scheduler's: name a host for each worker"
        )


def check_engine(config: ClusterConfig) -> None:
    """Check that the engine's packages and programs are here, before anything is submitted.

    Raises:
        UserError: one is missing; says what installs it, or where to run.
    """
    path, env = config.path, config.env
    modules = dict(_MODULES)
    if env == "ssh":
        modules["asyncssh"] = _EXTRA
    for module, install in modules.items():
        if importlib.util.find_spec(module) is None:
            raise UserError(f"{path}: env: {env} needs the package {module}: {install}")
    if env == "kube":
        _check_kubernetes(path)
    if env in PROGRAMS and shutil.which(PROGRAMS[env][0]) is None:
        raise UserError(
            f"{path}: env: {env} needs {PROGRAMS[env][0]}, which is not on PATH: run this where "
            "jobs are submitted, such as a login node"
        )


@contextlib.contextmanager
def jobs_run_by_file(
    path: Path | None, place: Path, surroundings: Sequence[Callable] = ()
) -> Iterator[Engine | None]:
    """Let jobs that are started inside run as a file says.

    Args:
        path: the file; None: forks, as where it says `env: local`.
        place: directory that all machines see, for keys, pickled jobs and the workers' logs.
        surroundings: context managers that jobs run inside, picklable.

    Yields:
        The engine, which may be closed between jobs; None: there is none.

    Raises:
        UserError: the file, or what it needs, is wrong.
    """
    config = read_cluster_config(path) if path else None
    if config is None or config.is_local:
        with jobs_run_by(None):
            yield None
        return
    from mtla_espnet.jobs.cluster import ClusterEngine  # here: a local run has no Dask

    with ClusterEngine(config, place, surroundings) as engine, jobs_run_by(engine):
        yield engine


def _check_kubernetes(path: Path) -> None:
    if importlib.util.find_spec("dask_kubernetes") is None:
        raise UserError(f"{path}: env: kube needs the package dask_kubernetes, in no extra of ours")
    import dask_kubernetes  # here: only who names it has it

    if not hasattr(dask_kubernetes, "KubeCluster"):
        raise UserError(
            f"{path}: env: kube: this dask_kubernetes has no KubeCluster, which espnet3 imports "
            "from it: install an older one, or name another env"
        )
