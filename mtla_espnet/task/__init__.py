"""The tasks of the recipes: a record each."""

from collections.abc import Mapping

from mtla_espnet.files import UserError
from mtla_espnet.task import asr, slu, st, sum
from mtla_espnet.task.record import Task

TASKS: dict[str, Task] = {task.name: task for task in (asr.TASK, st.TASK, slu.TASK, sum.TASK)}


def task_named(name: str) -> Task:
    """Return a task.

    Raises:
        UserError: there is none of that name (exit code 2).
    """
    if name not in TASKS:
        raise UserError(f"recipe: unknown task {name!r}; there are {', '.join(TASKS)}", 2)
    return TASKS[name]


def task_of(config: Mapping) -> Task:
    """Return the task of a configuration that training wrote.

    Example:
        >>> task_of({"token_list": ["a"], "src_token_list": ["b"]}).name
        'sum'
    """
    for task in TASKS.values():
        if task.config_key and task.config_key in config:
            return task
    return next(task for task in TASKS.values() if not task.config_key)
