import logging
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.search.batching import available_memory, in_batches, is_out_of_memory


class Memory:
    """Decodes batches whose total length is at most `room`."""

    def __init__(self, lengths, room):
        self.lengths, self.room, self.tried = lengths, room, []

    def __call__(self, batch):
        self.tried.append(batch)
        if self.total(batch) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate ...")
        return [key.upper() for key in batch]

    def total(self, batch):
        return len(batch) * max(self.lengths[key] for key in batch)


tables = st.dictionaries(st.text("abcdef", min_size=1, max_size=4), st.integers(0, 50), min_size=1)


@given(tables, st.integers(1, 6), st.integers(0, 120))
def test_every_utterance_is_decoded_once_unless_it_is_too_long_alone(lengths, size, room):
    memory = Memory(lengths, room)
    seen = {}
    for batch, result in in_batches(lengths, size, memory):
        assert 1 <= len(batch) <= size
        for key in batch:
            assert key not in seen
        seen |= dict(zip(batch, result or [None] * len(batch), strict=True))
    assert seen == {key: key.upper() if n <= room else None for key, n in lengths.items()}
    assert all(len(batch) <= size for batch in memory.tried)


def test_the_longest_come_first_and_a_batch_is_halved_and_named(caplog):
    lengths = {"a": 10, "b": 9, "c": 8, "d": 7, "e": 4, "f": 4, "g": 1}
    memory = Memory(lengths, room=25)
    with caplog.at_level(logging.WARNING):
        batches = [batch for batch, _ in in_batches(lengths, 4, memory)]
    assert memory.tried[0] == ["a", "b", "c", "d"]
    # half of 4 * 10: later batches hold as many as go into 20
    assert batches == [["a", "b"], ["c", "d"], ["e", "f", "g"]]
    assert "halving the batch of a b c d: CUDA out of memory" in caplog.text


def test_what_does_not_fit_alone_is_named(caplog):
    with caplog.at_level(logging.WARNING):
        found = list(in_batches({"a": 10, "b": 2}, 1, Memory({"a": 10, "b": 2}, room=5)))
    assert found == [(["a"], None), (["b"], ["B"])]
    assert "a: does not fit into memory even alone" in caplog.text


def test_another_error_is_not_swallowed():
    def fail(batch):
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        list(in_batches({"a": 1}, 1, fail))


def test_what_counts_as_out_of_memory():
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"))
    assert not is_out_of_memory(RuntimeError("size mismatch"))
    assert not is_out_of_memory(ValueError("not enough memory"))


def test_a_batch_has_a_total_length_and_what_is_longer_is_not_tried(caplog):
    lengths = {"a": 30, "b": 10, "c": 9, "d": 4}
    memory = Memory(lengths, room=1000)
    with caplog.at_level(logging.WARNING):
        found = list(in_batches(lengths, 4, memory, most=20))
    assert found == [(["a"], None), (["b", "c"], ["B", "C"]), (["d"], ["D"])]
    assert memory.tried == [["b", "c"], ["d"]]
    assert "a: does not fit into memory even alone: length 30, there is memory for 20" in (
        caplog.text
    )


def test_what_is_longer_than_a_batch_is_alone():
    lengths = {"a": 30, "b": 10, "c": 9, "d": 4}
    found = [batch for batch, _ in in_batches(lengths, 4, list, batch_length=20)]
    assert found == [["a"], ["b", "c"], ["d"]]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells it so")
def test_free_memory_is_known():
    assert available_memory() > 10**8
