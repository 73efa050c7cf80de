import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.cache.growing import DecodingCache
from mtla_espnet.cache.slot import SlotForm
from strategies import lengths


def make(prefix_lengths, form, layers=2, dtype=torch.float32):
    return DecodingCache(form, layers, torch.tensor(prefix_lengths), dtype, torch.device("cpu"))


def write(cache, entry):
    """Write the newest slot of every row, in the only layer."""
    cache.slots(0)[cache.newest] = entry


@given(
    lengths(least=0, most=9),
    st.integers(1, 4),
    st.sampled_from([1, 3, 50]),
    st.integers(0, 7),
    st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_nbytes_counts_chunks_held(prefix_lengths, rate, beam, steps, dtype):
    cache = make(prefix_lengths, SlotForm(6, down_rate=rate), layers=3, dtype=dtype)
    cache.expand(len(prefix_lengths) * beam)
    for _ in range(steps):
        cache.advance()
    # a finished prefix chunk once an utterance; every other chunk once a hypothesis
    slots = 0
    for length in prefix_lengths:
        total = -(-(length + steps) // rate)
        slots += length // rate + beam * (total - length // rate)
    assert cache.nbytes == slots * 6 * 3 * dtype.itemsize
    assert cache.nbytes_allocated >= cache.nbytes
    if beam == 1:  # then it is the table of the README: ceil(T / s) slots a row
        rows = [cache.form.bytes(length + steps, dtype) for length in prefix_lengths]
        assert cache.nbytes == 3 * sum(rows)


def test_seeds_count_once_an_utterance_before_expand():
    cache = make([4, 5], SlotForm(6, down_rate=2), layers=1)
    assert cache.nbytes == (2 + 2 + 1) * 6 * 4


@given(lengths(least=0, most=9), st.integers(1, 4), st.integers(1, 3), st.integers(1, 9))
def test_what_is_written_is_read_at_its_slot(prefix_lengths, rate, beam, steps):
    """Entries that name their utterance, position and row come back where they belong."""
    batch, width = len(prefix_lengths), 3
    cache = make(prefix_lengths, SlotForm(width, down_rate=rate), layers=1)
    size = max(prefix_lengths)
    entries = torch.zeros(batch, size, width)
    for b in range(batch):
        for t in range(size):
            entries[b, t] = torch.tensor([b, t, -1.0])
    cache.write_prefix(0, entries)
    cache.expand(batch * beam, max_length=1)
    for step in range(steps):
        cache.advance()
        rows = torch.arange(batch * beam)
        utterance = rows // beam
        position = torch.tensor(prefix_lengths)[utterance] + step
        assert torch.equal(cache.position, position)
        partial = cache.slots(0)[cache.newest]
        for n in rows.tolist():
            if position[n] % rate:  # goes on with the newest slot: seed, or last written
                previous = position[n].item() - 1
                owner = -1.0 if previous < prefix_lengths[utterance[n]] else float(n)
                expected = [utterance[n].item(), previous, owner]
                assert partial[n].tolist() == expected
        write(cache, torch.stack((utterance, position, rows), dim=1).float())
    for n in range(batch * beam):
        b = n // beam
        length = prefix_lengths[b]
        newest = cache.prefix(0)[b][cache.prefix_mask[b]][:, 1].tolist()
        assert newest == list(range(rate - 1, length // rate * rate, rate))
        suffix = cache.suffix(0)[n][cache.suffix_mask[n]]
        last = length + steps - 1
        expected = sorted({min((p // rate + 1) * rate - 1, last) for p in range(length, last + 1)})
        assert suffix[:, 1].tolist() == expected
        assert set(suffix[:, 2].tolist()) == {float(n)}


def test_reorder_moves_the_suffix_and_never_the_prefix():
    cache = make([2, 3], SlotForm(1, down_rate=2), layers=1)
    cache.write_prefix(0, torch.arange(6.0).view(2, 3, 1))
    cache.expand(4)
    prefix = cache.prefix(0)
    address = prefix.data_ptr()
    cache.advance()
    write(cache, torch.tensor([[10.0], [11.0], [12.0], [13.0]]))
    cache.reorder(torch.tensor([1, 1, 3, 2]))
    assert cache.prefix(0).data_ptr() == address
    newest = cache.slots(0)[cache.newest][:, 0]
    assert newest.tolist() == [11.0, 11.0, 13.0, 12.0]


def test_reorder_may_change_the_number_of_rows():
    cache = make([1], SlotForm(1), layers=1)
    cache.expand(1)
    cache.advance()
    write(cache, torch.tensor([[5.0]]))
    cache.reorder(torch.tensor([0, 0, 0]))
    assert cache.rows == 3
    cache.advance()
    write(cache, torch.tensor([[1.0], [2.0], [3.0]]))
    cache.reorder(torch.tensor([2]))
    assert cache.suffix(0).flatten().tolist() == [5.0, 3.0]


def test_rows_must_share_out_over_the_utterances():
    with pytest.raises(ValueError, match="5 hypotheses are no multiple of 2 utterances"):
        make([1, 1], SlotForm(1)).expand(5)


@given(lengths(least=1, most=9), st.integers(1, 4), st.integers(1, 3), st.data())
def test_selected_utterances_keep_all_that_they_held(prefix_lengths, rate, beam, data):
    torch.manual_seed(0)
    batch = len(prefix_lengths)
    keep = torch.tensor(
        data.draw(st.permutations(range(batch)))[: data.draw(st.integers(1, batch))]
    )
    rows = (keep[:, None] * beam + torch.arange(beam)).flatten()
    entries = torch.randn(batch, max(prefix_lengths), 3)
    tokens = torch.randn(5, batch * beam, 3)
    whole = make(prefix_lengths, SlotForm(3, down_rate=rate), layers=1)
    fresh = make([prefix_lengths[b] for b in keep], SlotForm(3, down_rate=rate), layers=1)
    for cache, own in ((whole, entries), (fresh, entries[keep])):
        cache.write_prefix(0, own)
        cache.expand(own.size(0) * beam, max_length=2)
    for step in range(5):
        if step == 3:
            whole.select(keep)
        for cache, new in ((whole, tokens[step]), (fresh, tokens[step][rows])):
            cache.advance()
            write(cache, new[rows] if cache is whole and step >= 3 else new)
    assert whole.nbytes == fresh.nbytes
    assert torch.equal(whole.position, fresh.position)
    for name in ("prefix", "suffix"):
        parts = (getattr(cache, name)(0) for cache in (whole, fresh))
        for a, b, mask in zip(*parts, getattr(fresh, name + "_mask"), strict=True):
            assert torch.equal(a[mask], b[mask])
