"""ESPnet's collection of statistics with sums that do not depend on the number of jobs.

ESPnet adds up features in float32, in whatever portions the jobs come to. Here a batch is a
block: each is summed in float64, and the blocks are added up in the order of the data.
"""

import contextlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import espnet2.tasks.abs_task
import numpy as np
import torch
from espnet2.fileio.datadir_writer import DatadirWriter

_SUMS = ("count", "sum", "sum_square")


@torch.no_grad()
def collect_stats(
    model: torch.nn.Module | None,
    train_iter: Iterable[tuple[list[str], dict[str, torch.Tensor]]],
    valid_iter: Iterable[tuple[list[str], dict[str, torch.Tensor]]],
    output_dir: Path,
    ngpu: int | None = 0,
    log_interval: int | None = None,
    write_collected_feats: bool = False,
) -> None:
    """Write shapes of the data, and the sums of the features of each batch.

    The call is that of `espnet2.main_funcs.collect_stats.collect_stats`. In `output_dir`, for
    train and valid: `<name>_shape` of each input (id -> its lengths, joined by commas), and
    `<name>_blocks.npz` of each kind of features: `count` (N,) frames, `sum` and `sum_square`
    (N, features), float64, of N batches.

    Args:
        model: ESPnet's, with `collect_feats`; None: shapes alone.
        train_iter: batches of (ids, name -> (B, ...), name_lengths -> (B,)).
        valid_iter: batches of the validation set, in the same form.
        output_dir: of the job.
        ngpu: must be 0 or None: statistics are collected on the CPU.
        log_interval: batches between two lines in the log.
        write_collected_feats: must be False.
    """
    if ngpu or write_collected_feats:
        raise ValueError("statistics are collected on the CPU, and features are not kept")
    if model is not None:
        model.eval()
    for mode, batches in (("train", train_iter), ("valid", valid_iter)):
        blocks: dict[str, dict[str, list[np.ndarray]]] = {}
        with DatadirWriter(output_dir / mode) as writer:
            for number, (keys, batch) in enumerate(batches, 1):
                for name, values in _sequences(batch).items():
                    for key, value in zip(keys, values, strict=True):
                        shape = ",".join(map(str, value.shape))
                        writer[f"{name}_shape"][key] = shape
                features = model.collect_feats(**batch) if model is not None else {}
                for name, values in _sequences(features).items():
                    for kind, value in zip(_SUMS, block_sums(values), strict=True):
                        block = blocks.setdefault(name, {kind: [] for kind in _SUMS})
                        block[kind].append(value)
                if number % (log_interval or 100) == 0:
                    logging.info(f"{mode}: {number} batches")
        for name, block in blocks.items():
            np.savez(
                output_dir / mode / f"{name}_blocks.npz",
                **{kind: np.stack(values) for kind, values in block.items()},
            )


def _sequences(batch: Mapping[str, torch.Tensor]) -> dict[str, list[torch.Tensor]]:
    """Return what a batch holds without padding: name -> one tensor an utterance."""
    return {
        name: [
            row[: int(batch[f"{name}_lengths"][i])] if f"{name}_lengths" in batch else row
            for i, row in enumerate(values)
        ]
        for name, values in batch.items()
        if not name.endswith("_lengths") and not isinstance(values, Mapping)
    }


def block_sums(sequences: Sequence[torch.Tensor]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the number of frames, their sum and the sum of their squares, in float64.

    Args:
        sequences: (T, features) or (features,) each.
    """
    frames = [np.atleast_2d(sequence.cpu().numpy()).astype(np.float64) for sequence in sequences]
    joined = np.concatenate(frames)
    return np.array(len(joined)), joined.sum(0), (joined**2).sum(0)


@contextlib.contextmanager
def sums_in_blocks() -> Iterator[None]:
    """While it is entered, ESPnet's programs collect by `collect_stats` of this module.

    They compute on one thread: how a product of matrices is cut among threads may change
    its last bits.
    """
    module, threads = espnet2.tasks.abs_task, torch.get_num_threads()
    replaced = module.collect_stats
    module.collect_stats = collect_stats
    torch.set_num_threads(1)
    try:
        yield
    finally:
        module.collect_stats = replaced
        torch.set_num_threads(threads)


def add_blocks(jobs: Sequence[Path]) -> dict[str, dict[str, np.ndarray]]:
    """Add up the blocks of all jobs, one by one in their order.

    Args:
        jobs: directories of one mode, in the order of the data.

    Returns:
        Name of the features -> count (), sum and sum_square (features,), as ESPnet's
        `GlobalMVN` reads them.
    """
    totals: dict[str, dict[str, np.ndarray]] = {}
    for job in jobs:
        for path in sorted(job.glob("*_blocks.npz")):
            blocks = np.load(path)
            total = totals.setdefault(path.name.removesuffix("_blocks.npz"), {})
            for kind in _SUMS:
                for block in blocks[kind]:
                    total[kind] = total[kind] + block if kind in total else block
    return totals
