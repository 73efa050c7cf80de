import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.search.beam import DecoderScorer, beam_search
from mtla_espnet.search.options import SearchOptions
from mtla_espnet.search.sampling import most_probable, sample
from reference.beam import may_follow
from strategies import KINDS, SIZE, build_decoder, kinds, lengths, seeds

VOCABULARY = 12
SOS_EOS = VOCABULARY - 1
CPU = torch.device("cpu")


class Markov:
    """Scores by a table of the newest token; its rows have no state."""

    def __init__(self, table):
        self._table = table

    def score(self, tokens):
        return self._table[tokens].log_softmax(dim=-1)

    def reorder(self, parents):
        pass


def draw(decoder, encoded, sizes, options, blank=0):
    scorer = DecoderScorer(decoder, encoded, torch.tensor(sizes), options.temperature)
    with torch.no_grad():
        return sample({"decoder": scorer}, {"decoder": 1.0}, sizes, SOS_EOS, options, CPU, blank)


def model(kind, seed):
    decoder = build_decoder(kind, VOCABULARY, seed=seed)
    for parameter in decoder.parameters():
        parameter.data *= 1.8
    return decoder


options = st.builds(
    SearchOptions,
    sampling=st.just(True),
    beam_size=st.sampled_from([1, 3]),
    nbest=st.sampled_from([1, 3]),
    penalty=st.sampled_from([0.0, 0.4]),
    temperature=st.sampled_from([0.7, 1.5]),
    maxlenratio=st.sampled_from([0.0, -4]),
    minlenratio=st.sampled_from([0.0, 0.4]),
    lenpen=st.sampled_from([0.0, 1.0]),
    no_repeat_ngram_size=st.sampled_from([0, 1, 2]),
    prefix=st.sampled_from([(), (3, 3)]),
    sampling_topk=st.sampled_from([0, 1, 3]),
    sampling_topp=st.sampled_from([0.0, 0.6]),
    seed=st.integers(0, 9),
)


@given(kinds, lengths(most=7, rows=3), options, seeds)
def test_what_is_drawn_is_allowed_scored_by_the_full_forward_and_alike_alone(
    kind, sizes, chosen, seed
):
    decoder = model(kind, seed)
    encoded = torch.randn(len(sizes), max(sizes), SIZE)
    together = draw(decoder, encoded, sizes, chosen)
    for b, size in enumerate(sizes):
        own = encoded[b : b + 1, :size]
        alone = draw(decoder, own, [size], chosen)[0]
        assert [h.yseq for h in together[b]] == [h.yseq for h in alone]
        least, most = chosen.length_limits(size)
        assert len(alone) == min(chosen.nbest, chosen.beam_size)
        ranks = [h.score / (len(h.yseq) - 1) ** chosen.lenpen for h in alone]
        assert ranks == sorted(ranks, reverse=True)
        for hypothesis in alone:
            labels = hypothesis.yseq[1:]
            labels = labels[:-1] if len(labels) > most else labels
            tokens = torch.tensor([[SOS_EOS, *labels[:-1]]])
            with torch.no_grad():
                logits = decoder(own, torch.tensor([size]), tokens, torch.tensor([len(labels)]))
            log_p = (logits[0][0] / chosen.temperature).log_softmax(-1)
            total = log_p.gather(1, torch.tensor(labels)[:, None]).sum().item()
            assert hypothesis.scores["decoder"] == pytest.approx(total, abs=1e-3)
            expected = total + chosen.penalty * len(labels)
            assert hypothesis.score == pytest.approx(expected, abs=1e-3)
            assert least < len(labels) <= most or len(labels) == most
            for i, token in enumerate(labels):
                forced = i < len(chosen.prefix)
                assert may_follow(labels[:i], token, SOS_EOS, chosen)
                assert token != 0
                assert (
                    forced
                    or chosen.no_repeat_ngram_size
                    or token in nucleus(log_p[i], chosen, ends=i >= least)
                )


