"""ESPnet's trainer with whole files, and with saves inside an epoch where they are asked for.

An interruption at any moment loses one epoch at most, or the updates since the last save.
"""

import argparse
import contextlib
import dataclasses
import importlib
import os
from collections.abc import Iterator
from pathlib import Path

import espnet2.train.trainer
import torch
from espnet2.train.reporter import Reporter
from espnet2.utils.build_dataclass import build_dataclass

from mtla_espnet.files import UserError
from mtla_espnet.jobs.processes import SAVE_REQUEST
from mtla_espnet.json_files import write_json
from mtla_espnet.tasks.graphs import GraphedModel, check_supported
from mtla_espnet.tasks.kept_models import average_kept_models, rebuild, save_whole
from mtla_espnet.tasks.midway import MIDWAY, Midway, is_distributed
from mtla_espnet.tasks.progress import Counted

CHECKPOINT = "checkpoint.pth"
SUMMARY = "training.json"


def training_summary(reporter: Reporter, model: torch.nn.Module, accum_grad: int) -> dict:
    """What the training has cost so far; `training.json` holds it.

    Args:
        reporter: ESPnet's reporter; a resumed one also knows the epochs before.
        model: the model in training.
        accum_grad: batches an update.

    Returns:
        `parameters` (trainable), `epochs`, `updates`, `train_s` (wall seconds of training and
        validation over all epochs), `device` (cpu, or the name of the GPU), `processes`
        (each with such a device), `threads` (of each).
    """
    batches_before = updates = 0
    train_s = 0.0
    for epoch in range(1, reporter.get_epoch() + 1):
        stats = reporter.stats[epoch]
        batches = stats["train"]["total_count"]
        updates += (batches - batches_before) // accum_grad
        batches_before = batches
        train_s += sum(stats[phase]["time"].total_seconds() for phase in ("train", "valid"))
    device = next(model.parameters()).device
    return {
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "epochs": reporter.get_epoch(),
        "updates": updates,
        "train_s": round(train_s, 3),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processes": torch.distributed.get_world_size() if is_distributed() else 1,
        "threads": torch.get_num_threads(),
    }


def check_same_start(output_dir: Path, resume: bool) -> None:
    """Check that all processes of a training go on from the same checkpoint; all must call it.

    Each reads the checkpoint itself, and only the first writes it. Where they do not share
    the directory, they would train different epochs of different models.

    Raises:
        UserError: the checkpoint is not the same for all.
    """
    if not is_distributed():
        return
    for path in (output_dir / CHECKPOINT, output_dir / MIDWAY):
        here = None
        if resume and path.exists():
            status = path.stat()
            here = status.st_size, status.st_mtime_ns
        everywhere = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(everywhere, here)
        if len(set(everywhere)) > 1:
            rank = torch.distributed.get_rank()
            raise UserError(
                f"{path}: process {rank} of the training sees another file than others do: "
                "the directory must be on a disk that all machines share"
            )


class _TorchWithWholeSaves:
    """Stands for the name `torch` in ESPnet's trainer; only `save` differs.

    ESPnet saves checkpoint.pth first, then <epoch>epoch.pth. Here the checkpoint is held back
    until the epoch's model and summary are written: where it says that an epoch is over,
    nothing of that epoch is missing.
    """

    def __init__(self, model: torch.nn.Module, accum_grad: int):
        self._model = model
        self._accum_grad = accum_grad
        self._held_back = None

    def __getattr__(self, name):
        return getattr(torch, name)

    def save(self, value, path: Path) -> None:
        if path.name == CHECKPOINT:
            self._held_back = value
            return
        save_whole(value, path)
        if self._held_back is not None:
            reporter = Reporter()
            reporter.load_state_dict(self._held_back["reporter"])
            summary = training_summary(reporter, self._model, self._accum_grad)
            write_json(path.with_name(SUMMARY), summary)
            save_whole(self._held_back, path.with_name(CHECKPOINT))
            path.with_name(MIDWAY).unlink(missing_ok=True)  # of this epoch, which is whole now
            self._held_back = None


@contextlib.contextmanager
def _torch_replaced(replacement) -> Iterator[None]:
    # ESPnet's trainer has no hook around its saves. The averaging of models saves as well.
    modules = [
        espnet2.train.trainer,
        importlib.import_module("espnet2.main_funcs.average_nbest_models"),
    ]
    trainer = espnet2.train.trainer
    average = trainer.average_nbest_models
    for module in modules:
        module.torch = replacement
    trainer.average_nbest_models = average_kept_models
    try:
        yield
    finally:
        for module in modules:
            module.torch = torch
        trainer.average_nbest_models = average


