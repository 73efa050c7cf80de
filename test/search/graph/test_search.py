import dataclasses
import gc
import weakref

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interpreted import run_interpreted
from mtla_espnet.decoder.graph import why_no_graph
from mtla_espnet.search.beam import DecoderScorer, beam_search
from mtla_espnet.search.ctc import CTCPrefixScorer
from mtla_espnet.search.graph import buffers
from mtla_espnet.search.graph import search as graph_search
from mtla_espnet.search.graph.scorer import GraphScorer, StepBuffers
from mtla_espnet.search.graph.search import GraphSearch
from mtla_espnet.search.options import SearchOptions
from strategies import KINDS, SIZE, build_decoder, kinds, lengths, seeds

VOCABULARY = 70  # two groups and a part of one
SOS_EOS = VOCABULARY - 1


def model(kind, seed, device="cpu"):
    decoder = build_decoder(kind, VOCABULARY, seed=seed)
    for parameter in decoder.parameters():
        parameter.data *= 1.8
    decoder.output_layer.bias.data[SOS_EOS] += 1.5
    return decoder.to(device)


def plain(decoder, encoded, sizes, options, blank=None):
    scorers = {"decoder": DecoderScorer(decoder, encoded, torch.tensor(sizes), options.temperature)}
    weights = {"decoder": 1.0}
    return beam_search(scorers, weights, sizes, SOS_EOS, options, encoded.device, blank=blank)


def batch(sizes, seed):
    torch.manual_seed(seed)
    return torch.randn(len(sizes), max(sizes), SIZE)


def same(ours, theirs):
    assert [h.yseq for h in ours] == [h.yseq for h in theirs]
    for a, b in zip(ours, theirs, strict=True):
        assert a.score == pytest.approx(b.score, abs=1e-4)
        assert a.scores["decoder"] == pytest.approx(b.scores["decoder"], abs=1e-4)


options = st.builds(
    SearchOptions,
    beam_size=st.sampled_from([1, 2, 5]),
    nbest=st.sampled_from([1, 5]),
    penalty=st.sampled_from([0.0, 0.4]),
    temperature=st.sampled_from([1.0, 1.5]),
    maxlenratio=st.sampled_from([0.0, 0.5, -4]),
    minlenratio=st.sampled_from([0.0, 0.2]),
    normalize_length=st.booleans(),
    lenpen=st.sampled_from([0.0, 0.6]),
)


@given(
    kinds, st.lists(lengths(most=12, rows=3), min_size=1, max_size=3), options,
    st.sampled_from([None, 0, 40]), seeds,
)  # fmt: skip
def test_equals_the_plain_search_over_batches_that_share_buffers(
    kind, batches, chosen, blank, seed
):
    decoder = model(kind, seed)
    search = GraphSearch(decoder, SOS_EOS, chosen, blank)
    with torch.no_grad():
        for number, sizes in enumerate(batches):
            encoded = batch(sizes, seed + number)
            ours = search(encoded, torch.tensor(sizes))
            for a, b in zip(ours, plain(decoder, encoded, sizes, chosen, blank), strict=True):
                same(a, b)


@given(kinds, lengths(most=12, rows=3), options, seeds)
def test_a_score_that_is_no_number_spoils_its_utterance_alone(kind, sizes, chosen, seed):
    decoder, sizes = model(kind, seed), [7, *sizes]
    search = GraphSearch(decoder, SOS_EOS, chosen)
    with torch.no_grad():
        encoded = batch(sizes, seed)
        expected = plain(decoder, encoded, sizes, chosen)
        encoded[0, 3, 0] = float("nan")
        found = search(encoded, torch.tensor(sizes))
    assert found[0] is None
    for a, b in zip(found[1:], expected[1:], strict=True):
        same(a, b)


@given(kinds, lengths(most=12, rows=3), options, st.sampled_from([0.0, 0.3]), seeds)
def test_a_scorer_among_others_equals_the_plain_one(kind, sizes, chosen, ctc_weight, seed):
    decoder, encoded, lens = model(kind, seed), batch(sizes, seed), torch.tensor(sizes)
    chosen = dataclasses.replace(chosen, ctc_weight=ctc_weight)
    layer = torch.nn.Linear(SIZE, VOCABULARY)
    weights = {"decoder": 1.0 - ctc_weight} | ({"ctc": ctc_weight} if ctc_weight else {})
    found = []
    with torch.no_grad():
        for scorer in (
            GraphScorer(decoder, encoded, lens, chosen.beam_size, chosen.temperature),
            DecoderScorer(decoder, encoded, lens, chosen.temperature),
        ):
            posteriors = layer(encoded).log_softmax(-1)
            ctc = CTCPrefixScorer(posteriors, lens, 0, SOS_EOS) if ctc_weight else None
            scorers = {"decoder": scorer}
            found.append(beam_search(scorers, weights, sizes, SOS_EOS, chosen, encoded.device, ctc))
    for a, b in zip(*found, strict=True):
        same(a, b)


