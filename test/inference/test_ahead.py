"""Utterances are read before their batch comes, each once, in few bounds."""

import threading

import pytest

from mtla_espnet.files import UserError
from mtla_espnet.inference.ahead import ReadAhead

LENGTHS = {"a": 9, "b": 8, "c": 7, "d": 6, "e": 5, "f": 4}


class Files:
    """Reads ids, and counts how often each; `closed` ones wait until they are opened."""

    def __init__(self, bad=(), closed=()):
        self.count: dict[str, int] = {}
        self._bad, self._lock = bad, threading.Lock()
        self.open = {key: threading.Event() for key in closed}
        self.seen = threading.Condition(self._lock)

    def __call__(self, key):
        with self._lock:
            self.count[key] = self.count.get(key, 0) + 1
            self.seen.notify_all()
        if key in self.open:
            assert self.open[key].wait(60)
        if key in self._bad:
            raise UserError(f"{key}: bad")
        return key.upper()

    def wait_for(self, *keys):
        with self.seen:
            assert self.seen.wait_for(lambda: self.count.keys() >= set(keys), 60)


def test_what_comes_next_is_read_meanwhile_up_to_the_length_of_the_batch():
    files = Files(closed="cd")
    with ReadAhead(files, LENGTHS) as read:
        assert list(read(["a", "b"])) == [("a", "A"), ("b", "B")]
        files.wait_for("c", "d")  # 13 of 17; with e it would be 18
        for event in files.open.values():
            event.set()
        assert files.count == dict.fromkeys("abcd", 1)
        assert [value for _, value in read(["c", "d", "e"])] == ["C", "D", "E"]
        files.wait_for("f")
    assert files.count == dict.fromkeys(LENGTHS, 1)


def test_a_halved_batch_is_not_read_again():
    files = Files()
    with ReadAhead(files, LENGTHS) as read:
        for batch in (["a", "b", "c", "d"], ["a", "b"], ["a"], ["b"], ["c", "d", "e", "f"]):
            assert [value for _, value in read(batch)] == [key.upper() for key in batch]
    assert files.count == dict.fromkeys(LENGTHS, 1)


def test_a_bad_one_costs_itself():
    with ReadAhead(Files(bad="bd"), LENGTHS) as read:
        found = {key: str(value) for key, value in read(["a", "b", "c"])}
        assert found == {"a": "A", "b": "b: bad", "c": "C"}
        assert [str(value) for _, value in read(["d", "e", "f"])] == ["d: bad", "E", "F"]


def test_what_failed_for_memory_is_read_again():
    tried = []

    def read_one(key):
        tried.append(key)
        if len(tried) == 1:
            raise MemoryError
        return key

    with ReadAhead(read_one, {"a": 1}) as read:
        with pytest.raises(MemoryError):
            list(read(["a"]))
        assert list(read(["a"])) == [("a", "a")]


def test_nothing_is_read_ahead_where_it_is_not_to_be():
    files = Files()
    with ReadAhead(files, LENGTHS, ahead=False) as read:
        assert list(read(["a"])) == [("a", "A")]
    assert files.count == {"a": 1}
