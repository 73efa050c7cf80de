"""Positions in parts of any sizes give what one pass gives, whatever other rows hold."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.attention.extend import extend
from mtla_espnet.attention.step import Step
from mtla_espnet.cache.ragged import RaggedCache
from mtla_espnet.position import Positions, positions
from strategies import KINDS, SIZE, build, seeds

SUMMING = [kind for kind in KINDS if "merge" not in kind[1]]

# Of up to three rows: how many new positions each of up to five parts brings.
parts = st.integers(1, 3).flatmap(
    lambda rows: st.lists(
        st.lists(st.integers(0, 6), min_size=rows, max_size=rows), min_size=1, max_size=5
    )
)


def whole(attention, x, lengths):
    position = Positions(positions(lengths, x.size(1)))
    return attention(x, x, position, position)


@given(st.sampled_from(SUMMING), parts, seeds)
@torch.no_grad()
def test_parts_equal_one_pass(kind, parts, seed):
    attention = build(kind, seed)
    counts = torch.tensor(parts).T
    lengths = counts.sum(dim=1)
    x = torch.randn(len(lengths), max(int(lengths.max()), 1), SIZE)
    expected = whole(attention, x, lengths)
    cache = RaggedCache(attention.slot, 1, len(x), x.dtype, x.device)
    held = torch.zeros_like(lengths)
    for part in counts.T:
        size = int(part.max())
        if not size:
            continue
        index = (held[:, None] + torch.arange(size)).clamp_max(x.size(1) - 1)
        new = x.gather(1, index[..., None].expand(-1, -1, SIZE))
        cache.add(part)
        if size == 1 and part.min() == 1:
            output = Step(attention)(new[:, 0], cache)[:, None]
        else:
            output = extend(attention, new, cache, 0, part)
        for row, count in enumerate(part.tolist()):
            found = output[row, :count]
            wanted = expected[row, held[row] : held[row] + count]
            torch.testing.assert_close(found, wanted, atol=2e-5, rtol=1e-4)
        held += part
    assert cache.held.tolist() == lengths.tolist()
    assert cache.nbytes == sum(attention.slot.bytes(n, x.dtype) for n in lengths.tolist())


@pytest.mark.parametrize("kind", SUMMING)
@torch.no_grad()
def test_rows_move_and_are_taken_back(kind):
    attention = build(kind)
    rate = attention.slot.down_rate
    x = torch.randn(2, 5 * rate, SIZE)
    counts = torch.tensor([3 * rate, 2 * rate])
    cache = RaggedCache(attention.slot, 1, 2, x.dtype, x.device)
    cache.add(counts)
    extend(attention, x[:, : 3 * rate], cache, 0, counts)
    cache.reorder(torch.tensor([1, 0, 1]))
    assert cache.held.tolist() == [2 * rate, 3 * rate, 2 * rate]
    cache.crop(torch.tensor([rate, rate, 0]))
    rows = torch.stack((x[1, :rate], x[0, rate : 2 * rate], x[1, rate : 2 * rate]))
    histories = [x[1, :rate], x[0, : 2 * rate], x[1, : 2 * rate]]
    cache.add(torch.tensor(3 * [rate]))
    output = extend(attention, rows, cache, 0, torch.tensor(3 * [rate]))
    for found, history, new in zip(output, histories, rows, strict=True):
        together = torch.cat((history, new))[None]
        wanted = whole(attention, together, torch.tensor([together.size(1)]))[0, -rate:]
        torch.testing.assert_close(found, wanted, atol=2e-5, rtol=1e-4)


def test_a_cut_inside_a_chunk_is_refused():
    attention = build(("mtla", {"down_rate": 3}))
    cache = RaggedCache(attention.slot, 1, 1, torch.float32, torch.device("cpu"))
    cache.add(torch.tensor([6]))
    with pytest.raises(ValueError, match="merges 3 positions a slot, and cannot be cut inside one"):
        cache.crop(torch.tensor([1]))
    cache.crop(torch.tensor([3]))
    assert cache.held.tolist() == [3]
