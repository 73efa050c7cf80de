"""The class of each task's models."""

import importlib

from mtla_espnet.inference.trained_model import TrainedModel
from mtla_espnet.task import TASKS


def model_class(task: str) -> type[TrainedModel]:
    """Return the class of a task's models.

    Args:
        task: its name: asr, st, slu or sum.

    Raises:
        ValueError: there is no such task.
    """
    if task not in TASKS:
        raise ValueError(f"task {task!r} is unknown: say {', '.join(TASKS)}")
    module, _, name = TASKS[task].inference.partition(":")
    return getattr(importlib.import_module(module), name)
