"""The processes that train one model together, and which of them this one is.

Some ways lead to several processes, all through ESPnet's own options:

- `--ngpu N`: ESPnet spawns one for each GPU of this machine; no other is started.
- `--num_nodes M`: each of M machines runs the recipe with its number in `RANK`, and ESPnet
  spawns one for each GPU there.
- a job of Slurm runs the recipe in the same way, see `mtla_espnet.runner.training_job`.
- `torchrun`: it starts each of them, and sets `RANK`, `LOCAL_RANK`, `WORLD_SIZE`,
  `MASTER_ADDR` and `MASTER_PORT`.

In all but the first the recipe itself runs several times, on one disk. Then only the first of
them locks the directory, marks the stage as done and writes models.
"""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

from mtla_espnet.files import UserError
from mtla_espnet.jobs.cluster_config import read_cluster_config

TRAININGS = (7, 11)
# Environment variable that names a file: once it is there, a training saves and ends.
SAVE_REQUEST = "MTLA_ESPNET_SAVE_REQUEST"


@dataclasses.dataclass(frozen=True)
class ProcessPlace:
    """The place of this run of the recipe among those that train together.

    Args:
        rank: its number; 0 is the one that writes.
        size: how many there are; 1: it is alone (with all the GPUs of `--ngpu`).
        is_worker: torchrun started it, for one GPU.
        meeting: arguments for ESPnet, by which they find each other.
    """

    rank: int = 0
    size: int = 1
    is_worker: bool = False
    meeting: tuple[str, ...] = ()

    @property
    def log_name(self) -> str:
        """Name of its log in the directory of the training."""
        return f"train.rank{self.rank}.log" if self.rank else "train.log"

    def processes(self, ngpu: int) -> int:
        """Return how many processes train, with `ngpu` GPUs of this run."""
        return self.size * max(1, ngpu)

    def arguments(self, ngpu: int) -> list[str]:
        """Return what ESPnet's training is told.

        Args:
            ngpu: GPUs of this run; ESPnet spawns a process for each of several.
        """
        spawning = not self.is_worker and (ngpu > 1 or self.size > 1)
        result = ["--ngpu", str(ngpu), "--multiprocessing_distributed", str(spawning).lower()]
        if self.size > 1 and ngpu == 0:
            result += ["--dist_backend", "gloo"]
        return [*result, *self.meeting]


def number_of_gpus(options: SimpleNamespace) -> int:
    """Return `--ngpu`; where it is not given, 1 if CUDA is visible, else 0."""
    if options.ngpu is not None:
        return options.ngpu
    import torch  # here: a skipped stage need not wait for it

    return int(torch.cuda.is_available())


def is_submitted(options: SimpleNamespace) -> bool:
    """Say whether the trainings of this run are submitted, as jobs of Slurm.

    Args:
        options: what `parse_options` returns.

    Raises:
        UserError: the file of `--parallel` is missing or wrong.
    """
    if not (options.parallel and options.submit_training):
        return False
    return read_cluster_config(Path(options.parallel)).env == "slurm"


def training_place(options: SimpleNamespace) -> ProcessPlace:
    """Find the place of this run by the options and the environment.

    Args:
        options: what `parse_options` returns.

    Raises:
        UserError: they do not fit together, or a variable is missing or wrong.
    """
    size = options.num_nodes
    if size < 1:
        raise UserError("run.sh: --num_nodes must be at least 1", 2)
    if is_submitted(options):
        return ProcessPlace()  # the processes are those of the job
    if "LOCAL_RANK" in os.environ and _variable("WORLD_SIZE", default=1) > 1:
        if size > 1:
            raise UserError(f"--num_nodes {size}: say --nnodes to torchrun instead", 2)
        if (options.ngpu or 0) > 1:
            message = "torchrun starts a process for each GPU: say --ngpu 1"
            raise UserError(f"--ngpu {options.ngpu}: {message}", 2)
        return ProcessPlace(_variable("RANK"), _variable("WORLD_SIZE"), is_worker=True)
    if size == 1:
        return ProcessPlace()
    wanted = f"--num_nodes {size} needs"
    rank = _variable("RANK", f"{wanted} the number of this machine, 0 to {size - 1}, in RANK")
    if rank >= size:
        raise UserError(f"--num_nodes {size}: RANK={rank} must be 0 to {size - 1}", 2)
    address = os.environ.get("MASTER_ADDR")
    if not address:
        raise UserError(f"{wanted} the address of machine 0 in MASTER_ADDR", 2)
    port = _variable("MASTER_PORT", f"{wanted} a free port of machine 0 in MASTER_PORT")
    meeting = {"world_size": size, "rank": rank, "master_addr": address, "master_port": port}
    words = [word for name, value in meeting.items() for word in (f"--dist_{name}", str(value))]
    return ProcessPlace(rank, size, meeting=tuple(words))


def check_stages(place: ProcessPlace, stages: Sequence[int]) -> None:
    """Check that a run which trains together with others does nothing else.

    Args:
        place: of this run.
        stages: numbers of those that will run.

    Raises:
        UserError: there are other stages, or several trainings.
    """
    if place.size > 1 and (len(stages) != 1 or stages[0] not in TRAININGS):
        raise UserError(
            f"{place.size} processes train together, in a call that chooses a training alone: "
            "--stage 11 --stop_stage 11 (or 7), the stages before it in a call without them",
            2,
        )


def _variable(name: str, missing: str = "", default: int | None = None) -> int:
    """Return an environment variable that holds a number from 0 on."""
    text = os.environ.get(name)
    if text is None and default is not None:
        return default
    if text is None:
        raise UserError(missing or f"{name} is not set", 2)
    if not text.isdecimal():
        raise UserError(f"{name}={text!r} must be a number from 0 on", 2)
    return int(text)
