"""A kind that fulfils the contract alone trains, decodes by both searches, and is measured."""

import pytest
import torch
import torch.nn.functional as F

from mtla_espnet.attention.kinds import KINDS
from mtla_espnet.decoder.step import DecoderStep
from mtla_espnet.search.beam import DecoderScorer, SearchOptions, beam_search
from mtla_espnet.search.graph.search import GraphSearch
from strategies import SIZE, build_decoder

VOCABULARY = 20
SOS_EOS = VOCABULARY - 1


@pytest.fixture
def decoder(monkeypatch):
    monkeypatch.setitem(KINDS, "toy", ("toy_kind", "SharedKeyValue"))
    return build_decoder(("toy", {}), VOCABULARY)


def test_it_trains(decoder):
    torch.manual_seed(0)
    hidden, lengths = torch.randn(3, 6, SIZE), torch.tensor([6, 4, 5])
    tokens = torch.randint(VOCABULARY, (3, 5))
    optimizer = torch.optim.Adam(decoder.train().parameters(), 1e-2)
    losses = []
    for _ in range(40):
        logits, _ = decoder(hidden, lengths, tokens[:, :-1], torch.full((3,), 4))
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 5


@torch.no_grad()
def test_steps_equal_the_full_forward(decoder):
    torch.manual_seed(0)
    hidden, lengths = torch.randn(2, 6, SIZE), torch.tensor([6, 3])
    tokens = torch.randint(VOCABULARY, (2, 4))
    expected, _ = decoder(hidden, lengths, tokens, torch.full((2,), 4))
    for prepared in (False, True):
        step = DecoderStep(decoder, prepared)
        cache = step.init_cache(hidden, lengths)
        cache.expand(2)
        for position, newest in enumerate(tokens.T):
            found = step.step(newest, cache)
            assert (found - expected[:, position]).abs().max() < 1e-4


@torch.no_grad()
def test_both_searches_agree_and_its_cache_is_counted(decoder):
    torch.manual_seed(0)
    for parameter in decoder.parameters():
        parameter *= 1.8
    sizes, beams = [6, 3], 4
    hidden, lengths = torch.randn(2, 6, SIZE), torch.tensor(sizes)
    options = SearchOptions(beam_size=beams, nbest=3, maxlenratio=-5)
    graph = GraphSearch(decoder, SOS_EOS, options)
    found = graph(hidden, lengths)
    plain = DecoderScorer(DecoderStep(decoder), hidden, lengths)
    expected = beam_search(
        {"decoder": plain}, {"decoder": 1.0}, sizes, SOS_EOS, options, hidden.device
    )
    assert [[h.yseq for h in each] for each in found] == [
        [h.yseq for h in each] for each in expected
    ]
    width = 2 * 16 * 4  # two layers of (12 + 4) numbers
    # keys are 12 + 4 numbers, their values stand once more in a materialised prefix
    assert graph.cache.prefix_nbytes == sum(sizes) * 2 * (16 + 12) * 4
    assert graph.cache.suffix_nbytes == len(sizes) * beams * 5 * width
    assert decoder.cache_bytes_per_position() == width
