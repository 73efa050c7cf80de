import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.decoder.step import DecoderStep
from strategies import KINDS, SIZE, build_decoder, kinds, lengths, seeds

VOCABULARY = 20


def build(kind, prefix, seed, dtype=torch.float32):
    decoder = build_decoder(kind, VOCABULARY, prefix, seed)
    for parameter in decoder.parameters():  # LayerNorms and biases of 1 and 0 hide mistakes
        parameter.data += 0.1 * torch.randn_like(parameter)
    return decoder.to(dtype)


def both(kind, prefix, sizes, seed, dtype=torch.float32, prefix_cache="latent"):
    """A decoder, the same one with prepared weights, and a cache of each with the prefixes."""
    decoder = build(kind, prefix, seed, dtype)
    prepared = DecoderStep(decoder)
    hidden, hlens = torch.randn(len(sizes), max(sizes), SIZE).to(dtype), torch.tensor(sizes)
    caches = decoder.init_cache(hidden, hlens), prepared.init_cache(hidden, hlens, prefix_cache)
    return (decoder, prepared), caches


@torch.no_grad()
def differences(decoders, caches, batch, seed, steps=6):
    """Yield scores of both over steps in which beams grow, fork, end, and utterances leave."""
    generator = torch.Generator().manual_seed(seed)
    width = 1
    for cache in caches:
        cache.expand(batch, max_length=2)
    for step in range(steps):
        tokens = torch.randint(VOCABULARY, (batch * width,), generator=generator)
        yield [d.step(tokens, cache) for d, cache in zip(decoders, caches, strict=True)]
        parents = torch.randint(width, (batch, 3), generator=generator)
        parents = (parents + torch.arange(batch)[:, None] * width).flatten()
        keep = torch.randperm(batch, generator=generator)[: max(1, batch - 1)]
        for cache in caches:
            cache.reorder(parents)
            if step == 2:
                cache.select(keep)
        width = 3
        if step == 2:
            batch = len(keep)


@given(
    kinds,
    st.sampled_from(["static", "recompute"]),
    lengths(most=9, rows=3),
    st.sampled_from(["latent", "materialised"]),
    seeds,
)
def test_equals_the_decoders_own_step(kind, prefix, sizes, prefix_cache, seed):
    decoders, caches = both(kind, prefix, sizes, seed, prefix_cache=prefix_cache)
    for expected, found in differences(decoders, caches, len(sizes), seed):
        assert (found - expected).abs().max() < 1e-4
        assert caches[1].suffix_nbytes == caches[0].suffix_nbytes


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_bfloat16_is_about_as_near_to_float32(kind):
    sizes = [9, 4]
    exact, exact_cache = both(kind, "static", sizes, 0)
    low, low_caches = both(kind, "static", sizes, 0, torch.bfloat16)
    decoders, caches = (exact[0], *low), (exact_cache[0], *low_caches)
    errors = torch.zeros(2)
    for expected, *found in differences(decoders, caches, 2, 0):
        assert all(scores.dtype == torch.bfloat16 for scores in found)
        errors += torch.stack([(scores.float() - expected).norm() for scores in found])
    assert errors[1] < 1.5 * errors[0]


@pytest.mark.parametrize("prefix_cache", ["latent", "materialised"])
def test_a_prefix_counts_as_what_it_is(prefix_cache):
    _, (latent, prepared) = both(
        ("mtla", {"down_rate": 2}), "static", [7, 4], 0, torch.float32, prefix_cache
    )
    nope = value = rank = SIZE // 4  # a head's; latents have four times as much
    width = (
        4 * (nope + nope // 2 + value) if prefix_cache == "materialised" else 4 * rank + nope // 2
    )
    assert prepared.prefix_nbytes == 2 * width * (3 + 2) * 4
    assert prepared.suffix_nbytes == latent.suffix_nbytes
    assert (
        prepared.nbytes_allocated
        >= prepared.nbytes
        == prepared.prefix_nbytes + prepared.suffix_nbytes
    )


@pytest.mark.parametrize(
    "positions, beams, materialised", [(255, 5, False), (256, 5, True), (256, 1, False)]
)
def test_long_prefixes_of_several_hypotheses_are_materialised(positions, beams, materialised):
    prepared = DecoderStep(build(("mtla", {"down_rate": 2}), "static", 0))
    hidden, hlens = torch.randn(2, positions, SIZE), torch.tensor([3, positions])
    assert prepared.init_cache(hidden, hlens, "auto", beams).materialised is materialised
