"""The GPUs of this machine: one process a GPU runs its share of the jobs."""

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from typing import Any

from mtla_espnet.jobs.parallel import call_each, run_on_devices


@dataclasses.dataclass(frozen=True)
class Devices:
    """An engine whose workers are processes with one GPU each.

    A process is started for its whole share of the jobs, since it loads libraries and weights.
    Where it is killed, or its GPU fails, another does that share from its beginning: jobs that find
    what they have done already lose little.

    Args:
        names: the GPU of each process, see `run_on_devices`.
    """

    names: Sequence[str]

    @property
    def n_workers(self) -> int:
        """How many processes there are."""
        return len(self.names)

    def run_jobs(
        self, function: Callable[[Any], Any], argument_list: Sequence[Any], progress: str | None
    ) -> list[Any]:
        """Call `function(argument)` for each argument.

        Args:
            function: takes one argument; it and its result are pickled.
            argument_list: one entry a job.
            progress: label of a progress bar, which counts shares; None: no bar.

        Returns:
            The results, in the order of `argument_list`.

        Raises:
            UserError: a job raised one.
            JobKilled: the last process was killed.
            RuntimeError: a job failed on all GPUs (its traceback).
        """
        n_shares = min(len(self.names), len(argument_list))
        shares = [argument_list[number::n_shares] for number in range(n_shares)]
        found = run_on_devices(functools.partial(call_each, function), shares, self.names, progress)
        results: list[Any] = [None] * len(argument_list)
        for number, share in enumerate(found):
            results[number::n_shares] = share
        return results

    def close(self) -> None:
        """Do nothing: no process outlives its share."""


def visible_devices() -> list[str]:
    """Return the GPUs that this process sees, as `CUDA_VISIBLE_DEVICES` names them."""
    import torch  # here: a skipped stage need not wait for it

    count = torch.cuda.device_count()
    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [str(number) for number in range(count)] if names is None else names.split(",")[:count]


def devices_of(n_processes: int | None) -> list[str]:
    """Return the GPU of each process; where processes are more than GPUs, they share them in turn.

    Args:
        n_processes: how many there are; None: one a GPU.
    """
    visible = visible_devices()
    count = n_processes or len(visible)
    return [visible[number % len(visible)] for number in range(count)] if visible else []
