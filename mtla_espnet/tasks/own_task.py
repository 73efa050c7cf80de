"""What our tasks change in ESPnet's: the trainer, the processes that it spawns, and trust."""

import argparse
import multiprocessing

from mtla_espnet.programs import end_with_parent
from mtla_espnet.tasks.trainer import Trainer
from mtla_espnet.trust import nothing_runs


class OwnTask:
    """To be put before a task of ESPnet among a class's bases.

    ESPnet spawns a process for each of several GPUs, which runs `main_worker`, pickled as a
    bound method of the task. To unpickle it the process imports the task's module, which is
    ours, and so registers our classes.
    """

    trainer = Trainer

    @classmethod
    def main_worker(cls, args: argparse.Namespace) -> None:
        """Train in this process, be it spawned or not."""
        settle_in_spawned_process()
        super().main_worker(args)

    @classmethod
    def build_optimizers(cls, args: argparse.Namespace, model) -> list:
        """Build ESPnet's optimisers; Adam and AdamW are PyTorch's fused ones on a GPU.

        They compute the same within rounding. A configuration that says otherwise by `fused` or
        `foreach` is left as it is, and a training goes on from the state of either.
        """
        on_gpu = all(parameter.is_cuda for parameter in model.parameters())
        chosen = {"fused", "foreach", "capturable", "differentiable"} & set(args.optim_conf)
        if not on_gpu or chosen or args.sharded_ddp or args.optim not in ("adam", "adamw"):
            return super().build_optimizers(args, model)
        fused = argparse.Namespace(**vars(args) | {"optim_conf": args.optim_conf | {"fused": True}})
        optimizers = super().build_optimizers(fused, model)
        for optimizer in optimizers:
            optimizer.register_load_state_dict_pre_hook(_stay_fused)
        return optimizers

    @classmethod
    def build_model(cls, args: argparse.Namespace):
        """Build the model; of the files that its configuration names, none runs code.

        Raises:
            UserError: one would have run code.
            Exception: whatever a class of the configuration raises.
        """
        with nothing_runs("the model's configuration"):
            return super().build_model(args)


def _stay_fused(optimizer, state: dict) -> dict:
    """Let the state of an optimiser that was not fused go on in one that is."""
    groups = [group | {"fused": True, "foreach": None} for group in state["param_groups"]]
    return state | {"param_groups": groups}


def settle_in_spawned_process() -> None:
    """Make a process that ESPnet spawned end with its parent, and fork the loaders' processes.

    A training that was killed would go on otherwise, and write its checkpoints beside those
    of the run that takes its place. And a spawned process spawns its own children, too: those
    that load data would import ESPnet anew in each epoch (78 s to the tenth batch on two H100
    with 4 loaders each, where one GPU took 5 s). Does nothing in a process that has no parent
    of Python's multiprocessing.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    end_with_parent(parent.pid)
    multiprocessing.set_start_method("fork", force=True)