@dataclasses.dataclass
class TrainerOptions(espnet2.train.trainer.TrainerOptions):
    """ESPnet's options of a training, `save_interval_updates` and `train_graphs`.

    Attributes:
        graphed: the model with its graphs, once there are any.
    """

    save_interval_updates: int
    train_graphs: int

    def __post_init__(self):
        self.graphed: GraphedModel | None = None


class Trainer(espnet2.train.trainer.Trainer):
    """ESPnet's Trainer that writes every model file as a whole, and `training.json`.

    A training that goes on is made whole first, by `rebuild`; one that had stopped early
    stays so.
    """

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add our options, which are options of the training configuration too."""
        parser.add_argument(
            "--save_interval_updates",
            type=int,
            default=0,
            help="Updates from one save inside an epoch to the next; 0: none",
        )
        parser.add_argument(
            "--train_graphs",
            type=int,
            default=0,
            help="CUDA graphs kept for shapes of batches, on one GPU; 0: none",
        )

    @classmethod
    def build_options(cls, args: argparse.Namespace) -> TrainerOptions:
        """Take the options of a training from the arguments of ESPnet's program."""
        return build_dataclass(TrainerOptions, args)

    @classmethod
    def run(cls, model: torch.nn.Module, trainer_options, **arguments) -> None:
        """Train as ESPnet's `Trainer.run` does; the arguments are the same, by keyword.

        In the output directory, after each epoch: <epoch>epoch.pth, `training.json` (see
        `training_summary`), then checkpoint.pth, each under a temporary name first. Inside an
        epoch, midway.pth every `save_interval_updates`. Of several processes only the first
        writes.

        Raises:
            UserError: the processes do not see the same checkpoint, or it is not whole; or
                this training can have no graphs, and is to.
        """
        if trainer_options.train_graphs:
            distributed = arguments["distributed_option"].distributed
            check_supported(model, trainer_options.ngpu, distributed)
        checkpoint = Path(trainer_options.output_dir) / CHECKPOINT
        check_same_start(checkpoint.parent, trainer_options.resume)
        if not trainer_options.resume:
            _remove_midway(checkpoint.with_name(MIDWAY))
        if trainer_options.resume and checkpoint.exists():
            trainer_options = _going_on(trainer_options, checkpoint)
        replacement = _TorchWithWholeSaves(model, trainer_options.accum_grad)
        with _torch_replaced(replacement):
            super().run(model=model, trainer_options=trainer_options, **arguments)

    @classmethod
    def train_one_epoch(
        cls, *, model, optimizers, schedulers, scaler, iterator, reporter, options, **arguments
    ) -> bool:
        """Train as ESPnet's `train_one_epoch` does, from the last save of the epoch on.

        Returns:
            Whether no update had finite gradients.

        Raises:
            UserError: the file that `SAVE_REQUEST` names is there: it has saved, and ends.
        """
        request = os.environ.get(SAVE_REQUEST)
        midway = Midway(
            loaded=iterator,
            path=Path(options.output_dir) / MIDWAY,
            interval=options.save_interval_updates,
            accum_grad=options.accum_grad,
            model=model,
            optimizers=optimizers,
            schedulers=schedulers,
            scaler=scaler,
            reporter=reporter,
            request=Path(request) if request else None,
        )
        if options.train_graphs and options.graphed is None:
            options.graphed = GraphedModel(model, options.train_graphs)
        all_invalid = super().train_one_epoch(
            model=options.graphed or model,
            optimizers=optimizers,
            schedulers=schedulers,
            scaler=scaler,
            iterator=Counted(midway, reporter),
            reporter=reporter,
            options=options,
            **arguments,
        )
        return all_invalid and not midway.has_updated()


def _remove_midway(path: Path) -> None:
    """Remove, once, what a training that does not go on left; all processes must call it."""
    if not is_distributed() or torch.distributed.get_rank() == 0:
        path.unlink(missing_ok=True)
    if is_distributed():
        torch.distributed.barrier()


def _going_on(options, checkpoint: Path):
    """Make a training whole; return its options, by which it ends where it had stopped early.

    ESPnet looks at `patience` after an epoch only, and would train one more.
    """
    last_epoch = [options.max_epoch]
    if not is_distributed() or torch.distributed.get_rank() == 0:
        reporter = rebuild(checkpoint, options.best_model_criterion)
        patience = options.patience
        criterion = options.early_stopping_criterion
        if patience is not None and reporter.check_early_stopping(patience, *criterion):
            last_epoch = [reporter.get_epoch()]
    if is_distributed():  # the others wait until the directory is whole
        torch.distributed.broadcast_object_list(last_epoch, src=0)
    return dataclasses.replace(options, max_epoch=last_epoch[0])
