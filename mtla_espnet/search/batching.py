"""Batches of utterances of similar length that fit into memory."""

import contextlib
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch

# What torch says where the CPU's memory is at an end; CUDA has an exception of its own.
_CPU_REFUSALS = ("can't allocate memory", "not enough memory", "bad_alloc")


def longest_first(lengths: Mapping[str, int]) -> list[str]:
    """Return ids in the order in which batches take them.

    Args:
        lengths: id -> length.

    Example:
        >>> longest_first({"a": 3, "c": 8, "b": 8})
        ['b', 'c', 'a']
    """
    return sorted(lengths, key=lambda key: (-lengths[key], key))


def few_sizes(size: int) -> int:
    """Return the next smaller one of few sizes of batches: a GPU keeps a CUDA graph of each.

    Example:
        >>> [few_sizes(size) for size in (1, 7, 9, 11, 13, 100)]
        [1, 7, 8, 10, 12, 96]
    """
    bits = max(0, size.bit_length() - 3)
    return size >> bits << bits


def in_batches[Result](
    lengths: Mapping[str, int],
    batch_size: int,
    decode: Callable[[list[str]], Result],
    most: float = math.inf,
) -> Iterator[tuple[list[str], Result | None]]:
    """Decode utterances in batches, the longest first.

    A batch has at most `batch_size` utterances, and at most the total length `most`
    (utterances times the longest one): then one of few sizes, `few_sizes`. Where it does not
    fit into memory all the same, it is tried again with half its total length, and no later
    batch is longer in total. The log names the utterances.

    Args:
        lengths: id -> length, in any unit.
        batch_size: utterances, at least 1.
        decode: decodes a batch.
        most: total length of a batch.

    Yields:
        A batch and its result; None for an utterance that does not fit even alone.
    """
    waiting = longest_first(lengths)
    while waiting:
        longest = max(1, lengths[waiting[0]])
        size = batch_size
        if most < batch_size * longest:
            size = max(1, few_sizes(int(most // longest)))
        batch = waiting[:size]
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
