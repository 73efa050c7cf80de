"""What our tasks change in ESPnet's: the trainer, and the processes that it spawns."""

import argparse
import multiprocessing

from mtla_espnet.parallel import end_with_parent
from mtla_espnet.tasks.trainer import Trainer


class OwnTask:
    """To be put before a task of ESPnet among a class's bases.

    ESPnet spawns a process for each of several GPUs, which runs `main_worker`, pickled as a
    bound method of the task. To unpickle it the process imports the task's module, which is
    ours, and so registers our classes.
    """

    trainer = Trainer

    @classmethod
    def main_worker(cls, args: argparse.Namespace) -> None:
        """Train in this process; a spawned one does not outlive the process that spawned it.

        Otherwise a training that was killed would go on, and write its checkpoints beside
        those of the run that takes its place.
        """
        parent = multiprocessing.parent_process()
        if parent is not None:
            end_with_parent(parent.pid)
        super().main_worker(args)
