import pytest
import torch

from interpreted import run_interpreted
from mtla_espnet.attention.graph_step import GraphStep, new_cache
from mtla_espnet.attention.ops import choose, decode
from strategies import HEADS, KINDS, build

BATCH, BEAMS, SLOTS, LENGTH, STEP = 3, 5, 4, 6, 3
PREFIXES = [8, 0, 5]


def filled(attention, device="cpu"):
    """A cache after some steps, with random contents."""
    cache = new_cache(attention, 1, BATCH, BEAMS, SLOTS * 4, LENGTH)
    generator = torch.Generator().manual_seed(1)
    cache.start(torch.tensor(PREFIXES, device=device))
    cache.step += STEP
    for whole in (*cache.store, cache.prefix_key, cache.prefix_value):
        whole.copy_(torch.randn(whole.shape, generator=generator))
    first = torch.arange(BATCH)[:, None] * BEAMS
    parents = torch.randint(BEAMS, (BATCH, BEAMS), generator=generator) + first
    cache.parents.copy_(parents.flatten())
    ancestor = torch.randint(BEAMS, (2, BATCH, BEAMS * cache.capacity), generator=generator)
    cache.ancestor.copy_((ancestor + first[None]).view_as(cache.ancestor))
    return cache


@torch.no_grad()
def outcome(kind, operations, device="cpu"):
    """Run every operation of a layer of a kind; return all that they wrote."""
    attention = build(kind).to(device)
    cache = filled(attention, device)
    generator = torch.Generator().manual_seed(2)

    def draw(*shape):
        return torch.randn(shape, generator=generator).to(device)

    rows, scale = cache.rows, 0.3
    layers, (_, width) = attention.layers, attention.key_value_shapes[0]
    query, entry = draw(rows, HEADS, width), draw(rows, cache.form.width)
    latent = None if layers.up is None else draw(HEADS, rows, cache.form.key_width)
    x, added = draw(rows, 32), draw(rows, 32)
    operations.advance(cache)
    operations.write(entry, query, layers.norm, GraphStep(attention, 0, cache).gates, cache, 0)
    output, lse = operations.attend_prefix(query, cache, 0, scale)
    found = [output.clone(), lse]
    latent = operations.attend_suffix(latent, query, output, lse, cache, 0, scale)
    if latent is not None:
        found.append(latent)
    found.append(operations.add_norm(x, added, torch.nn.LayerNorm(32, device=device)))
    return [*found, output, query, x, *cache.store, cache.ancestor[STEP % 2].float()]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_prefix_and_suffix_are_one_softmax(kind):
    """Against loops over each row's own slots, each group's key and value read from them."""
    attention = build(kind)
    cache, form = filled(attention), attention.slot
    decode.advance(cache)
    generator = torch.Generator().manual_seed(3)
    width = attention.key_value_shapes[0][1]
    query = torch.randn(cache.rows, HEADS, width, generator=generator)
    latent, reading = None, query
    if attention.layers.up is not None:
        latent = torch.randn(HEADS, cache.rows, form.key_width, generator=generator)
        shared = query[..., width - form.shared_width :]
        reading = torch.cat((latent.transpose(0, 1), shared), dim=-1)
    output, lse = decode.attend_prefix(query, cache, 0, 0.3)
    found = decode.attend_suffix(latent, query, output, lse, cache, 0, 0.3)
    for n in range(cache.rows):
        b = n // BEAMS
        keys, values = form.read(suffix_slots(cache, n)[None])
        prefix = slice(PREFIXES[b] // form.down_rate)
        for h in range(HEADS):
            group = h * form.groups // HEADS
            head = h * cache.prefix_key.size(3) // HEADS
            scores = cache.prefix_key[0, b, prefix, head] @ query[n, h] * 0.3
            suffix = keys[group] @ reading[n, h] * 0.3
            shared, own = torch.cat((scores, suffix)).softmax(0).split((len(scores), len(suffix)))
            expected, rest = shared @ cache.prefix_value[0, b, prefix, head], own @ values[group]
            if latent is None:
                expected = expected + rest
            else:
                assert torch.allclose(rest, found[h, n], atol=1e-5)
            assert torch.allclose(expected, output[n, h], atol=1e-5)


def suffix_slots(cache, n):
    """The slots (S, width) that hypothesis n sees: its ancestors', then its own unfinished."""
    rate = cache.form.down_rate
    offset = PREFIXES[n // BEAMS] % rate + STEP
    newest = offset // rate
    own = cache.capacity + STEP % 2
    own = newest if offset % rate == rate - 1 else own
    slots = [cache.store[0][j, cache.ancestor[STEP % 2, n, j]] for j in range(newest)]
    if cache.form.window:
        planes = cache.capacity + STEP % 2 * rate + torch.arange(offset % rate + 1)
        return torch.stack([*slots, *cache.store[0][planes, n]])
    return torch.stack([*slots, cache.store[0][own, n]])


def test_interpreted_kernels_equal_their_plain_forms():
    run_interpreted("import interpreted_decode; interpreted_decode.main()", lines=4)


@pytest.mark.gpu
def test_split_prefixes_give_the_same():
    from mtla_espnet.attention.ops import decode_triton

    attention = build(("gqa", {"num_kv_heads": 2})).to("cuda")
    cache = new_cache(attention, 1, BATCH, BEAMS, 4000, LENGTH)
    cache.start(torch.tensor([4000, 0, 700], device="cuda"))
    for whole in (cache.prefix_key, cache.prefix_value):
        whole.normal_()
    query = torch.randn(cache.rows, HEADS, attention.head_dim, device="cuda")
    assert decode_triton.prefix_parts(BATCH * HEADS, 4000, query.device) > 8
    expected = decode.attend_prefix(query, cache, 0, 0.3)
    for ours, plain in zip(
        decode_triton.attend_prefix(query, cache, 0, 0.3), expected, strict=True
    ):
        assert torch.allclose(ours, plain, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_each_kernel_equals_its_plain_form(kind):
    on_gpu = outcome(kind, choose.decode_operations(torch.device("cuda"), build(kind)), "cuda")
    for ours, plain in zip(on_gpu, outcome(kind, decode), strict=True):
        assert torch.allclose(ours.cpu(), plain, atol=1e-4)
