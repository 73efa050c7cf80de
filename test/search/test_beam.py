import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.search.beam import DecoderScorer, beam_search
from mtla_espnet.search.ctc import CTCPrefixScorer
from mtla_espnet.search.options import SearchOptions
from reference import beam as reference
from strategies import KINDS, SIZE, build_decoder, kinds, lengths, seeds

VOCABULARY = 24
SOS_EOS = VOCABULARY - 1


def model(kind, seed):
    """A decoder and CTC layer of random, peaked weights."""
    decoder = build_decoder(kind, VOCABULARY, seed=seed)
    for parameter in decoder.parameters():
        parameter.data *= 1.8
    return decoder, torch.nn.Linear(SIZE, VOCABULARY)


def search(decoder, ctc_layer, encoded, sizes, options, blank=None):
    weights = {"decoder": 1.0 - options.ctc_weight}
    lens = torch.tensor(sizes)
    ctc = None
    if options.ctc_weight:
        weights["ctc"] = options.ctc_weight
        ctc = CTCPrefixScorer(ctc_layer(encoded).log_softmax(-1), lens, 0, SOS_EOS)
    scorers = {"decoder": DecoderScorer(decoder, encoded, lens, options.temperature)}
    with torch.no_grad():
        return beam_search(
            scorers, weights, sizes, SOS_EOS, options, torch.device("cpu"), ctc, blank=blank
        )


def encoder_output(sizes, seed):
    torch.manual_seed(seed)
    return torch.randn(len(sizes), max(sizes), SIZE)


def close(ours, theirs):
    assert [h.yseq for h in ours] == [h.yseq for h in theirs]
    for a, b in zip(ours, theirs, strict=True):
        assert a.score == pytest.approx(b.score, abs=1e-3)
        for name in b.scores:
            assert a.scores[name] == pytest.approx(b.scores[name], abs=1e-3)


def valid(**given):
    """Options of which one says how the length counts."""
    if given["normalize_length"]:
        given["lenpen"] = 0.0
    return SearchOptions(**given)


options = st.builds(
    valid,
    beam_size=st.sampled_from([1, 2, 5]),
    nbest=st.sampled_from([1, 5]),
    ctc_weight=st.sampled_from([0.0, 0.3]),
    penalty=st.sampled_from([0.0, 0.4]),
    temperature=st.sampled_from([1.0, 1.5]),
    maxlenratio=st.sampled_from([0.0, 0.5, -4]),
    minlenratio=st.sampled_from([0.0, 0.2]),
    normalize_length=st.booleans(),
    pre_beam_ratio=st.sampled_from([1.0, 1.5, 3.0]),
    lenpen=st.sampled_from([0.0, 0.5, 2.0]),
    no_repeat_ngram_size=st.sampled_from([0, 1, 2, 3]),
    prefix=st.sampled_from([(), (), (3,), (5, 5), (7, 2, 7, 2)]),
)


@given(kinds, lengths(most=8, rows=3), options, st.sampled_from([None, 0]), seeds)
def test_equals_a_slow_search_of_each_utterance_without_cache(kind, sizes, chosen, blank, seed):
    """The judge scores whole hypotheses by the full forward and CTC by its definition."""
    decoder, ctc_layer = model(kind, seed)
    encoded = encoder_output(sizes, seed)
    with torch.no_grad():
        ours = search(decoder, ctc_layer, encoded, sizes, chosen, blank)
        for b, size in enumerate(sizes):
            own = encoded[b, :size]
            close(ours[b], reference.search(decoder, ctc_layer, own, SOS_EOS, chosen, blank))


@given(kinds, lengths(most=9), st.sampled_from([0.0, 0.3]), seeds)
def test_nothing_depends_on_the_batch_its_order_or_padding(kind, sizes, ctc_weight, seed):
    decoder, ctc_layer = model(kind, seed)
    encoded = encoder_output(sizes, seed)
    chosen = SearchOptions(beam_size=3, nbest=3, ctc_weight=ctc_weight)
    with torch.no_grad():
        together = search(decoder, ctc_layer, encoded, sizes, chosen)
        order = list(reversed(range(len(sizes))))
        padded = torch.nn.functional.pad(encoded[order], (0, 0, 0, 2), value=1e3)
        again = search(decoder, ctc_layer, padded, [sizes[b] for b in order], chosen)
        for row, b in enumerate(order):
            close(again[row], together[b])
            alone = search(decoder, ctc_layer, encoded[b : b + 1, : sizes[b]], [sizes[b]], chosen)
            close(alone[0], together[b])


@pytest.mark.parametrize("penalty", [0.0, 0.1])
def test_an_utterance_is_over_when_the_n_best_are_found(penalty):
    steps = []
    for nbest in (1, 3):
        decoder, ctc_layer = model(KINDS[0], 0)
        decoder.output_layer.bias.data[SOS_EOS] += 8.0
        taken = []
        decoder.step = lambda *args, step=decoder.step, taken=taken: taken.append(1) or step(*args)
        chosen = SearchOptions(beam_size=3, nbest=nbest, penalty=penalty)
        found = search(decoder, ctc_layer, encoder_output([9, 8], 0), [9, 8], chosen)
        assert [len(hypotheses) for hypotheses in found] == [nbest, nbest]
        steps.append(len(taken))
    assert 1 <= steps[0] < steps[1] < 9


