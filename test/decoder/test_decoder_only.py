import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from strategies import KINDS, SIZE, build_decoder, kinds, lengths, seeds

VOCABULARY = 20
prefixes = st.sampled_from(["static", "recompute"])


def build(kind, prefix="static", seed=0, **options):
    return build_decoder(kind, VOCABULARY, prefix, seed, **options)


def batch(sizes, seed, fill=0.0):
    torch.manual_seed(seed)
    hlens = torch.tensor(sizes)
    text = torch.randint(1, 6, hlens.shape)
    hs = torch.randn(len(sizes), max(sizes), SIZE)
    hs = torch.where(torch.arange(max(sizes))[None, :, None] < hlens[:, None, None], hs, fill)
    ys = torch.randint(VOCABULARY, (len(sizes), int(text.max())))
    return hs, hlens, ys, text


@given(kinds, prefixes, lengths(), st.integers(1, 3), seeds)
def test_ragged_batch_equals_one_by_one(kind, prefix, sizes, stride, seed):
    decoder = build(kind, prefix, seed, prefix_stride=stride)
    for fill in (0.0, 1e3):
        hs, hlens, ys, ylens = batch(sizes, seed, fill)
        with torch.no_grad():
            together, out_lens = decoder(hs, hlens, ys, ylens)
            assert torch.equal(out_lens, ylens)
            for b, (p, t) in enumerate(zip(hlens, ylens, strict=True)):
                own = hs[b : b + 1, :p], p[None], ys[b : b + 1, :t], t[None]
                assert (together[b, :t] - decoder(*own)[0][0]).abs().max() < 1e-4


@given(kinds, prefixes, lengths(most=9), st.integers(1, 4), st.integers(1, 3), seeds)
def test_batch_score_equals_forward_along_any_path_of_the_beam(
    kind, prefix, sizes, beam, stride, seed
):
    """Hypotheses that fork and end: every score is the full forward's of its own tokens."""
    decoder = build(kind, prefix, seed, prefix_stride=stride)
    hs, hlens, _, _ = batch(sizes, seed)
    count = len(sizes)
    rows = torch.arange(count).repeat_interleave(beam)
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(VOCABULARY, (count * beam, 1), generator=generator)
    with torch.no_grad():
        state = [decoder.batch_init_state(hs, xs_lengths=hlens)] * (count * beam)
        for _ in range(4):
            scores, state = decoder.batch_score(tokens, state, hs[rows])
            length = torch.full((count * beam,), tokens.size(1))
            logits, _ = decoder(hs[rows], hlens[rows], tokens, length)
            assert (scores - logits[:, -1].log_softmax(-1)).abs().max() < 1e-4
            hypothesis = torch.randint(beam, (count, beam), generator=generator)
            new = torch.randint(VOCABULARY, (count, beam), generator=generator)
            state = decoder.batch_select_state(state, hypothesis * VOCABULARY + new)
            parents = (hypothesis + torch.arange(count)[:, None] * beam).flatten()
            tokens = torch.cat((tokens[parents], new.view(-1, 1)), dim=1)


@pytest.mark.parametrize("prefix", ["static", "recompute"])
def test_states_selected_one_by_one_may_grow_and_shrink(prefix):
    decoder = build(("mtla", {"down_rate": 3}), prefix)
    hs, tokens = torch.randn(7, SIZE), torch.tensor([[1], [1]])
    with torch.no_grad():
        state = [decoder.batch_init_state(hs)]
        for chosen in ([0, 0, 0], [2, 0], [1], [0, 0]):
            tokens = tokens[: len(state)] if tokens.size(1) == 1 else tokens
            scores, batch_state = decoder.batch_score(tokens, state, None)
            for n, row in enumerate(tokens):
                expected, _ = decoder.score(row, None, hs)
                assert (scores[n] - expected).abs().max() < 1e-4
            state = [decoder.select_state(batch_state, i) for i in chosen]
            new = torch.arange(len(chosen))[:, None] + 3
            tokens = torch.cat((tokens[chosen], new), dim=1)


def test_a_state_from_the_past_is_refused():
    decoder = build(("mla", {}))
    first = decoder.batch_init_state(torch.randn(4, SIZE))
    with torch.no_grad():
        decoder.batch_score(torch.tensor([[1]]), [first], None)
        with pytest.raises(RuntimeError, match="after 0 tokens is used again"):
            decoder.batch_score(torch.tensor([[2]]), [first], None)


def test_cache_bytes_are_those_of_the_table():
    decoder = build(("mtla", {"down_rate": 2}))
    width = SIZE + SIZE // 8  # r = 4 d / H, rope = d / H / 2
    assert decoder.cache_bytes_per_position() == 2 * width * 4 / 2
    cache = decoder.init_cache(torch.randn(2, 5, SIZE), torch.tensor([5, 4]))
    cache.expand(2 * 50)
    assert cache.nbytes == 2 * width * 4 * (2 + 2 + 50)  # one unfinished chunk, 50 seeds
    assert decoder.down_rate == 2


