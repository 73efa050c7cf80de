"""Options of Dask's engines: what the user's file may say, and what is set beside it.

TLS is on: Dask has no authentication of its own. Sources: documentation of dask.distributed and
dask-jobqueue, `espnet3/parallel/parallel.py`.
"""

import inspect
import subprocess
from pathlib import Path

from dask.distributed import Security, SSHCluster
from omegaconf import DictConfig, OmegaConf

from mtla_espnet.config import check_keys
from mtla_espnet.files import UserError, write_text
from mtla_espnet.jobs.cluster_config import PROGRAMS, ClusterConfig
from mtla_espnet.signals import handlers_kept

with handlers_kept():  # its module `runner` lets SIGINT call `sys.exit`
    import dask_jobqueue.core

_LOOPBACK = "127.0.0.1:0"
_TLS_FILES = {"ca_file": "ca-file", "cert": "cert", "key": "key"}


class PlainSettings(DictConfig):
    """Settings in the form that espnet3 asks for, whose values are plain lists and mappings.

    `SSHCluster` takes a mapping of OmegaConf for a list.

    Example:
        >>> type(PlainSettings({"options": {"hosts": ["a"]}}).options)
        <class 'dict'>
    """

    def __getattr__(self, key: str) -> object:
        """Return a value, as `settings.options` asks for it."""
        value = super().__getattr__(key)
        return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


def settings_of_ssh(config: ClusterConfig, private: Path) -> dict:
    """Return the settings of Dask that `env: ssh` needs; write certificates that they name.

    Args:
        config: what the user's file says; for others nothing is set, their options say it.
        private: directory of the user alone, which all machines see.
    """
    if config.env != "ssh":
        return {}
    security = Security.temporary()
    settings: dict = {
        "distributed.comm.require-encryption": True,
        "distributed.logging.distributed": "info",  # `SSHCluster` waits for the line of the address
    }
    for role in ("scheduler", "worker", "client"):
        for name, content in security.get_tls_config_for_role(role).items():
            if name not in _TLS_FILES or content is None:
                continue
            path = private / f"{role}.{name}"
            path.touch(mode=0o600)
            path.write_text(content)
            key = _TLS_FILES[name] if name == "ca_file" else f"{role}.{_TLS_FILES[name]}"
            settings[f"distributed.comm.tls.{key}"] = str(path)
    return settings


def engine_options(config: ClusterConfig, private: Path, logs: Path) -> dict:
    """Return all options of Dask's class: the user's, and what they leave open.

    Args:
        config: what the user's file says.
        private: directory of the user alone, which all machines see.
        logs: where the workers' logs go.
    """
    options = dict(config.options)
    scheduler = {"dashboard_address": _LOOPBACK} | dict(options.get("scheduler_options") or {})
    if config.env == "ssh":
        threads = {"nthreads": 1, "dashboard_address": _LOOPBACK, "protocol": "tls://"}
        options["worker_options"] = threads | dict(options.get("worker_options") or {})
        options["scheduler_options"] = {"protocol": "tls://"} | scheduler
        options["hosts"] = options["hosts"][: config.n_workers + 1]
    elif config.env in PROGRAMS:
        options.setdefault("processes", 1)
        if options.setdefault("security", True):
            options.setdefault("protocol", "tls://")
        options.setdefault("shared_temp_directory", str(private))
        options.setdefault("log_directory", str(logs))
        extra = ["--nthreads", "1", "--dashboard-address", _LOOPBACK]
        options["worker_extra_args"] = [*extra, *(options.get("worker_extra_args") or [])]
        options["scheduler_options"] = scheduler
    return options


def check_options(config: ClusterConfig) -> None:
    """Refuse options that Dask's class does not have.

    Raises:
        UserError: there is one; names the nearest that it has.
    """
    env = config.env
    if env == "kube":
        return
    functions = [SSHCluster]
    if env in PROGRAMS:
        cluster = _queue_class(env)
        functions = [cluster.job_cls, dask_jobqueue.core.Job, dask_jobqueue.JobQueueCluster]
    legal = {name for each in functions for name in inspect.signature(each).parameters}
    legal -= {"self", "kwargs", "job_kwargs", "base_class_kwargs", "n_workers", "job_cls"}
    check_keys(config.options, legal, config.path, "parallel.options")


def try_out(config: ClusterConfig, options: dict, logs: Path) -> None:
    """Ask Slurm whether it would take the job; leave the script of one to the user.

    Args:
        config: what the user's file says.
        options: as `engine_options` returns them.
        logs: where the script is written, as `job.sh`.

    Raises:
        UserError: it would not; with its reason.
    """
    if config.env not in PROGRAMS:
        return
    job_class = _queue_class(config.env).job_cls
    legal = {
        name
        for each in (job_class, dask_jobqueue.core.Job)
        for name in inspect.signature(each).parameters
    } - {"security"}
    words = {name: value for name, value in options.items() if name in legal}
    script = job_class("tls://127.0.0.1:1", name="trial", **words).job_script()
    path = logs / "job.sh"
    write_text(path, script)
    if config.env != "slurm":
        return
    command = ["sbatch", "--test-only", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UserError(
            f"{config.path}: the queue refuses the job: "
            f"{reason.removeprefix('allocation failure: ')} (its script: {path})"
        )


def _queue_class(env: str) -> type:
    from espnet3.parallel.parallel import CLUSTER_MAP  # here: it loads torch

    return CLUSTER_MAP[env]
