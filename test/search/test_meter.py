import inspect
import sys
import time
from types import SimpleNamespace

import pytest
import torch

from mtla_espnet.search.meter import measure


class Decoder(torch.nn.Module):
    """Its states hold a cache that grows; `sizes` are its bytes at each call."""

    def __init__(self, sizes):
        super().__init__()
        self.sizes = iter(sizes)

    def batch_score(self, ys, states, xs, xs_mask=None):
        size = next(self.sizes, None)
        if size is None:
            return "scores", ["a state a row"]
        return "scores", SimpleNamespace(cache=SimpleNamespace(nbytes=size, nbytes_allocated=100))


class Model(torch.nn.Module):
    def __init__(self, sizes=()):
        super().__init__()
        self.decoder = Decoder(sizes)

    def encode(self, speech):
        time.sleep(0.02)
        return speech


class Search(torch.nn.Module):
    def __init__(self, decoder):
        super().__init__()
        self.decoder = decoder

    def forward(self, steps, retries=0):
        time.sleep(0.02)
        for _ in range(steps):
            self.decoder.batch_score(None, None, None)
        return self.forward(steps, retries - 1) if retries else "found"


def parts(sizes=()):
    model = Model(sizes)
    return model, Search(model.decoder)


def test_times_are_those_of_the_parts():
    model, search = parts()
    with measure(model, search, "cpu") as cost:
        assert model.encode("speech") == "speech"
        assert search(1) == "found"
        assert search(1) == "found"
        time.sleep(0.01)
    assert 0.02 <= cost.encoder_s < 0.04
    assert 0.04 <= cost.search_s < 0.08
    assert cost.total_s >= cost.encoder_s + cost.search_s + 0.01


def test_a_search_that_calls_itself_counts_once():
    model, search = parts()
    with measure(model, search, "cpu") as cost:
        search(1, retries=2)
    assert 0.06 <= cost.search_s <= cost.total_s


def test_the_largest_cache_is_kept():
    model, search = parts(sizes=[10, 40, 20])
    with measure(model, search, "cpu") as cost:
        search(2)
        search(3)  # the last ones have no cache
    assert (cost.cache_bytes_peak, cost.cache_bytes_allocated) == (40, 100)


def test_a_decoder_without_a_cache_has_no_size():
    model, search = parts()
    with measure(model, search, "cpu") as cost:
        search(2)
    assert cost.cache_bytes_peak is None
    assert cost.cache_bytes_allocated is None


def test_the_search_still_sees_the_arguments_of_batch_score():
    model, search = parts()
    with measure(model, search, "cpu"):
        assert "xs_mask" in inspect.signature(model.decoder.batch_score).parameters


def test_nothing_stays_wrapped_after_an_error():
    model, search = parts()
    before = [dict(vars(module)) for module in (model, search, model.decoder)]
    with pytest.raises(KeyError), measure(model, search, "cpu"):
        assert "encode" in vars(model)
        raise KeyError
    assert [dict(vars(module)) for module in (model, search, model.decoder)] == before


def test_one_measurement_at_a_time():
    model, search = parts()
    with measure(model, search, "cpu"):
        with pytest.raises(RuntimeError, match="Model.encode is being measured already"):
            with measure(model, search, "cpu"):
                pass
        assert "encode" in vars(model)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can reset the peak of memory")
def test_peak_memory_is_what_the_block_used_at_most():
    def allocate(n_bytes):
        torch.ones(n_bytes, dtype=torch.uint8)

    model, search = parts()
    allocate(300_000_000)  # a peak before the measurement does not count
    with measure(model, search, "cpu") as cost:
        allocate(60_000_000)
        allocate(40_000_000)
    assert 60_000_000 * 0.95 < cost.peak_memory_bytes < 75_000_000
