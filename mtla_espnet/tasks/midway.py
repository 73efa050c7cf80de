"""Saves inside an epoch, from which a training goes on as if it had not been interrupted.

`midway.pth` lies beside ESPnet's checkpoint.pth, which knows whole epochs only. It holds the
epoch, how many batches of it are done, the model, optimisers, schedulers, scaler, the reports
of these batches, and the random state of each process.
"""

import dataclasses
import logging
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from espnet2.train.reporter import SubReporter, WeightedAverage, to_reported_value

from mtla_espnet.files import UserError
from mtla_espnet.tasks.kept_models import save_whole
from mtla_espnet.tasks.progress import Batch

MIDWAY = "midway.pth"


def is_distributed() -> bool:
    """Say whether this process trains together with others."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def read_midway(path: Path) -> dict | None:
    """Read what a training left in the middle of an epoch; None: nothing.

    Raises:
        UserError: it is not whole.
    """
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        state["epoch"], state["batches"]
    except Exception as error:  # whatever the unpickler stumbles over first
        raise UserError(
            f"{path}: not a whole checkpoint ({type(error).__name__}): remove it to train from "
            "the last whole epoch on"
        ) from None
    return state


@dataclasses.dataclass(frozen=True)
class Midway:
    """The batches of an epoch that are not done, with saves between updates.

    A loader of a list of batches does not load those that are done; another one does.

    Args:
        loaded: all batches of the epoch, (ids, name -> (B, ...), name_lengths -> (B,)).
        path: of the file.
        interval: updates from one save to the next; 0: none.
        accum_grad: batches an update.
        model: in training; of several processes, the one that holds it as `module`.
        optimizers: its optimisers, which are between two updates whenever it is saved.
        schedulers: one for each optimiser; None: it has none.
        scaler: of gradients in low precision; None: there is none.
        reporter: ESPnet's, of the epoch.
        request: once this file is there, the training saves after its update and ends; None: no
            one asks.
    """

    loaded: Iterable[Batch]
    path: Path
    interval: int
    accum_grad: int
    model: torch.nn.Module
    optimizers: Sequence
    schedulers: Sequence
    scaler: object | None
    reporter: SubReporter
    request: Path | None = None

    def __len__(self) -> int:
        """Return how many batches the whole epoch has, before the first is taken."""
        return len(self.loaded)

    def __iter__(self) -> Iterator[Batch]:
        """Go on from the last save of this epoch.

        Raises:
            UserError: what was saved is not whole, or the training was asked to save and end.
        """
        saved = read_midway(self.path)
        done = self._restore(saved) if saved and saved["epoch"] == self.reporter.epoch else 0
        interval, request = self.interval * self.accum_grad, self.request
        if is_distributed() and not hasattr(self.loaded, "__len__"):
            if interval or request:
                logging.warning("no saves in an epoch: processes may have other numbers of batches")
            interval, request = 0, None
        remaining = _after(self.loaded, done)
        if done:
            _set_random_state(saved["random"])  # a loader draws from it when it starts
        for number, batch in enumerate(remaining, done + 1):
            yield batch
            asked = request and number % self.accum_grad == 0 and self._is_there(request)
            if asked or (interval and number % interval == 0):
                self._save(number)
            if asked:
                raise UserError("the training was asked to save and end: run it again to go on")

    def has_updated(self) -> bool:
        """Say whether an update of the epoch had finite gradients, also before it was resumed."""
        return any(np.isfinite(each.value) for each in self.reporter.stats.get("grad_norm", ()))

    def _is_there(self, path: Path) -> bool:
        """Say whether the first process sees a file; all must call it."""
        if not is_distributed():
            return path.exists()
        first = torch.distributed.get_rank() == 0
        answer = torch.tensor(int(first and path.exists()))
        answer = answer.to(next(self.model.parameters()).device)  # NCCL takes those of a GPU alone
        torch.distributed.broadcast(answer, src=0)
        return bool(answer)

    def _save(self, number: int) -> None:
        states = [_random_state()]
        if is_distributed():
            states = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(states, _random_state())
            if torch.distributed.get_rank():
                return
        state = {
            "epoch": self.reporter.epoch,
            "batches": number,
            "model": _plain(self.model).state_dict(),
            "optimizers": [each.state_dict() for each in self.optimizers],
            "schedulers": [each and each.state_dict() for each in self.schedulers],
            "scaler": self.scaler and self.scaler.state_dict(),
            "reports": _reports(self.reporter),
            "random": states,
        }
        save_whole(state, self.path)
        logging.info(f"Saved epoch {self.reporter.epoch} after {number} batches to {self.path}")

    def _restore(self, saved: dict) -> int:
        """Go on from what was saved; return how many batches of the epoch are done."""
        _plain(self.model).load_state_dict(saved["model"])
        for mine, state in zip(self.optimizers, saved["optimizers"], strict=True):
            mine.load_state_dict(state)
        for mine, state in zip(self.schedulers, saved["schedulers"], strict=True):
            if mine is not None:
                mine.load_state_dict(state)
        if self.scaler is not None and saved["scaler"] is not None:
            self.scaler.load_state_dict(saved["scaler"])
        _take_reports(self.reporter, saved["reports"])
        logging.info(
            f"The training goes on in epoch {saved['epoch']} after {saved['batches']} batches, "
            f"from {self.path}"
        )
        return saved["batches"]


def _plain(model: torch.nn.Module) -> torch.nn.Module:
    wrappers = (torch.nn.parallel.DistributedDataParallel, torch.nn.DataParallel)
    return model.module if isinstance(model, wrappers) else model


def _after(loaded: Iterable[Batch], done: int) -> Iterator[Batch]:
    """Return an iterator, which has begun to load, of the batches after the first `done`."""
    sampler = getattr(loaded, "batch_sampler", None)
    if isinstance(sampler, list):
        del sampler[:done]  # ESPnet makes a list for each epoch
        return iter(loaded)
    remaining = iter(loaded)
    for _ in zip(range(done), remaining, strict=False):
        pass
    return remaining


def _random_state() -> dict:
    """Return the state of all generators that a training draws from, as torch may load it."""
    kind, keys, *rest = np.random.get_state()
    state = {
        "python": random.getstate(),
        "numpy": (kind, keys.tolist(), *rest),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _set_random_state(states: Sequence[dict]) -> None:
    """Set the state of this process, if it was one of those that saved theirs."""
    rank = torch.distributed.get_rank() if is_distributed() else 0
    if rank >= len(states):
        return
    state = states[rank]
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def _reports(reporter: SubReporter) -> dict:
    """Return name -> [value, weight or None] of each batch, and how many batches there were."""
    values = {
        name: [
            (float(each.value), float(each.weight) if isinstance(each, WeightedAverage) else None)
            for each in reports
        ]
        for name, reports in reporter.stats.items()
    }
    return {
        "values": values,
        "count": reporter.count,
        "total_count": reporter.total_count,
        "passed_s": time.perf_counter() - reporter.start_time,
    }


def _take_reports(reporter: SubReporter, saved: dict) -> None:
    for name, reports in saved["values"].items():
        reporter.stats[name] = [to_reported_value(*report) for report in reports]
    reporter.count, reporter.total_count = saved["count"], saved["total_count"]
    reporter.start_time -= saved["passed_s"]