class CTCLayer(torch.nn.Linear):
    """Log posteriors of random weights."""

    def __init__(self, seed):
        torch.manual_seed(seed)
        super().__init__(SIZE, VOCABULARY)

    def forward(self, encoded):
        return (3 * super().forward(encoded)).log_softmax(-1)


def plain_joint(decoder, layer, encoded, sizes, options, skip):
    lens = torch.tensor(sizes)
    scorers = {"decoder": DecoderScorer(decoder, encoded, lens, options.temperature)}
    weights = {"decoder": 1.0 - options.ctc_weight, "ctc": options.ctc_weight}
    ctc = CTCPrefixScorer(layer(encoded), lens, 0, SOS_EOS, skip)
    return beam_search(scorers, weights, sizes, SOS_EOS, options, encoded.device, ctc)


@given(
    kinds, st.lists(lengths(most=12, rows=3), min_size=1, max_size=3), options,
    st.sampled_from([0, 1]), st.sampled_from([1.5, 30.0]), seeds,
)  # fmt: skip
def test_joint_with_ctc_equals_the_plain_search(kind, batches, chosen, skip, ratio, seed):
    decoder, layer = model(kind, seed), CTCLayer(seed)
    chosen = dataclasses.replace(chosen, ctc_weight=0.3, pre_beam_ratio=ratio)
    search = GraphSearch(decoder, SOS_EOS, chosen, 0, layer, skip)
    with torch.no_grad():
        for number, sizes in enumerate(batches):
            encoded = batch(sizes, seed + number)
            expected = plain_joint(decoder, layer, encoded, sizes, chosen, skip)
            for a, b in zip(search(encoded, torch.tensor(sizes)), expected, strict=True):
                same(a, b)
                for ours, theirs in zip(a, b, strict=True):
                    assert ours.scores["ctc"] == pytest.approx(theirs.scores["ctc"], abs=1e-6)


def test_joint_buffers_grow_and_long_utterances_are_searched_apart(monkeypatch):
    monkeypatch.setattr(buffers, "FIRST_LENGTH", 2)
    monkeypatch.setattr(graph_search, "_ROWS_OF_A_LAUNCH", 4)
    decoder, layer = model(("mtla", {"down_rate": 3}), 0), CTCLayer(0)
    decoder.output_layer.bias.data[SOS_EOS] = -9.0
    sizes, chosen = [3, 30, 2, 4, 10], SearchOptions(beam_size=3, nbest=3, ctc_weight=0.3)
    with torch.no_grad():
        encoded = batch(sizes, 0)
        ours = GraphSearch(decoder, SOS_EOS, chosen, 0, layer)(encoded, torch.tensor(sizes))
        expected = plain_joint(decoder, layer, encoded, sizes, chosen, 0)
    assert len(ours[1][0].yseq) > 8
    for a, b in zip(ours, expected, strict=True):
        same(a, b)


