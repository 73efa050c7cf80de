"""Batches that do not depend on who decodes them."""

from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.jobs.numbered import split_by_length
from mtla_espnet.search.batch_plan import whole_batches
from mtla_espnet.search.batching import in_batches

tables = st.dictionaries(st.text("abcdef", min_size=1, max_size=4), st.integers(0, 50), min_size=1)


@given(tables, st.integers(1, 6), st.integers(0, 120), st.integers(1, 4))
def test_shards_of_whole_batches_are_decoded_in_the_batches_of_the_set(lengths, size, most, parts):
    planned = whole_batches(lengths, size, most)
    alone = [tuple(batch) for batch, _ in in_batches(lengths, size, list, batch_length=most)]
    assert list(planned) == alone
    for batch, total in planned.items():
        assert total == len(batch) * max(lengths[key] for key in batch)
    found = []
    for part in split_by_length(planned, min(parts, len(planned))):
        own = {key: lengths[key] for batch in part for key in batch}
        found += [tuple(batch) for batch, _ in in_batches(own, size, list, batch_length=most)]
    assert sorted(found) == sorted(alone)
