"""Training as a job of Slurm: the script, its submission, and the wait for its end.

The job runs the same recipe with the training stage alone, once on each machine. It locks the
directory and marks the stage as done itself. This process only waits, so that it may be killed
and started again.
"""

import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from mtla_espnet.directories import remove_leftovers
from mtla_espnet.files import UserError, write_text
from mtla_espnet.jobs import slurm
from mtla_espnet.jobs.lock import directory_lock
from mtla_espnet.jobs.log import JobFailed, say
from mtla_espnet.jobs.marks import Mark, Part, marked_ns
from mtla_espnet.jobs.processes import SAVE_REQUEST
from mtla_espnet.jobs.slurm_conf import read_slurm_conf
from mtla_espnet.json_files import digest
from mtla_espnet.recipe.recipe import Recipe
from mtla_espnet.stages.shared.training import remove_products

_DIRECTORY = "job"  # in that of the training
_LOG = "train.job.log"
_START = "# Slurm job"
_HEAD = """\
#!/usr/bin/env bash
# Written by the recipe: stage {number} as a job of Slurm, once on each of {machines} machines.
#SBATCH --ntasks-per-node=1 --requeue --open-mode=append --signal=B:USR1@120
machines={machines}
directory={directory}
job={job}
python={python}
command=({command})
export PYTHONPATH={pythonpath}
export {save_request}=$job/save
cd {root} || exit 1
"""
_BODY = """\
[ ! -f path.sh ] || . ./path.sh
echo "# Slurm job $SLURM_JOB_ID, start $((${SLURM_RESTART_COUNT:-0} + 1)), on $SLURM_JOB_NODELIST"
rm -f "$job/save"
touch "$job/began" || exit 1

# The same job again, from the last save. A start that saved nothing would only be repeated.
again() {
    trap '' USR1
    if [ -z "$(find "$directory" -maxdepth 1 -name '[!.]*.pth' -newer "$job/began")" ]; then
        echo "error: $1, and nothing was saved since $(date -r "$job/began"): not requeued" >&2
        exit 1
    fi
    # Not where it was cancelled, or where Slurm requeues it.
    [ "$(squeue --noheader --job "$SLURM_JOB_ID" --format %T)" = RUNNING ] || exit 1
    echo "# requeued: $1"
    scontrol requeue "$SLURM_JOB_ID"
    sleep 60
    exit 1
}

# Two minutes are left: the training saves after its update, and ends.
soon() {
    trap '' USR1
    touch "$job/save"
    for ((second = 0; second < 100; second++)); do
        kill -0 "$step" 2>/dev/null || break
        sleep 1
    done
    kill -0 "$step" 2>/dev/null || ! wait "$step" || exit 0
    again "the time limit is near"
}
trap soon USR1

# srun does not take this over from sbatch.
[ -z "${SLURM_CPUS_PER_TASK:-}" ] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
if [ "$machines" -gt 1 ]; then # names of machines need not resolve
    first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
    MASTER_ADDR=$(scontrol show node "$first" | sed -n 's/.*NodeAddr=\\([^ ]*\\).*/\\1/p')
    free='import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])'
    MASTER_PORT=$("$python" -c "$free")
    export MASTER_ADDR MASTER_PORT
fi
srun --export=ALL --kill-on-bad-exit=1 bash -c \\
    'RANK=$SLURM_NODEID exec "$@"' train "${command[@]}" </dev/null &
step=$!
wait "$step" || again "the training ended with $?"
"""


def check_training_job(recipe: Recipe, number: int, part: Part) -> None:
    """Check, before the first stage runs, that a training can be submitted, if it is not done.

    Raises:
        UserError: the partition has no GPUs, `conf/slurm.conf` cannot be read, or the queue
            would refuse the job.
    """
    command = _words(recipe)
    if marked_ns(part.directory, number) is not None and not recipe.options.force:
        return
    if _ngpu(recipe):
        slurm.check_gpus(command)
    slurm.check_accepted(command)


def describe_job(recipe: Recipe, part: Part) -> str:
    """Return the command that would be submitted, for `--dry_run`."""
    return shlex.join(_submission(recipe, part))


