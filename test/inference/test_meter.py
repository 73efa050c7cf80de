import sys
import time
from types import SimpleNamespace

import pytest
import torch

from mtla_espnet.inference.meter import Meter


class Scorer:
    """Its cache grows; `sizes` are its bytes at each call."""

    def __init__(self, sizes=()):
        self._sizes = iter(sizes)
        self.cache = None

    def score(self, tokens):
        time.sleep(0.02)
        size = next(self._sizes, None)
        sizes = {"nbytes": size, "prefix_nbytes": 7, "nbytes_allocated": 100}
        self.cache = size and SimpleNamespace(**sizes)
        return tokens

    def select(self, utterances):
        time.sleep(0.02)


def test_times_are_those_of_the_parts():
    meter = Meter("cpu")
    with meter.whole() as cost:
        with meter.part("encoder_s"):
            time.sleep(0.02)
        for _ in range(2):
            with meter.part("search_s"):
                time.sleep(0.02)
        time.sleep(0.01)
    assert cost.encoder_s >= 0.02
    assert cost.search_s >= 0.04
    assert cost.total_s >= cost.encoder_s + cost.search_s + 0.01
    assert 0 < cost.processor_s


def test_a_part_that_fails_counts_too():
    meter = Meter("cpu")
    with pytest.raises(KeyError), meter.part("search_s"):
        time.sleep(0.02)
        raise KeyError
    assert meter.cost.search_s >= 0.02


def test_watched_methods_count_and_return_what_they_did():
    meter, scorer = Meter("cpu"), Scorer()
    meter.watch("ctc_s", scorer, "score")
    assert scorer.score("tokens") == "tokens"
    scorer.select(None)  # not watched
    assert meter.cost.ctc_s >= 0.02
    assert type(scorer) is Scorer


def test_the_largest_cache_is_kept():
    meter = Meter("cpu")
    for sizes in ([10, 40, 20], [30]):
        scorer = Scorer(sizes)
        meter.watch("decoder_s", scorer, "score")
        for _ in range(4):  # the last ones have no cache
            scorer.score(None)
    cost = meter.cost
    sizes = cost.cache_bytes_peak, cost.cache_bytes_prefix_peak, cost.cache_bytes_allocated
    assert sizes == (40, 7, 100)


def test_a_decoder_without_a_cache_has_no_size():
    meter, scorer = Meter("cpu"), Scorer()
    meter.watch("decoder_s", scorer, "score")
    scorer.score(None)
    assert meter.cost.cache_bytes_peak is None
    assert meter.cost.cache_bytes_allocated is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can reset the peak of memory")
def test_peak_memory_is_what_the_block_used_at_most():
    def allocate(n_bytes):
        torch.ones(n_bytes, dtype=torch.uint8)

    allocate(300_000_000)  # a peak before the measurement does not count
    with Meter("cpu").whole() as cost:
        allocate(60_000_000)
        allocate(40_000_000)
    assert 60_000_000 * 0.95 < cost.peak_memory_bytes < 75_000_000


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_parts_on_a_gpu_are_timed_by_its_own_clock():
    meter = Meter("cuda")
    x = torch.randn(2048, 2048, device="cuda")
    with meter.whole() as cost, meter.part("search_s"):
        for _ in range(50):
            x = (x @ x).clamp(-1, 1)
    assert 0 < cost.search_s <= cost.total_s * 1.05
    assert cost.peak_memory_bytes >= x.nbytes


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can reset the peak of memory")
def test_mean_memory_is_that_of_each_batch_by_its_utterances():
    meter = Meter("cpu")
    with meter.whole() as cost:
        for megabytes, utterances in ((60, 1), (120, 3), (90, 0)):
            torch.ones(megabytes * 1_000_000, dtype=torch.uint8)
            meter.end_batch(utterances)
    assert 105_000_000 * 0.95 < cost.mean_memory_bytes < 120_000_000  # (60 + 3 * 120) / 4
    assert 120_000_000 * 0.95 < cost.peak_memory_bytes < 135_000_000
    assert Meter("cpu").cost.mean_memory_bytes is None


def test_batches_after_much_was_freed_count_what_one_of_them_takes():
    """Blocks of 8 MB in turn, in memory that a larger program left behind."""
    heap = [bytearray(100_000) for _ in range(2000)]  # 200 MB below glibc's mmap threshold
    del heap[::2]
    meter = Meter("cpu")
    with meter.whole() as cost:
        for _ in range(20):
            block = [bytearray(100_000) for _ in range(80)]
            del block
            meter.end_batch(1)
    if cost.peak_memory_bytes is None:
        pytest.skip("this system does not tell the peak of memory")
    assert cost.mean_memory_bytes <= cost.peak_memory_bytes < 30e6
    assert len(heap) == 1000