@pytest.mark.espnet
@pytest.mark.parametrize("ctc_weight", [0.0, 0.3])
@pytest.mark.parametrize("beam", [1, 4, 10])
@pytest.mark.parametrize("maxlenratio", [0.0, 0.5])
@pytest.mark.parametrize("kind", [KINDS[0], KINDS[6]], ids=str)
def test_nbest_equals_espnet(kind, maxlenratio, beam, ctc_weight):
    from espnet2.asr.ctc import CTC
    from espnet2.legacy.nets.batch_beam_search import BatchBeamSearch
    from espnet2.legacy.nets.scorers.ctc import CTCPrefixScorer as PeerCTC
    from espnet2.legacy.nets.scorers.length_bonus import LengthBonus

    decoder, ctc_layer = model(kind, 3)
    sizes = [14, 9, 11]
    encoded = encoder_output(sizes, 3)
    weights = {"decoder": 1 - ctc_weight, "length_bonus": 0.1}
    scorers = {"decoder": decoder, "length_bonus": LengthBonus(VOCABULARY)}
    if ctc_weight:
        peer_ctc = CTC(VOCABULARY, SIZE)
        peer_ctc.ctc_lo = ctc_layer
        scorers["ctc"] = PeerCTC(ctc=peer_ctc, eos=SOS_EOS)
        weights["ctc"] = ctc_weight
    peer = BatchBeamSearch(
        scorers,
        weights,
        beam,
        VOCABULARY,
        sos=SOS_EOS,
        eos=SOS_EOS,
        pre_beam_score_key="full" if ctc_weight else None,
    )
    chosen = SearchOptions(
        beam_size=beam, nbest=beam, ctc_weight=ctc_weight, penalty=0.1, maxlenratio=maxlenratio
    )
    with torch.no_grad():
        theirs = peer(encoded, x_lengths=torch.tensor(sizes), maxlenratio=maxlenratio)
    ours = search(decoder, ctc_layer, encoded, sizes, chosen)
    for own, expected in zip(ours, theirs, strict=True):
        assert own
        for a, b in zip(own, expected, strict=False):
            # at the length limit ESPnet appends <sos/eos> to what has just ended as well
            tokens = b.yseq.tolist()
            twice = len(tokens) > 2 and tokens[-2] == SOS_EOS
            assert a.yseq == (tokens[:-1] if twice else tokens)
            assert a.score == pytest.approx(float(b.score), abs=1e-4)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_bfloat16_runs_and_stays_near_float32(kind):
    decoder, ctc_layer = model(kind, 0)
    sizes = [8, 5]
    encoded = encoder_output(sizes, 0)
    chosen = SearchOptions(beam_size=3, maxlenratio=-3)
    exact = search(decoder, ctc_layer, encoded, sizes, chosen)
    low = search(decoder.to(torch.bfloat16), ctc_layer, encoded.bfloat16(), sizes, chosen)
    for a, b in zip(exact, low, strict=True):
        assert b[0].score == pytest.approx(a[0].score, abs=1.0)


@pytest.mark.parametrize("ctc_weight", [0.0, 0.3])
@pytest.mark.parametrize("beam", [1, 4, VOCABULARY - 1])
def test_blank_is_never_emitted(ctc_weight, beam):
    decoder, ctc_layer = model(KINDS[0], 0)
    decoder.output_layer.bias.data[0] = 50.0
    chosen = SearchOptions(beam_size=beam, nbest=4, ctc_weight=ctc_weight)
    found = search(decoder, ctc_layer, encoder_output([6], 0), [6], chosen, blank=0)[0]
    assert found and all(0 not in h.yseq for h in found)


@given(kinds, lengths(most=8, rows=3), st.sampled_from([0.0, 0.3]), st.integers(0, 2), seeds)
def test_a_score_that_is_no_number_spoils_its_utterance_alone(
    kind, sizes, ctc_weight, spoilt, seed
):
    decoder, ctc_layer = model(kind, seed)
    encoded = encoder_output(sizes, seed)
    spoilt = spoilt % len(sizes)
    chosen = SearchOptions(beam_size=3, ctc_weight=ctc_weight)
    expected = search(decoder, ctc_layer, encoded, sizes, chosen)
    encoded[spoilt, sizes[spoilt] - 1, 0] = float("nan")
    found = search(decoder, ctc_layer, encoded, sizes, chosen)
    assert found.pop(spoilt) is None
    expected.pop(spoilt)
    for own, other in zip(found, expected, strict=True):
        close(own, other)


def test_a_score_becomes_no_number_late():
    decoder, ctc_layer = model(KINDS[0], 0)
    steps, step = [], decoder.step

    def spoilt(*args):
        steps.append(1)
        return step(*args) + (float("inf") if len(steps) == 3 else 0.0)

    decoder.step = spoilt
    decoder.output_layer.bias.data[SOS_EOS] = -50.0
    assert search(decoder, ctc_layer, encoder_output([9], 0), [9], SearchOptions(3)) == [None]