def train_as_job(recipe: Recipe, number: int, part: Part, argv: Sequence[str]) -> None:
    """Submit a training, or find it where it runs already, and wait for its end.

    Where this process is asked to end, such as by Ctrl-C, the job is cancelled.

    Args:
        recipe: its options say on how many machines and GPUs.
        number: the stage.
        part: of the stage.
        argv: the options of this run.

    Raises:
        UserError: the queue refuses the job, or another run waits for it.
        JobFailed: the job ended before the training was done.
    """
    directory, name = part.directory, _name(part)
    command = _submission(recipe, part)
    log, before = directory / _LOG, marked_ns(directory, number)
    with directory_lock(directory / _DIRECTORY):
        job = slurm.find(name)
        if job and recipe.options.force:
            raise UserError(f"--force: Slurm job {job.number} trains in {directory}: scancel it")
        try:
            if job:
                say(f"Slurm job {job.number} trains in {directory} already: waiting for it")
            else:
                _prepare(recipe, number, part, argv)
                job = slurm.SlurmJob(slurm.submit(command), "submitted")
                say(f"Slurm job {job.number}: {shlex.join(command)}")
            say(f"The log is {log}")
            began_bytes = log.stat().st_size if log.exists() else 0
            slurm.wait_for(
                job, name, log, lambda: marked_ns(directory, number) not in (None, before)
            )
        except KeyboardInterrupt:
            slurm.cancel_named(name)
            say(f"Slurm job {job.number if job else name}: cancelled")
            raise
        if Mark(part, number, recipe.root).missing_reason() is not None:
            raise _failed(job.number, log, began_bytes, directory)


def _prepare(recipe: Recipe, number: int, part: Part, argv: Sequence[str]) -> None:
    """Write what the job runs; with `--force`, remove an earlier training once and for all."""
    if recipe.options.force:
        with directory_lock(part.directory):
            remove_products(part.directory)
            Mark(part, number, recipe.root).forget()
    remove_leftovers(part.directory / _DIRECTORY)
    write_text(_script_path(part), _script(recipe, number, part, argv))
    (part.directory / _LOG).touch()


def _failed(number: str, log: Path, began_bytes: int, directory: Path) -> JobFailed:
    text = log.read_bytes()[began_bytes:].decode("utf-8", "replace") if log.exists() else ""
    lines = [line for line in text.rpartition(_START)[2].splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("Error: ", "error: ", "run.pl: "))]
    why = (errors[:1] or lines[-1:] or [""])[0]
    why = why.removeprefix("Error: ").removeprefix("error: ")
    why = why or f"it has written nothing there: do all machines see {directory.absolute()}?"
    return JobFailed(f"Slurm job {number} ended ({slurm.end_of(number)}), log is in {log}: {why}")


def _name(part: Part) -> str:
    """Return the name of the job, another one for each directory; squeue splits at commas."""
    place = re.sub(r"[^\w.-]", "_", part.directory.name, flags=re.ASCII)
    return f"{place}-{digest(str(part.directory.absolute()))[:8]}"


def _script_path(part: Part) -> Path:
    return part.directory / _DIRECTORY / "train.sh"


def _ngpu(recipe: Recipe) -> int:
    """Return `--ngpu`; where it is not given, 1 as in ESPnet: this machine's tell nothing."""
    return 1 if recipe.options.ngpu is None else recipe.options.ngpu


def _words(recipe: Recipe) -> list[str]:
    conf = read_slurm_conf(recipe.root / "conf/slurm.conf")
    return conf.words(num_nodes=recipe.options.num_nodes, gpu=_ngpu(recipe))


def _submission(recipe: Recipe, part: Part) -> list[str]:
    log = str((part.directory / _LOG).absolute()).replace("%", "%%")  # a pattern of Slurm's
    own = ["--job-name", _name(part), "--output", log]
    return [*_words(recipe), *own, str(_script_path(part).absolute())]


def _script(recipe: Recipe, number: int, part: Part, argv: Sequence[str]) -> str:
    own = {"stage": number, "stop_stage": number, "parallel": "", "force": "false"}
    own["ngpu"] = _ngpu(recipe)
    words = [word for name, value in own.items() for word in (f"--{name}", str(value))]
    run = [sys.executable, "-m", "mtla_espnet", "recipe", recipe.task.name, *argv, *words]
    quoted = {
        "directory": part.directory.absolute(),
        "job": (part.directory / _DIRECTORY).absolute(),
        "python": sys.executable,
        "pythonpath": os.environ.get("PYTHONPATH", ""),
        "root": recipe.root.absolute(),
    }
    head = _HEAD.format(
        number=number,
        machines=recipe.options.num_nodes,
        save_request=SAVE_REQUEST,
        command=shlex.join(run),
        **{name: shlex.quote(str(value)) for name, value in quoted.items()},
    )
    return head + _BODY