def test_batches_of_one_shape_share_buffers_and_others_their_memory():
    decoder, chosen = model(("mtla", {"down_rate": 2}), 0), SearchOptions(beam_size=3, nbest=3)
    search, caches = GraphSearch(decoder, SOS_EOS, chosen), []
    kept = StepBuffers(decoder, 4, 12, 3)
    with torch.no_grad():
        for number, sizes in enumerate(([12, 7, 9, 3], [11, 5, 8, 20], [6, 6, 2], [5, 12, 8, 1])):
            encoded, lens = batch(sizes, number), torch.tensor(sizes)
            expected = plain(decoder, encoded, sizes, chosen)
            ours = search(encoded, lens)
            found = [ours]
            if kept.fits(len(sizes), max(sizes), 3):
                scorer = GraphScorer(decoder, encoded, lens, 3, buffers=kept)
                scorers, weights = {"decoder": scorer}, {"decoder": 1.0}
                cpu = encoded.device
                found.append(beam_search(scorers, weights, sizes, SOS_EOS, chosen, cpu))
            for results in found:
                for a, b in zip(results, expected, strict=True):
                    same(a, b)
            if len(found) > 1:
                known = kept.cache.nbytes
                kept.cache.known = None  # as the device has it
                assert kept.cache.nbytes == known
            caches.append(search.cache)
            # keys of 8 + 4 and values of 8 for four heads in two layers
            slots = sum(size // 2 for size in sizes)
            assert search.cache.prefix_nbytes == slots * 2 * 4 * (8 + 4 + 8) * 4
    assert caches[0] is caches[1] is caches[3]  # with nothing of the other one's numbers
    assert caches[2] is not caches[1]
    assert caches[2].store[0].data_ptr() == caches[0].store[0].data_ptr()
    assert kept.fits(4, 1, 3) and kept.fits(4, 32, 3)
    assert not kept.fits(4, 33, 3) and not kept.fits(3, 12, 3) and not kept.fits(4, 12, 2)


@given(st.integers(1, 20000))
def test_prefixes_are_padded_by_at_most_a_quarter(positions):
    padded = buffers.padded(positions)
    assert positions <= padded and padded % 32 == 0
    assert padded < positions + 32 or padded <= 1.25 * positions
    assert buffers.padded(padded) == padded


def test_few_shapes_are_kept(monkeypatch):
    monkeypatch.setattr(graph_search, "_MOST_SHAPES", 2)
    decoder, chosen = model(KINDS[0], 0), SearchOptions(beam_size=2, maxlenratio=-2)
    search, caches = GraphSearch(decoder, SOS_EOS, chosen), []
    with torch.no_grad():
        for count in (9, 6, 4, 6, 9):  # no larger one, so that the memory suffices
            search(batch([5] * count, count), torch.tensor([5] * count))
            caches.append(search.cache)
            assert len(search._kept) <= 2
    assert caches[1] is caches[3] and caches[0] is not caches[4]


def test_buffers_grow_with_the_hypotheses(monkeypatch):
    monkeypatch.setattr(buffers, "FIRST_LENGTH", 2)
    decoder = model(("mtla", {"down_rate": 3}), 0)
    decoder.output_layer.bias.data[SOS_EOS] = -9.0
    sizes = [11, 8]
    encoded, chosen = batch(sizes, 0), SearchOptions(beam_size=3, nbest=3)
    with torch.no_grad():
        ours = GraphSearch(decoder, SOS_EOS, chosen)(encoded, torch.tensor(sizes))
        for a, b in zip(ours, plain(decoder, encoded, sizes, chosen), strict=True):
            same(a, b)
        scorer = GraphScorer(decoder, encoded, torch.tensor(sizes), 3)
        weights = {"decoder": 1.0}
        others = beam_search({"decoder": scorer}, weights, sizes, SOS_EOS, chosen, encoded.device)
    for a, b in zip(ours, others, strict=True):
        same(a, b)
    assert len(ours[0][0].yseq) == 13


def test_a_few_long_utterances_are_searched_apart(monkeypatch):
    monkeypatch.setattr(graph_search, "_ROWS_OF_A_LAUNCH", 4)
    decoder, chosen = model(("mtla", {"down_rate": 2}), 0), SearchOptions(beam_size=3, nbest=2)
    sizes, batches, noted = [3, 30, 2, 4, 10], [], []

    class Spy(GraphSearch):
        def _search(self, encoded, lengths, frames, limits):
            batches.append(frames)
            assert encoded.size(1) == max(frames) and lengths.tolist() == frames
            return super()._search(encoded, lengths, frames, limits)

    with torch.no_grad():
        encoded = batch(sizes, 3)
        ours = Spy(decoder, SOS_EOS, chosen)(encoded, torch.tensor(sizes), noted.append)
        for a, b in zip(ours, plain(decoder, encoded, sizes, chosen), strict=True):
            same(a, b)
    assert batches == [[30], [10], [4, 3, 2]] and len(noted) == 3


@given(
    st.lists(st.integers(1, 900), min_size=1, max_size=90),
    st.sampled_from([1, 5, 50]),
)
def test_parts_hold_all_and_cost_no_more_than_one_batch(limits, beams):
    found = graph_search.parts(limits, beams)
    assert sorted(number for part in found for number in part) == list(range(len(limits)))
    lows = [min(limits[number] for number in part) for part in found[:-1]]
    highs = [max(limits[number] for number in part) for part in found]
    assert all(high <= low for low, high in zip(lows, highs[1:], strict=True))

    def cost(parts):
        launches = graph_search._ROWS_OF_A_LAUNCH
        return sum(max(limits[n] for n in part) * (launches + beams * len(part)) for part in parts)

    assert cost(found) <= cost([range(len(limits))])


def test_buffers_are_freed_with_their_search():
    """At once: a cycle would keep gigabytes until the next garbage collection."""
    decoder, sizes = model(KINDS[0], 0), [5, 4]
    gc.disable()
    try:
        with torch.no_grad():
            search = GraphSearch(decoder, SOS_EOS, SearchOptions(beam_size=2))
            search(batch(sizes, 0), torch.tensor(sizes))
            scorer = GraphScorer(decoder, batch(sizes, 0), torch.tensor(sizes), 2)
            scorer.score(torch.tensor([SOS_EOS] * 2))
        caches = [weakref.ref(search.cache), weakref.ref(scorer.cache)]
        del search, scorer
        assert [cache() for cache in caches] == [None, None]
    finally:
        gc.enable()


def test_the_plain_search_serves_what_the_kernels_do_not():
    decoder, cpu = model(KINDS[0], 0), torch.device("cpu")
    assert why_no_graph(decoder, cpu) == "they need CUDA, and the device is cpu"


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_graph_equals_the_plain_search_on_the_cpu(kind):
    cpu, gpu = model(kind, 0), model(kind, 0, "cuda")
    chosen = SearchOptions(beam_size=5, nbest=5, penalty=0.1)
    search = GraphSearch(gpu, SOS_EOS, chosen)
    assert not why_no_graph(gpu, torch.device("cuda"))
    assert why_no_graph(gpu.double(), torch.device("cuda")) == "they know no float64"
    gpu.float()
    with torch.no_grad():
        for seed, sizes in enumerate(([9, 4, 12], [12, 7, 3], [5, 5], [80, 71])):
            encoded = batch(sizes, seed)
            ours = search(encoded.cuda(), torch.tensor(sizes).cuda())
            scorer = GraphScorer(gpu, encoded.cuda(), torch.tensor(sizes).cuda(), 5)
            others = beam_search(
                {"decoder": scorer}, {"decoder": 1.0}, sizes, SOS_EOS, chosen, torch.device("cuda")
            )
            expected = plain(cpu, encoded, sizes, chosen)
            for a, b, c in zip(ours, others, expected, strict=True):
                same(a, c)
                same(b, c)


@pytest.mark.gpu
@pytest.mark.parametrize("joint", [False, True])
def test_in_half_precision_too_a_batch_gives_the_same_bits_after_whatever_others(joint):
    layer = CTCLayer(0).cuda() if joint else None
    decoder = model(("mtla", {"down_rate": 2}), 0, "cuda").bfloat16()
    chosen = SearchOptions(beam_size=5, nbest=5, ctc_weight=0.3 if joint else 0.0)
    sets = [[90, 70, 12], [60, 33, 3, 3], [31, 30, 9], [95, 14, 8], [200, 8, 7]]

    def found(order):
        search, results = GraphSearch(decoder, SOS_EOS, chosen, 0, layer), {}
        for number in order:
            encoded = batch(sets[number], number).cuda()
            encoded = encoded if joint else encoded.bfloat16()
            hypotheses = search(encoded, torch.tensor(sets[number]).cuda())
            results[number] = [[(h.yseq, h.score) for h in each] for each in hypotheses]
        return results

    with torch.no_grad():
        expected = {number: found([number])[number] for number in range(5)}
        for order in ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 0, 4, 1, 3, 2, 0, 3]):
            assert all(found(order)[number] == expected[number] for number in order)


@pytest.mark.gpu
@pytest.mark.parametrize("skip", [0, 1])
def test_the_joint_graph_equals_the_plain_search_on_the_cpu(skip):
    kind = ("mtla", {"down_rate": 2})
    cpu, gpu, layer = model(kind, 0), model(kind, 0, "cuda"), CTCLayer(0)
    chosen = SearchOptions(beam_size=5, nbest=5, penalty=0.1, ctc_weight=0.3)
    search = GraphSearch(gpu, SOS_EOS, chosen, 0, CTCLayer(0).cuda(), skip)
    with torch.no_grad():
        for seed, sizes in enumerate(([9, 4, 12], [12, 7, 3], [5, 5], [80, 71])):
            encoded = batch(sizes, seed)
            ours = search(encoded.cuda(), torch.tensor(sizes).cuda())
            expected = plain_joint(cpu, layer, encoded, sizes, chosen, skip)
            for a, b in zip(ours, expected, strict=True):
                same(a, b)


def test_the_interpreted_kernel_advances_as_plain_operations_do():
    run_interpreted("import interpreted_advance; interpreted_advance.main()", lines=15)