def nucleus(log_p, chosen, ends):
    """The tokens that may be drawn, one by one, with what ties by rounding."""
    allowed = [t for t in range(1, VOCABULARY) if ends or t != SOS_EOS]
    allowed.sort(key=lambda t: -log_p[t].item())
    if chosen.sampling_topk:
        least = log_p[allowed[chosen.sampling_topk - 1]]
        allowed = [t for t in allowed if log_p[t] >= least - 1e-4]
    if not chosen.sampling_topp:
        return allowed
    whole = sum(math.exp(log_p[t]) for t in allowed)
    kept, mass = [], 0.0
    for token in allowed:
        if mass >= chosen.sampling_topp + 1e-4:
            break
        kept.append(token)
        mass += math.exp(log_p[token]) / whole
    return kept


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_sequences_come_as_often_as_they_are_probable(temperature):
    """All sequences of a chain of four tokens and at most two steps, 8,000 draws of one seed."""
    torch.manual_seed(0)
    table = 1.5 * torch.randn(4, 4) / temperature
    options = SearchOptions(sampling=True, beam_size=8000, nbest=8000, maxlenratio=-2, seed=3)
    (found,) = sample({"decoder": Markov(table)}, {"decoder": 1.0}, [9], 3, options, CPU, blank=0)
    drawn = Counter(tuple(h.yseq[1:]) for h in found)
    table[:, 0] = float("-inf")
    p = table.softmax(dim=-1)
    for first in (1, 2, 3):
        for second in (1, 2, 3):
            labels = (3,) if first == 3 else (first, second, *([3] if second != 3 else []))
            probable = p[3, first] * (1 if first == 3 else p[first, second])
            deviation = math.sqrt(8000 * probable * (1 - probable))
            assert abs(drawn[labels] - 8000 * probable) < 4 * deviation
    assert sum(drawn.values()) == 8000


@given(st.sampled_from(KINDS), lengths(most=7, rows=2), seeds)
def test_the_most_probable_token_alone_is_greedy_search(kind, sizes, seed):
    decoder = model(kind, seed)
    encoded = torch.randn(len(sizes), max(sizes), SIZE)
    drawn = draw(decoder, encoded, sizes, SearchOptions(1, sampling=True, sampling_topk=1))
    scorer = DecoderScorer(decoder, encoded, torch.tensor(sizes))
    greedy = SearchOptions(1)
    with torch.no_grad():
        found = beam_search(
            {"decoder": scorer}, {"decoder": 1.0}, sizes, SOS_EOS, greedy, CPU, blank=0
        )
    assert [[h.yseq for h in each] for each in drawn] == [[h.yseq for h in each] for each in found]


def test_another_seed_draws_something_else_and_the_same_the_same():
    decoder, encoded = model(KINDS[0], 1), torch.randn(1, 8, SIZE)
    chosen = [SearchOptions(4, 4, sampling=True, seed=seed, temperature=2.0) for seed in (1, 1, 2)]
    first, again, other = (draw(decoder, encoded, [8], each)[0] for each in chosen)
    assert [h.yseq for h in first] == [h.yseq for h in again] != [h.yseq for h in other]


def test_scores_that_are_no_numbers_are_told():
    table = torch.full((4, 4), float("nan"))
    options = SearchOptions(2, sampling=True)
    for blank in (0, None):
        assert sample({"d": Markov(table)}, {"d": 1.0}, [3], 3, options, CPU, blank) == [None]


def test_of_no_utterance_nothing_is_drawn():
    assert sample({"d": Markov(torch.eye(4))}, {"d": 1.0}, [0], 3, SearchOptions(), CPU) == [[]]


def test_equal_tokens_stay_together_and_all_may_stay():
    score = torch.tensor([[0.4, 0.3, 0.3]]).log()
    assert most_probable(score, 2, 0.0).isfinite().all()
    assert torch.equal(most_probable(score, 0, 0.0), score)
    assert most_probable(score, 0, 0.4).isfinite().tolist() == [[True, False, False]]
    assert most_probable(score, 1, 0.99).isfinite().tolist() == [[True, False, False]]
