"""The class of each task's models."""

from mtla_espnet.inference.speech2text import Speech2Text
from mtla_espnet.inference.speech2translation import Speech2Translation
from mtla_espnet.inference.speech2understand import Speech2Understand
from mtla_espnet.inference.text2text import Text2Text
from mtla_espnet.inference.trained_model import TrainedModel

MODELS: dict[str, type[TrainedModel]] = {
    kind.task: kind for kind in (Speech2Text, Speech2Translation, Speech2Understand, Text2Text)
}


def model_class(task: str) -> type[TrainedModel]:
    """Return the class of a task's models, by ESPnet's name of the task.

    Raises:
        ValueError: there is no such task.
    """
    if task not in MODELS:
        raise ValueError(f"task {task!r} is unknown: say {', '.join(MODELS)}")
    return MODELS[task]
