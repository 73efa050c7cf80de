"""Conversion to latent attention: exact where the sizes allow, else as near as said."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtla_espnet.attention.kinds import attention_class
from mtla_espnet.attention.to_latent import (
    Heads,
    Moments,
    fill_latent,
    merge_by_mean,
    rotary_counts,
    with_bias,
)
from mtla_espnet.position import Positions, positions
from strategies import HEADS, SIZE, build, seeds

WIDTH = SIZE // HEADS
FREQUENCIES = 10000.0 ** (-torch.arange(WIDTH // 2, dtype=torch.float64) * 2 / WIDTH)
GROUPS = {"mha": 4, "gqa": 2, "mqa": 1}


def inputs(seed, rows=3, size=9):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, size, SIZE, dtype=torch.float64, generator=generator)


def converted(source, x, rank, rope, bias=True):
    """The MLA made of an attention that was calibrated on (B, T, d), and what its rank loses."""
    moments, groups = Moments(SIZE), source.num_kv_heads
    moments.add(x.flatten(0, 1))
    heads = Heads(
        with_bias(source.wq.weight, source.wq.bias, HEADS),
        with_bias(source.wk.weight, source.wk.bias, groups),
        with_bias(source.wv.weight, source.wv.bias, groups),
        source.wo.weight.detach(),
        source.wo.bias if source.wo.bias is None else source.wo.bias.detach(),
        moments,
        moments,
    )
    counts = rotary_counts([heads], FREQUENCIES, rope, x.size(1))
    kept = [float(f) for f, n in zip(FREQUENCIES, counts, strict=True) for _ in range(n)]
    sizes = dict(kv_lora_rank=rank, qk_rope_head_dim=rope, qk_nope_head_dim=WIDTH)
    mla = attention_class("mla")(
        SIZE,
        HEADS,
        bias=bias,
        v_head_dim=WIDTH,
        rope_frequencies=kept,
        latent_norm=False,
        **sizes,
    )
    mla = mla.double().eval()
    return mla, fill_latent(mla, heads, counts, source.softmax_scale)


def attended(module, x):
    position = Positions(positions(torch.full((len(x),), x.size(1)), x.size(1)))
    return module(x, x, position, position)


@settings(deadline=None, max_examples=20, print_blob=True)
@given(st.sampled_from(sorted(GROUPS)), st.booleans(), st.booleans(), seeds)
def test_with_all_sizes_the_function_is_the_same(kind, bias, double_rank, seed):
    """On inputs that calibration has not seen, of which it saw fewer than numbers of a key."""
    source = build((kind, {"bias": bias}), seed % 1000, torch.float64)
    everything = GROUPS[kind] * WIDTH
    rank = everything * (2 if double_rank else 1)
    mla, lost = converted(source, inputs(seed, 1, 5), rank, everything, bias)
    assert lost < 1e-9
    x = inputs(seed + 1)
    torch.testing.assert_close(attended(mla, x), attended(source, x), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("kind", GROUPS)
def test_without_turns_no_rotary_number_is_needed(kind, monkeypatch):
    """Keys without RoPE fit into a latent of 2 G D numbers, whatever is kept of the rotary part."""
    source = build((kind, {}), 1, torch.float64)
    x = inputs(2)
    mla, _ = converted(source, x, 2 * GROUPS[kind] * WIDTH, 2)
    monkeypatch.setattr("mtla_espnet.attention.mha.rotate", lambda x, position: x)
    monkeypatch.setattr("mtla_espnet.attention.base.rotate", lambda x, *rest: x)
    torch.testing.assert_close(attended(mla, x), attended(source, x), atol=1e-9, rtol=1e-9)


def test_a_larger_rank_and_a_wider_rotary_part_lose_less():
    source = build(("gqa", {}), 3, torch.float64)
    x = inputs(4, 8, 16)
    wanted = attended(source, x)

    def error(rank, rope):
        mla, lost = converted(source, x, rank, rope)
        return float((attended(mla, x) - wanted).detach().square().mean()), lost

    by_rank = [error(rank, 16) for rank in (4, 8, 12, 16)]
    assert [each for each, _ in by_rank] == sorted((e for e, _ in by_rank), reverse=True)
    assert [lost for _, lost in by_rank] == sorted((lost for _, lost in by_rank), reverse=True)
    by_rope = [error(32, rope)[0] for rope in (2, 4, 8, 16)]
    assert by_rope == sorted(by_rope, reverse=True)


def test_rotary_pairs_are_chosen_by_norm_and_turn():
    """A loud pair that hardly turns, and a quiet one that does, go before a quiet slow one."""
    source = build(("mqa", {}), 5, torch.float64)
    x = inputs(6)
    mla, _ = converted(source, x, 16, 4)
    first = set(mla.slot.frequencies)
    with torch.no_grad():  # the pair of the lowest frequency becomes the loudest by far
        source.wk.weight[-2:] *= 1e6
        source.wk.bias[-2:] *= 1e6
    mla, _ = converted(source, x, 16, 4)
    assert float(FREQUENCIES[-1]) not in first
    assert mla.slot.frequencies[-1] == float(FREQUENCIES[-1])


@pytest.mark.parametrize("rate", [1, 2, 3, 4])
def test_chunks_begin_as_means_and_learn(rate):
    options = {"latent_norm": False, "kv_lora_rank": 8}
    mla = build(("mla", options), 7)
    mtla = build(("mtla", options | {"down_rate": rate}), 8)
    merge_by_mean(mtla, mla)
    x = inputs(9)[:1].float()
    size = x.size(1) // rate * rate
    position = Positions(positions(torch.tensor([size]), size))
    x = x[:, :size]
    own, merged = mla.entries(x, position), mtla.entries(x, position)
    latents = own[..., :8].unflatten(1, (-1, rate)).mean(dim=2)
    torch.testing.assert_close(merged[:, rate - 1 :: rate, :8], latents, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(merged[..., 8:], own[..., 8:])
    if rate > 1:
        merged[..., :8].square().sum().backward()
        assert mtla.hypernet_down.fc_p.weight.grad.abs().sum() > 0
    else:
        torch.testing.assert_close(attended(mtla, x), attended(mla, x))
