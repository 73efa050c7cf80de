"""Which utterances are decoded together. What is known without a model: nothing is loaded here."""

import math
from collections.abc import Mapping, Sequence


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


def next_batch(
    waiting: Sequence[str], lengths: Mapping[str, int], batch_size: int, most: float
) -> Sequence[str]:
    """Return the first utterances that are waiting, as many as a batch has.

    Args:
        waiting: ids, as `longest_first` orders them.
        lengths: id -> length, in any unit.
        batch_size: utterances, at most.
        most: utterances times the longest one, at most; one that is longer is alone. Where it
            decides, a batch has one of few sizes.
    """
    longest = max(1, lengths[waiting[0]])
    if most < batch_size * longest:
        batch_size = max(1, few_sizes(int(most // longest)))
    return waiting[:batch_size]


def whole_batches(
    lengths: Mapping[str, int], batch_size: int, batch_length: int
) -> dict[tuple[str, ...], int]:
    """Return the batches of a set, and how long each is with its padding.

    Who decodes some of them makes the same batches: a batch's size follows from its longest
    utterance.

    Args:
        lengths: id -> length, in any unit.
        batch_size: utterances, at most.
        batch_length: of a batch with its padding, at most; 0: any.

    Example:
        >>> whole_batches({"a": 3, "b": 9, "c": 8}, batch_size=2, batch_length=0)
        {('b', 'c'): 18, ('a',): 3}
    """
    waiting, batches = longest_first(lengths), {}
    at = 0
    while at < len(waiting):
        # cut before it is copied: a set may have millions
        batch = next_batch(
            waiting[at : at + batch_size], lengths, batch_size, batch_length or math.inf
        )
        batches[tuple(batch)] = len(batch) * lengths[batch[0]]
        at += len(batch)
    return batches
