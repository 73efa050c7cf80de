import pytest
import torch

from interpreted import run_interpreted
from mtla_espnet.attention.graph_step import GraphStep, new_cache
from mtla_espnet.attention.mha import GroupedQuery
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
    for name in ("store", "prefix_key", "prefix_value"):
        whole = getattr(cache, name)
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
    operations.advance(cache)
    if isinstance(attention, GroupedQuery):
        size, groups = attention.head_dim, attention.num_kv_heads
        query, key, value = (draw(rows, heads, size) for heads in (HEADS, groups, groups))
        operations.write_heads(query, key, value, cache, 0)
        output, lse = operations.attend_prefix(query, cache, 0, scale)
        found = [output.clone(), lse]
        operations.attend_suffix_heads(query, output, lse, cache, 0, scale)
    else:
        query = draw(rows, HEADS, attention.qk_head_dim)
        joint = draw(rows, cache.spec.width)
        merge = GraphStep(attention, 0, cache)._merge
        operations.write_latent(joint, query, attention.kv_norm, merge, cache, 0)
        output, lse = operations.attend_prefix(query, cache, 0, scale)
        absorbed = draw(HEADS, rows, attention.kv_lora_rank)
        found = [output.clone(), lse]
        found.append(operations.attend_suffix_latent(absorbed, query, output, lse, cache, 0, scale))
    x, added = draw(rows, 32), draw(rows, 32)
    found.append(operations.add_norm(x, added, torch.nn.LayerNorm(32, device=device)))
    return [*found, output, query, x, cache.store, cache.ancestor[STEP % 2].float()]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_prefix_and_suffix_are_one_softmax(kind):
    """Against loops over each row's own slots."""
    attention = build(kind)
    cache = filled(attention)
    decode.advance(cache)
    generator = torch.Generator().manual_seed(3)
    if not isinstance(attention, GroupedQuery):
        return latent_softmax(attention, cache, generator)
    size, shared = attention.head_dim, HEADS // attention.num_kv_heads
    query = torch.randn(cache.rows, HEADS, size, generator=generator)
    output, lse = decode.attend_prefix(query, cache, 0, 0.3)
    decode.attend_suffix_heads(query, output, lse, cache, 0, 0.3)
    for n in range(cache.rows):
        b = n // BEAMS
        slots = [cache.store[0, j, row(cache, n, j)] for j in range(STEP + 1)]
        suffix = torch.stack(slots).unflatten(-1, (2, -1, size))
        keys = torch.cat((cache.prefix_key[0, b, : PREFIXES[b]], suffix[:, 0]))
        values = torch.cat((cache.prefix_value[0, b, : PREFIXES[b]], suffix[:, 1]))
        for h in range(HEADS):
            weight = (keys[:, h // shared] @ query[n, h] * 0.3).softmax(0)
            assert torch.allclose(weight @ values[:, h // shared], output[n, h], atol=1e-5)


def row(cache, n, j):
    """Where hypothesis n finds its slot j: its own row for the newest one."""
    return n if j == STEP else int(cache.ancestor[STEP % 2, n, j])


def latent_softmax(attention, cache, generator):
    rate, rank = cache.spec.down_rate, attention.kv_lora_rank
    query = torch.randn(cache.rows, HEADS, attention.qk_head_dim, generator=generator)
    absorbed = torch.randn(HEADS, cache.rows, rank, generator=generator)
    output, lse = decode.attend_prefix(query, cache, 0, 0.3)
    latent = decode.attend_suffix_latent(absorbed, query, output, lse, cache, 0, 0.3)
    for n in range(cache.rows):
        b = n // BEAMS
        offset = PREFIXES[b] % rate + STEP
        newest = offset // rate
        own = newest if offset % rate == rate - 1 else cache.capacity + STEP % 2
        slots = [cache.store[0, j, cache.ancestor[STEP % 2, n, j]] for j in range(newest)]
        slots = torch.stack([*slots, cache.store[0, own, n]])
        prefix = slice(PREFIXES[b] // rate)
        for h in range(HEADS):
            rope = query[n, h, attention.qk_nope_head_dim :]
            suffix = slots @ torch.cat((absorbed[h, n], rope)) * 0.3
            scores = cache.prefix_key[0, b, prefix, h] @ query[n, h] * 0.3
            shared, own_weight = (
                torch.cat((scores, suffix)).softmax(0).split((len(scores), len(suffix)))
            )
            expected = shared @ cache.prefix_value[0, b, prefix, h]
            assert torch.allclose(expected, output[n, h], atol=1e-5)
            assert torch.allclose(own_weight @ slots[:, :rank], latent[h, n], atol=1e-5)


def test_interpreted_kernels_equal_their_plain_forms():
    run_interpreted("import interpreted_decode; interpreted_decode.main()", lines=3)


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
    on_gpu = outcome(kind, choose.decode_operations(torch.device("cuda")), "cuda")
    for ours, plain in zip(on_gpu, outcome(kind, decode), strict=True):
        assert torch.allclose(ours.cpu(), plain, atol=1e-4)