@pytest.mark.parametrize("prefix", ["static", "recompute"])
def test_the_text_is_causal_and_sees_the_whole_prefix(prefix):
    decoder = build(("mtla", {"down_rate": 2}), prefix)
    hs = torch.randn(1, 5, SIZE, requires_grad=True)
    ys, lens = torch.randint(VOCABULARY, (1, 4)), torch.tensor([4])
    base, _ = decoder(hs, torch.tensor([5]), ys, lens)
    changed = ys.clone()
    changed[0, 2] = (ys[0, 2] + 1) % VOCABULARY
    other, _ = decoder(hs, torch.tensor([5]), changed, lens)
    assert torch.allclose(base[0, :2], other[0, :2], atol=1e-6)
    assert not torch.allclose(base[0, 2], other[0, 2], atol=1e-3)
    (grad,) = torch.autograd.grad(base[0, 0].square().sum(), hs)
    assert (grad.abs().sum(-1) > 0).all()


def test_tied_embeddings_are_one_matrix():
    decoder = build(("mha", {}), tie_embeddings=True)
    assert decoder.output_layer.weight is decoder.embed[0].weight


def test_projector_units():
    assert build(("mha", {})).projector.layers[0].out_features == SIZE // 2
    assert not list(build(("mha", {}), projector_units=0).projector.parameters())


@pytest.mark.parametrize("units", [0, None])
def test_stacked_frames_are_positions_of_wider_vectors(units):
    """Three frames to a position = frames of three times the width, projected as one."""
    decoder = build(("mtla", {"down_rate": 2}), projector_units=units, prefix_stride=3)
    hs, hlens, ys, ylens = batch([7, 2], 0)
    wide = torch.zeros(2, 9, SIZE)
    for b, length in enumerate(hlens):
        wide[b, :length] = hs[b, :length]
    prefix = decoder.projector.layers(wide.view(2, 3, 3 * SIZE))
    with torch.no_grad():
        found = decoder(hs, hlens, ys, ylens)[0]
        decoder.projector = torch.nn.Identity()
        decoder.prefix_lengths = lambda lengths: lengths
        expected = decoder(prefix, torch.tensor([3, 1]), ys, ylens)[0]
    for b, length in enumerate(ylens):
        assert (found[b, :length] - expected[b, :length]).abs().max() < 1e-5


def test_a_stride_counts_positions_of_the_cache():
    decoder = build(("mtla", {"down_rate": 2}), prefix_stride=2)
    cache = decoder.init_cache(torch.randn(2, 9, SIZE), torch.tensor([9, 4]))
    assert cache.lengths.tolist() == [5, 2]
    assert decoder.prefix_slots(9) == 2
    with pytest.raises(ValueError, match="prefix_stride must be an integer of at least 1, got 0"):
        build(("mha", {}), prefix_stride=0)


def test_an_unknown_prefix_mode_is_named():
    with pytest.raises(ValueError, match="prefix: 'both' is unknown; choose static or recompute"):
        build(("mha", {}), prefix="both")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_decoding_stays_near_float32(dtype):
    for kind in (("mha", {}), ("mtla", {"down_rate": 2})):
        exact = build(kind)
        low = build(kind).to(dtype)
        hs, hlens, ys, ylens = batch([6, 3], 0)
        with torch.no_grad():
            truth = exact(hs, hlens, ys, ylens)[0]
            state = [low.batch_init_state(hs.to(dtype), xs_lengths=hlens)] * 2
            for t in range(int(ylens.min())):
                scores, state = low.batch_score(ys[:, : t + 1], state, None)
                expected = truth[:, t].log_softmax(-1)
                assert (scores.float() - expected).abs().max() < 40 * torch.finfo(dtype).eps


@pytest.mark.gpu
@pytest.mark.parametrize("prefix", ["static", "recompute"])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_decoding_on_cuda_equals_the_cpu(kind, prefix):
    cpu, gpu = build(kind, prefix), build(kind, prefix).cuda()
    hs, hlens, _, _ = batch([6, 3], 0)
    rows = torch.arange(2).repeat_interleave(3)
    tokens = torch.arange(6)[:, None]
    with torch.no_grad():
        state = [gpu.batch_init_state(hs.cuda(), xs_lengths=hlens.cuda())] * 6
        for _ in range(4):
            scores, state = gpu.batch_score(tokens.cuda(), state, None)
            length = torch.full((6,), tokens.size(1))
            expected = cpu(hs[rows], hlens[rows], tokens, length)[0][:, -1].log_softmax(-1)
            assert (scores.cpu() - expected).abs().max() < 1e-3
            best = torch.tensor([[0, 2, 1], [1, 1, 0]])
            state = gpu.batch_select_state(state, best.cuda() * VOCABULARY + 7)
            parents = (best + torch.tensor([[0], [3]])).flatten()
            tokens = torch.cat((tokens[parents], torch.full((6, 1), 7)), dim=1)
