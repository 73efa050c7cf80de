"""Batches of utterances of similar length that fit into memory."""

import contextlib
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch

from mtla_espnet.search.batch_plan import longest_first, next_batch

# What torch says where the CPU's memory is at an end; CUDA has an exception of its own.
_CPU_REFUSALS = ("can't allocate memory", "not enough memory", "bad_alloc")


def in_batches[Result](
    lengths: Mapping[str, int],
    batch_size: int,
    decode: Callable[[list[str]], Result],
    most: float = math.inf,
    batch_length: int = 0,
) -> Iterator[tuple[list[str], Result | None]]:
    """Decode utterances in batches, the longest first.

    A batch has at most `batch_size` utterances, and at most a total length (utterances times
    the longest one). Where it does not fit into memory all the same, it is tried again with half
    its total length, and no later batch is longer in total. The log names the utterances.

    Args:
        lengths: id -> length, in any unit.
        batch_size: utterances, at least 1.
        decode: decodes a batch.
        most: total length that there is memory for.
        batch_length: total length of a batch, at most; an utterance that is longer is alone;
            0: any.

    Yields:
        A batch and its result; None for an utterance that does not fit even alone.
    """
    waiting = longest_first(lengths)
    while waiting:
        longest = max(1, lengths[waiting[0]])
        batch = next_batch(waiting, lengths, batch_size, min(most, batch_length or math.inf))
        names = " ".join(batch)
        if longest > most:
            result, refusal = None, f"length {longest}, there is memory for {most:.0f}"
        else:
            result, refusal = _attempt(decode, batch)
        if refusal is not None:
            if torch.cuda.is_available():  # what its allocator keeps is in pieces
                torch.cuda.empty_cache()
            if len(batch) > 1:
                most = len(batch) * longest / 2
                logging.warning(f"out of memory, halving the batch of {names}: {refusal}")
                continue
            logging.warning(f"{names}: does not fit into memory even alone: {refusal}")
        del waiting[: len(batch)]
        yield batch, result


def _attempt[Result](
    decode: Callable[[list[str]], Result], batch: list[str]
) -> tuple[Result | None, str | None]:
    """Return a batch's result, or what was said where memory did not suffice.

    The exception is gone on return, and with it the tensors that it held.
    """
    try:
        return decode(batch), None
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return None, str(error).split("\n")[0]


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an exception means that memory did not suffice."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _CPU_REFUSALS)


def available_memory() -> int | None:
    """Return the bytes of memory that are free for use; None where the system does not tell."""
    return _read_size(Path("/proc/meminfo"), "MemAvailable:")


def _read_size(path: Path, name: str) -> int | None:
    """Read a line such as `VmData:  123 kB` as bytes."""
    with contextlib.suppress(OSError):
        for line in path.read_text().splitlines():
            if line.startswith(name):
                return 1024 * int(line.split()[1])
    return None
