"""The classes that a configuration may choose in a task of ESPnet, and what they take."""

import inspect


def class_choices(task: type) -> dict[str, dict]:
    """Return what a task lets choose.

    Args:
        task: a class of ESPnet's tasks.

    Returns:
        Option that names a class -> `default` and `classes`: name -> arguments of the class;
        None: it takes any.
    """
    return {
        choice.name: {
            "default": choice.default,
            "classes": {name: class_arguments(cls) for name, cls in sorted(choice.classes.items())},
        }
        for choice in task.class_choices_list
    }


def class_arguments(cls: type) -> list[str] | None:
    """Return the names of what a class is made with; None: it takes any.

    Example:
        >>> import argparse
        >>> class_arguments(argparse.Namespace) is None
        True
    """
    parameters = inspect.signature(cls).parameters.values()
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        return None
    return sorted(each.name for each in parameters if each.kind is not each.VAR_POSITIONAL)
