"""Learning curves of an experiment, from what ESPnet's trainer logs after each epoch."""

import re
from pathlib import Path

LOG = "train.log"
_EPOCH = re.compile(r"(\d+)epoch results: \[train\] (.*?)(?:, \[valid\] (.*?))?(?:, \[|$)", re.M)
_VALUE = re.compile(r"([a-z_]+)=([-\d.e+]+)(?=,|$)")


def learning_curves(experiment: Path) -> dict[str, dict[int, float]]:
    """Return what the trainer measured on the validation set.

    Args:
        experiment: its directory.

    Returns:
        Name of a measure (`loss`, `acc`, ...) -> epoch -> value. Of an epoch that was trained
        twice, the later. Empty without a log.
    """
    path = experiment / LOG
    if not path.exists():
        return {}
    curves: dict[str, dict[int, float]] = {}
    for epoch, _, valid in _EPOCH.findall(path.read_text(encoding="utf-8", errors="replace")):
        for name, value in _VALUE.findall(valid):
            curves.setdefault(name, {})[int(epoch)] = float(value)
    return {name: dict(sorted(curve.items())) for name, curve in curves.items()}
