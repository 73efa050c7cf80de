import weakref

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.cache.graph import GraphCache, new_memory
from mtla_espnet.cache.growing import DecodingCache
from mtla_espnet.cache.slot import SlotForm
from mtla_espnet.search.graph.buffers import Arena
from strategies import lengths

CPU = torch.device("cpu")


def make(form, batch, beams, max_length=5, layers=2, dtype=torch.float32, memory=new_memory):
    shapes, sizes = ((2, 3), (2, 4)), (layers, batch, beams, 9, max_length)
    return GraphCache(form, *sizes, shapes, dtype, CPU, memory)


@given(
    lengths(least=0, most=9),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(0, 5),
    st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_sizes_are_those_of_the_moving_cache_but_for_the_prefix(sizes, rate, beams, steps, dtype):
    form, prefixes = SlotForm(6, rotary_width=4, down_rate=rate), torch.tensor(sizes)
    graph = make(form, len(sizes), beams, dtype=dtype)
    graph.start(prefixes)
    moving = DecodingCache(form, 2, prefixes, dtype, CPU)
    moving.expand(len(sizes) * beams)
    for _ in range(steps):
        moving.advance()
        graph.step += 1
    assert graph.suffix_nbytes == moving.suffix_nbytes
    slots = sum(size // rate for size in sizes)
    assert graph.prefix_nbytes == slots * 2 * (2 * 3 + 2 * 4) * dtype.itemsize
    assert graph.nbytes == graph.prefix_nbytes + graph.suffix_nbytes
    assert graph.nbytes_allocated >= graph.nbytes


def test_every_hypothesis_starts_from_the_seed_of_its_utterance():
    cache = make(SlotForm(6, rotary_width=4, down_rate=2), 2, 3)
    cache.start(torch.tensor([3, 5]))
    entries = torch.randn(2, 5, 6)

    def materialise(entry):
        return entry.unflatten(-1, (2, 3)), torch.ones(2, 2, 2, 4)

    cache.write_prefix(1, entries, materialise)
    seed = cache.store[1][cache.capacity + 1]
    assert torch.equal(seed[:3], entries[0, 2].expand(3, -1))
    assert torch.equal(seed[3:], entries[1, 4].expand(3, -1))
    # finished slots are the entries of their last positions
    assert torch.equal(cache.prefix_key[1, :, :2].flatten(2), entries[:, 1::2][:, :2])
    assert not cache.store[0].any() and not cache.prefix_key[0].any()


def random(cache):
    for buffer in (*cache.store, cache.prefix_key, cache.prefix_value):
        buffer.normal_()
    cache.ancestor.random_(0, 6)


@pytest.mark.parametrize("shared", [False, True], ids=["anew", "in place"])
def test_a_grown_cache_holds_what_the_smaller_one_held(shared):
    arena = Arena(lambda: None, CPU)
    if shared:  # a larger shape was there before
        make(SlotForm(6, rotary_width=4, down_rate=2), 4, 3, max_length=9, memory=arena)
    cache = make(SlotForm(6, rotary_width=4, down_rate=2), 2, 3, max_length=4, memory=arena)
    cache.start(torch.tensor([3, 5]))
    random(cache)
    cache.step += 3
    capacity, places = cache.capacity, [store.data_ptr() for store in cache.store]
    old = [x.clone() for x in (*cache.store, cache.ancestor, cache.prefix_key, cache.lengths)]
    cache.grow(9, arena)
    assert (places == [store.data_ptr() for store in cache.store]) is shared
    assert cache.capacity > capacity and cache.max_length == 9
    for new, before in zip(cache.store, old, strict=False):
        assert torch.equal(new[:capacity], before[:-2])
        assert torch.equal(new[-2:], before[-2:])
    ancestor, key, lengths = old[-3:]
    assert torch.equal(cache.ancestor[..., :capacity], ancestor)
    assert torch.equal(cache.prefix_key, key) and torch.equal(cache.lengths, lengths)
    assert len(cache.angles) == 20 + 9


def test_growth_has_one_layer_twice_at_most():
    cache = make(SlotForm(6, rotary_width=4), 2, 3, max_length=4, layers=3)
    places, most = [], []

    def memory(name, shape, dtype, device):
        most.append(sum(place() is not None for place in places))
        store = torch.zeros(shape, dtype=dtype, device=device)
        places.append(weakref.ref(store))
        return store

    places += [weakref.ref(store) for store in cache.store]
    cache.grow(8, memory)
    assert most == [3, 3, 3]  # and the new one


def test_a_cleared_cache_holds_nothing_of_another_shape():
    arena = Arena(lambda: None, CPU)
    cache = make(SlotForm(6, rotary_width=4), 4, 3, memory=arena)
    random(cache)
    other = make(SlotForm(6, rotary_width=4), 2, 3, memory=arena)
    assert other.store[0].any() and other.prefix_key.any()
    other.clear()
    assert not any(x.any() for x in (*other.store, other.prefix_key, other.prefix_value))


def test_shapes_share_memory_until_one_is_larger():
    void = []
    arena = Arena(lambda: void.append(1), CPU)
    first = arena("a", (4, 5), torch.float32, CPU)
    second = arena("a", (2, 9), torch.float32, CPU)
    assert first.data_ptr() == second.data_ptr() and not void
    assert arena("b", (30,), torch.float32, CPU).data_ptr() != first.data_ptr() and not void
    larger = arena("a", (21,), torch.float32, CPU)
    assert larger.data_ptr() != first.data_ptr() and len(void) == 1
    arena("a", (3,), torch.bfloat16, CPU)  # weights of another precision
    assert len(void) == 2
