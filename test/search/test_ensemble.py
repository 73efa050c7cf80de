import torch
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.search.beam import DecoderScorer, beam_search
from mtla_espnet.search.ensemble import EnsembleScorer
from mtla_espnet.search.options import SearchOptions
from reference import beam as reference
from strategies import SIZE, build_decoder, kinds, lengths, seeds

VOCABULARY = 24
SOS_EOS = VOCABULARY - 1


@given(
    st.lists(kinds, min_size=1, max_size=3),
    lengths(most=6, rows=2),
    st.sampled_from([1, 3]),
    st.sampled_from([1.0, 1.5]),
    seeds,
)
def test_equals_a_slow_search_by_the_average_of_probabilities(some, sizes, beam, temperature, seed):
    decoders, outputs = [], []
    for number, kind in enumerate(some):
        decoder = build_decoder(kind, VOCABULARY, seed=seed % 1000 + number)
        for parameter in decoder.parameters():
            parameter.data *= 1.8
        decoders.append(decoder)
        outputs.append(torch.randn(len(sizes), max(sizes), SIZE))
    options = SearchOptions(beam_size=beam, nbest=beam, temperature=temperature)
    lens = torch.tensor(sizes)
    with torch.no_grad():
        scorer = EnsembleScorer(
            [
                DecoderScorer(decoder, output, lens, temperature)
                for decoder, output in zip(decoders, outputs, strict=True)
            ]
        )
        device = torch.device("cpu")
        found = beam_search(
            {"decoder": scorer}, {"decoder": 1.0}, sizes, SOS_EOS, options, device, blank=0
        )
        for b, size in enumerate(sizes):
            own = [output[b, :size] for output in outputs]
            expected = reference.search(decoders, None, own, SOS_EOS, options, blank=0)
            assert [h.yseq for h in found[b]] == [h.yseq for h in expected]
            for ours, theirs in zip(found[b], expected, strict=True):
                assert abs(ours.score - theirs.score) < 1e-3


def test_sizes_are_those_of_all_caches():
    decoders = [build_decoder(("mha", {}), VOCABULARY), build_decoder(("mtla", {}), VOCABULARY)]
    encoded, lens = torch.randn(2, 5, SIZE), torch.tensor([5, 3])
    scorers = [DecoderScorer(decoder, encoded, lens) for decoder in decoders]
    both = EnsembleScorer(scorers)
    both.score(torch.tensor([SOS_EOS, SOS_EOS]))
    for name in ("nbytes", "prefix_nbytes", "nbytes_allocated"):
        assert getattr(both.cache, name) == sum(getattr(s.cache, name) for s in scorers) > 0
