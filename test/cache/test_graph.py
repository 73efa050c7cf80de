import torch
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.cache.graph import GraphCache
from mtla_espnet.cache.growing import DecodingCache
from mtla_espnet.cache.slot import SlotForm
from strategies import lengths


def make(form, batch, beams, max_length=5, layers=2, dtype=torch.float32):
    shapes = (2, 3), (2, 4)
    return GraphCache(form, layers, batch, beams, 9, max_length, shapes, dtype, torch.device("cpu"))


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
    moving = DecodingCache(form, 2, prefixes, dtype, torch.device("cpu"))
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
    seed = cache.store[1, cache.capacity + 1]
    assert torch.equal(seed[:3], entries[0, 2].expand(3, -1))
    assert torch.equal(seed[3:], entries[1, 4].expand(3, -1))
    # finished slots are the entries of their last positions
    assert torch.equal(cache.prefix_key[1, :, :2].flatten(2), entries[:, 1::2][:, :2])
    assert not cache.store[0].any() and not cache.prefix_key[0].any()


def test_a_grown_cache_holds_what_the_smaller_one_held():
    cache = make(SlotForm(6, rotary_width=4, down_rate=2), 2, 3, max_length=4)
    cache.start(torch.tensor([3, 5]))
    for name in ("store", "prefix_key", "prefix_value"):
        getattr(cache, name).normal_()
    cache.ancestor.random_(0, 6)
    cache.step += 3
    grown = cache.grown(9)
    assert grown.capacity > cache.capacity and grown.max_length == 9
    assert torch.equal(grown.store[:, : cache.capacity], cache.store[:, :-2])
    assert torch.equal(grown.store[:, -2:], cache.store[:, -2:])
    assert torch.equal(grown.ancestor[..., : cache.capacity], cache.ancestor)
    for name in ("lengths", "step", "parents", "prefix_key", "prefix_value"):
        assert torch.equal(getattr(grown, name), getattr(cache, name))
