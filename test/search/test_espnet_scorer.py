import pytest
import torch

from mtla_espnet.search.beam import beam_search
from mtla_espnet.search.espnet_scorer import ESPnetPartialScorer, ESPnetScorer
from mtla_espnet.search.options import SearchOptions

pytestmark = pytest.mark.espnet

VOCABULARY, SIZE, SOS_EOS = 24, 16, 23
SIZES = [9, 5, 7]


def peaked(module):
    torch.manual_seed(0)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return module.eval()


def decoder():
    from espnet2.asr.decoder.transformer_decoder import TransformerDecoder

    return peaked(
        TransformerDecoder(VOCABULARY, SIZE, attention_heads=2, linear_units=32, num_blocks=2)
    )


def language_model(kind):
    from espnet2.lm.seq_rnn_lm import SequentialRNNLM
    from espnet2.lm.transformer_lm import TransformerLM

    if kind == "transformer":
        return peaked(TransformerLM(VOCABULARY, embed_unit=8, att_unit=8, head=2, unit=16, layer=1))
    return peaked(SequentialRNNLM(VOCABULARY, unit=8, nlayers=1, rnn_type=kind))


@pytest.mark.parametrize("kind", ["transformer", "lstm", "gru"])
@pytest.mark.parametrize("maxlenratio", [0.0, 0.6])
def test_a_decoder_and_a_language_model_search_as_in_espnet(kind, maxlenratio):
    from espnet2.legacy.nets.batch_beam_search import BatchBeamSearch

    models = {"decoder": decoder(), "lm": language_model(kind)}
    weights = {"decoder": 1.0, "lm": 0.4}
    encoded = torch.randn(len(SIZES), max(SIZES), SIZE)
    lengths = torch.tensor(SIZES)
    peer = BatchBeamSearch(models, weights, 3, VOCABULARY, sos=SOS_EOS, eos=SOS_EOS)
    scorers = {
        "decoder": ESPnetScorer(models["decoder"], encoded, lengths),
        "lm": ESPnetScorer(models["lm"], encoded[:, :0], lengths),
    }
    options = SearchOptions(beam_size=3, nbest=3, maxlenratio=maxlenratio)
    with torch.no_grad():
        ours = beam_search(scorers, weights, SIZES, SOS_EOS, options, torch.device("cpu"))
        for found, x, size in zip(ours, encoded, SIZES, strict=True):
            theirs = peer(x[:size], maxlenratio=maxlenratio)
            assert found
            for a, b in zip(found, theirs, strict=False):
                tokens = b.yseq.tolist()
                twice = len(tokens) > 2 and tokens[-2] == SOS_EOS
                assert a.yseq == (tokens[:-1] if twice else tokens)
                assert a.score == pytest.approx(float(b.score), abs=1e-4)


def test_a_temperature_flattens_the_scores():
    lengths = torch.tensor([4])
    encoded = torch.randn(1, 4, SIZE)
    tokens = torch.tensor([SOS_EOS])
    with torch.no_grad():
        plain = ESPnetScorer(decoder(), encoded, lengths).score(tokens)
        flat = ESPnetScorer(decoder(), encoded, lengths, temperature=2.0).score(tokens)
    torch.testing.assert_close(flat, (plain / 2).log_softmax(dim=-1))


class Bigram:
    """Scores by the token before, by the interfaces of ESPnet's `Ngram*Scorer`.

    Its state is the whole context, so that a wrong one shows.
    """

    def __init__(self):
        generator = torch.Generator().manual_seed(5)
        shape = VOCABULARY, VOCABULARY
        self.table = torch.randn(shape, generator=generator).log_softmax(dim=-1)

    def init_state(self, x):
        return ()

    def score_partial(self, y, next_token, state, x):
        assert state == tuple(y[:-1].tolist())
        return self.table[y[-1], next_token] + 0.01 * len(state), (*state, int(y[-1]))


def bigram(part):
    """The scorer, as ESPnet's search takes it: of all tokens, or of those before CTC."""
    from espnet2.legacy.nets.scorer_interface import (
        BatchScorerInterface,
        PartialScorerInterface,
    )

    class Part(Bigram, PartialScorerInterface):
        def select_state(self, state, i):
            return state

    class Full(Bigram, BatchScorerInterface):
        def score(self, y, state, x):
            return self.score_partial(y, torch.arange(VOCABULARY), state, x)

    return Part() if part else Full()


@pytest.mark.parametrize("part", [False, True], ids=["full", "part"])
@pytest.mark.parametrize("ctc_weight", [0.0, 0.3])
def test_an_ngram_searches_as_in_espnet(part, ctc_weight):
    """ESPnet takes partial scorers without batches alone: its search of one utterance."""
    from espnet2.asr.ctc import CTC
    from espnet2.legacy.nets.beam_search import BeamSearch
    from espnet2.legacy.nets.scorers.ctc import CTCPrefixScorer as PeerCTC

    from mtla_espnet.search.ctc import CTCPrefixScorer

    models = {"decoder": decoder(), "ngram": bigram(part)}
    weights = {"decoder": 1.0 - ctc_weight, "ngram": 0.5}
    encoded = torch.randn(len(SIZES), max(SIZES), SIZE)
    lengths = torch.tensor(SIZES)
    ctc, layer = None, peaked(torch.nn.Linear(SIZE, VOCABULARY))
    if ctc_weight:
        peer_ctc = CTC(VOCABULARY, SIZE)
        peer_ctc.ctc_lo = layer
        models["ctc"] = PeerCTC(ctc=peer_ctc, eos=SOS_EOS)
        weights["ctc"] = ctc_weight
        ctc = CTCPrefixScorer(layer(encoded).log_softmax(-1), lengths, 0, SOS_EOS)
    scorers = {"decoder": ESPnetScorer(models["decoder"], encoded, lengths)}
    partial_scorers = {}
    if part:
        partial_scorers["ngram"] = ESPnetPartialScorer(models["ngram"], encoded, lengths)
    else:
        scorers["ngram"] = ESPnetScorer(models["ngram"], encoded, lengths)
    peer = BeamSearch(
        models, weights, 4, VOCABULARY, sos=SOS_EOS, eos=SOS_EOS, pre_beam_score_key="full"
    )
    options = SearchOptions(beam_size=4, nbest=4, ctc_weight=ctc_weight, maxlenratio=0.6)
    with torch.no_grad():
        ours = beam_search(
            scorers, weights, SIZES, SOS_EOS, options, torch.device("cpu"), ctc, partial_scorers
        )
        for found, x, size in zip(ours, encoded, SIZES, strict=True):
            theirs = peer(x[:size], maxlenratio=0.6)
            assert found
            for a, b in zip(found, theirs, strict=False):
                tokens = b.yseq.tolist()
                twice = len(tokens) > 2 and tokens[-2] == SOS_EOS
                assert a.yseq == (tokens[:-1] if twice else tokens)
                assert a.score == pytest.approx(float(b.score), abs=1e-4)
                assert a.scores["ngram"] == pytest.approx(float(b.scores["ngram"]), abs=1e-4)
