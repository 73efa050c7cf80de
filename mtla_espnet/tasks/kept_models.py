"""The models of epochs that a training keeps: rebuilt when it goes on, averaged when it ends."""

import logging
import zipfile
from collections.abc import Collection, Sequence
from pathlib import Path

import torch
from espnet2.main_funcs.average_nbest_models import average_nbest_models
from espnet2.train.reporter import Reporter

from mtla_espnet.files import UserError, atomic_path

Criteria = Sequence[Sequence[str]]


def save_whole(value, path: Path) -> None:
    """`torch.save` under a temporary name, then rename.

    It saves through a file object: given a path, torch stores the file's stem inside the
    file, and the temporary name would change its bytes.
    """
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        torch.save(value, stream)


def rebuild(checkpoint: Path, criteria: Criteria) -> Reporter:
    """Make of a checkpoint what ESPnet writes after it, where a kill or a hand removed it.

    Those are the last epoch's model and the links `latest.pth` and `<phase>.<name>.best.pth`.

    Args:
        checkpoint: of ESPnet's trainer.
        criteria: ESPnet's `best_model_criterion`: (phase, name, min or max).

    Returns:
        The reports of the epochs.

    Raises:
        UserError: it is not a whole checkpoint.
    """
    directory = checkpoint.parent
    try:
        # ESPnet's reader would ask a user at a terminal whether it may run what is in there.
        states = torch.load(checkpoint, map_location="cpu", weights_only=True)
        reporter = Reporter()
        reporter.load_state_dict(states["reporter"])
        model = states["model"]
    except Exception as error:  # whatever the unpickler stumbles over first
        raise UserError(
            f"{checkpoint}: not a whole checkpoint ({type(error).__name__}): remove it to train "
            "from the first epoch on, or put a copy in its place"
        ) from None
    last = directory / f"{reporter.get_epoch()}epoch.pth"
    if not _is_whole(last):
        logging.warning(f"{last} is missing or damaged: it is rebuilt from {checkpoint.name}")
        save_whole(model, last)
    _link(directory / "latest.pth", last.name)
    for phase, name, mode in criteria:
        if reporter.has(phase, name):
            best = reporter.get_best_epoch(phase, name, mode)
            _link(directory / f"{phase}.{name}.best.pth", f"{best}epoch.pth")
    return reporter


def _is_whole(path: Path) -> bool:
    """Say whether a model is there, and is no file of zeros or cut off, as after a power cut."""
    return zipfile.is_zipfile(path)  # torch.save writes one, with its directory at the end


def _link(path: Path, target: str) -> None:
    if not path.is_symlink() or str(path.readlink()) != target:
        with atomic_path(path) as temporary:
            temporary.symlink_to(target)


class _WithoutMissing(Reporter):
    """A reporter of the epochs whose models are there."""

    def __init__(self, reporter: Reporter, directory: Path):
        super().__init__(reporter.get_epoch())
        self.stats = reporter.stats
        self._directory = directory

    def sort_epochs_and_values(self, key: str, key2: str, mode: str) -> list[tuple[int, float]]:
        found = super().sort_epochs_and_values(key, key2, mode)
        return [pair for pair in found if _is_whole(self._directory / f"{pair[0]}epoch.pth")]


def average_kept_models(
    output_dir: Path,
    reporter: Reporter,
    best_model_criterion: Criteria,
    nbest: Collection[int] | int,
    suffix: str | None = None,
) -> None:
    """Average the best models as ESPnet does, but of those that are there.

    ESPnet dies, at the end of a training, where one is missing: removed by hand, or by an
    earlier run that kept fewer. A name such as `valid.acc.ave_4best.pth` tells how many it is.

    Args:
        output_dir: of the training.
        reporter: of all its epochs.
        best_model_criterion: (phase, name, min or max).
        nbest: how many models to average.
        suffix: put behind the name of an averaged file; None: nothing.
    """
    present = _WithoutMissing(reporter, output_dir)
    numbers = [nbest] if isinstance(nbest, int) else list(nbest)
    for criterion in best_model_criterion:
        if not reporter.has(*criterion[:2]):
            continue
        most = len(reporter.sort_epochs_and_values(*criterion))
        wanted = reporter.sort_epochs_and_values(*criterion)[: max(numbers)]
        kept = present.sort_epochs_and_values(*criterion)
        missing = {epoch for epoch, _ in wanted} - {epoch for epoch, _ in kept}
        if missing:
            names = ", ".join(f"{epoch}epoch.pth" for epoch in sorted(missing))
            logging.warning(
                f"{output_dir}: {names} missing or damaged: the average is one of other models"
            )
        if not kept:
            continue
        # A training of fewer epochs than models has ave_1best in ESPnet, and so here.
        fitting = {min(number, len(kept)) if number <= most else number for number in numbers}
        average_nbest_models(output_dir, present, [criterion], sorted(fitting), suffix)
