"""The laws that every kind of attention obeys."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.attention.kinds import KINDS, attention_options, resolve_attention_conf
from mtla_espnet.cache.slot import finished_slots
from mtla_espnet.position import Positions, positions
from reference import attention as reference
from strategies import KINDS as DRAWN
from strategies import SIZE, build, kinds, lengths, seeds


def ragged(sizes, fill=0.0, seed=1):
    """A right-padded batch (B, T, d) whose padding holds `fill`, and its positions."""
    torch.manual_seed(seed)
    index = positions(torch.tensor(sizes), max(sizes))
    x = torch.randn(len(sizes), max(sizes), SIZE)
    return torch.where((index >= 0)[..., None], x, fill), Positions(index)


def count(size, batch=1, device=None):
    """Positions of full rows."""
    return Positions(torch.arange(size, device=device).expand(batch, size))


def step_by_step(module, x, prefix, beam=1):
    """Decode: the first `prefix` positions as prefix, the rest one at a time."""
    cache = module.new_cache(torch.tensor([prefix]))
    module.write_prefix(cache, 0, x[:, :prefix], count(prefix, device=x.device))
    cache.expand(beam)
    out = []
    for t in range(prefix, x.size(1)):
        cache.advance()
        out.append(module.step(x[:, t : t + 1].expand(beam, -1, -1), cache))
    return torch.cat(out, dim=1), cache


@given(kinds, st.integers(1, 9), seeds)
def test_forward_equals_loops_written_from_the_papers(kind, size, seed):
    module = build(kind, seed)
    x, position = ragged([size], seed=seed)
    with torch.no_grad():
        expected = reference.attention(kind[0], module, x[0])
        assert (module(x, x, position, position)[0] - expected).abs().max() < 1e-4


@given(kinds, lengths(), seeds)
def test_ragged_batch_equals_one_by_one_whatever_the_padding(kind, sizes, seed):
    module = build(kind, seed)
    for fill in (0.0, 1e3):
        x, position = ragged(sizes, fill, seed)
        with torch.no_grad():
            together = module(x, x, position, position)
            for b, size in enumerate(sizes):
                own, alone = x[b : b + 1, :size], count(size)
                expected = module(own, own, alone, alone)
                assert (together[b, :size] - expected[0]).abs().max() < 1e-5


@given(kinds, lengths(least=2), seeds)
def test_a_subset_of_queries_equals_all_of_them(kind, sizes, seed):
    """The mask path (queries at any positions) agrees with the causal path."""
    module = build(kind, seed)
    x, position = ragged(sizes, seed=seed)
    first = torch.tensor([size // 2 for size in sizes])
    count = max(size - size // 2 for size in sizes)
    index = first[:, None] + torch.arange(count)
    query_position = torch.where(index < torch.tensor(sizes)[:, None], index, -1)
    rows = torch.arange(len(sizes))[:, None]
    with torch.no_grad():
        whole = module(x, x, position, position)
        clamped = query_position.clamp_min(0)
        some = module(x[rows, clamped], x, Positions(query_position), position)
    held = query_position >= 0
    assert (some - whole[rows, clamped])[held].abs().max() < 1e-5


@given(kinds, st.integers(0, 7), st.integers(1, 7), st.sampled_from([1, 3]), seeds)
def test_step_by_step_equals_forward(kind, prefix, text, beam, seed):
    module = build(kind, seed)
    x, position = ragged([prefix + text], seed=seed)
    with torch.no_grad():
        whole = module(x, x, position, position)[:, prefix:]
        stepped, cache = step_by_step(module, x, prefix, beam)
    assert (stepped - whole).abs().max() < 1e-5
    if beam == 1:
        assert cache.nbytes == module.slot.bytes(prefix + text, torch.float32)


@given(kinds, lengths(most=7), st.integers(1, 3), seeds)
def test_shared_prefix_equals_copied_prefix(kind, sizes, beam, seed):
    """Beams over one prefix an utterance = each beam with a prefix of its own."""
    module = build(kind, seed)
    x, position = ragged(sizes, seed=seed)
    rows = len(sizes) * beam
    tokens = torch.randn(rows, 4, SIZE)
    copy = torch.arange(len(sizes)).repeat_interleave(beam)
    with torch.no_grad():
        shared = module.new_cache(torch.tensor(sizes))
        module.write_prefix(shared, 0, x, position)
        copied = module.new_cache(torch.tensor(sizes)[copy])
        module.write_prefix(copied, 0, x[copy], Positions(position.index[copy]))
        for cache in (shared, copied):
            cache.expand(rows)
        for t in range(4):
            outputs = []
            for cache in (shared, copied):
                cache.advance()
                outputs.append(module.step(tokens[:, t : t + 1], cache))
            assert (outputs[0] - outputs[1]).abs().max() < 1e-5
    assert shared.nbytes <= copied.nbytes


@given(kinds, lengths(most=5), seeds)
def test_reordered_hypotheses_go_on_as_their_parents(kind, sizes, seed):
    module = build(kind, seed)
    x, position = ragged(sizes, seed=seed)
    beam, batch = 3, len(sizes)
    generator = torch.Generator().manual_seed(seed)
    history = torch.randn(batch * beam, 0, SIZE)
    with torch.no_grad():
        cache = module.new_cache(torch.tensor(sizes))
        module.write_prefix(cache, 0, x, position)
        cache.expand(batch * beam, max_length=2)
        for _ in range(4):
            new = torch.randn(batch * beam, 1, SIZE, generator=generator)
            history = torch.cat((history, new), dim=1)
            cache.advance()
            output = module.step(new, cache)
            for n, size in enumerate(torch.tensor(sizes).repeat_interleave(beam).tolist()):
                b = n // beam
                joined = torch.cat((x[b : b + 1, :size], history[n : n + 1]), dim=1)
                p = count(joined.size(1))
                expected = module(joined, joined, p, p)[0, -1]
                assert (output[n, 0] - expected).abs().max() < 1e-5
            parents = torch.randint(beam, (batch, beam), generator=generator)
            parents = (parents + torch.arange(batch)[:, None] * beam).flatten()
            cache.reorder(parents)
            history = history[parents]


@given(kinds, st.sampled_from([torch.bfloat16, torch.float16]), st.integers(0, 9), seeds)
def test_low_precision_is_within_twice_plain_pytorch(kind, dtype, prefix, seed):
    """Against float32 of the same rounded weights; the peer is plain softmax attention."""
    module = build(kind, seed).to(dtype)
    exact = build(kind, seed).to(dtype).float()
    x, position = ragged([12], seed=seed)
    x = x.to(dtype)
    with torch.no_grad():
        truth = exact(x.float(), x.float(), position, position)
        full = module(x, x, position, position).float()
        stepped, _ = step_by_step(module, x, prefix)
        plain = plain_low_precision(kind, module, x, position)
    allowed = 2 * max((plain - truth).abs().max().item(), torch.finfo(dtype).eps)
    assert (full - truth).abs().max() <= allowed
    assert (stepped.float() - truth[:, prefix:]).abs().max() <= allowed


def plain_low_precision(kind, module, x, position):
    """Plain PyTorch in x's dtype: dense scores over the very entries of the module."""
    entry = module.entries(x, position)
    size, device = x.size(1), x.device
    rate = module.slot.down_rate
    if module.slot.window:
        entry = torch.cat((finished_slots(entry, rate, module.merge_window), entry), dim=1)
    key, value = module.key_value(entry)
    repeat = module.num_heads // key.size(2)
    key, value = (y.repeat_interleave(repeat, dim=2) for y in (key, value))
    query = module.turned(module.heads(x), position)
    position = torch.arange(size, device=device)
    chunk, last = position // rate, (position + 1) % rate == 0
    own = position[None] == position[:, None]
    mask = (chunk[None] < chunk[:, None]) & last[None] | own
    if module.slot.window:
        within = (chunk[None] == chunk[:, None]) & (position[None] <= position[:, None])
        mask = torch.cat((position[None, : size // rate] < chunk[:, None], within), dim=1)
    query, key, value = (y.transpose(1, 2) for y in (query, key, value))
    scores = (query @ key.mT) * query.size(-1) ** -0.5
    weights = scores.masked_fill(~mask, float("-inf")).softmax(-1)
    return module.wo((weights @ value).transpose(1, 2).flatten(2)).float()


@pytest.mark.parametrize("kind", DRAWN, ids=str)
def test_gradients_are_those_of_finite_differences(kind):
    module = build(kind).double()
    x = torch.randn(1, 5, SIZE, dtype=torch.float64, requires_grad=True)
    position = count(5)
    assert torch.autograd.gradcheck(lambda y: module(y, y, position, position), (x,))


@pytest.mark.parametrize("kind", DRAWN, ids=str)
def test_padding_never_reaches_a_gradient(kind):
    module = build(kind)
    sizes = [6, 3]
    grads = []
    for fill in (0.0, 100.0):
        x, position = ragged(sizes, fill)
        x.requires_grad_(True)
        module.zero_grad()
        output = module(x, x, position, position)
        (output * (position.index >= 0)[..., None]).square().sum().backward()
        assert x.grad[1, 3:].abs().max() == 0
        grads.append([p.grad for p in module.parameters() if p.grad is not None])
    for a, b in zip(*grads, strict=True):
        assert (a - b).abs().max() <= 1e-4 * (1 + a.abs().max())


@pytest.mark.parametrize("kind", DRAWN, ids=str)
def test_dropout_drops_in_training_alone(kind):
    name, options = kind
    module = build(kind)
    module.dropout = 0.5
    x, position = ragged([8])
    still = module(x, x, position, position)
    assert torch.equal(still, module(x, x, position, position))
    module.train()
    torch.manual_seed(0)
    outputs = torch.stack([module(x, x, position, position) for _ in range(400)])
    assert (outputs[0] - outputs[1]).abs().max() > 1e-3
    spread = outputs.std(0) / 20  # standard error of the mean
    assert ((outputs.mean(0) - still).abs() < 5 * spread + 1e-4).float().mean() > 0.99


# -- the table of kinds ---------------------------------------------------------
def test_cache_widths_are_those_of_the_paper():
    """At d 512, H 8 the sizes left unset are the paper's."""
    widths = {
        "mha": 2 * 512,
        "mqa": 2 * 64,
        "gqa": 2 * 2 * 64,
        "mla": 256 + 32,
        "mtla": 256 + 32,
    }
    from mtla_espnet.attention.kinds import attention_class

    for kind, width in widths.items():
        with torch.device("meta"):
            slot = attention_class(kind)(512, 8).slot
        assert (slot.width, slot.down_rate) == (width, 2 if kind == "mtla" else 1)


def test_options_of_each_kind():
    assert attention_options("mha") == {"bias": True}
    assert set(attention_options("mtla")) - set(attention_options("mla")) == {"down_rate", "merge"}
    assert list(KINDS)[:5] == ["mha", "mqa", "gqa", "mla", "mtla"]


def test_conf_keeps_the_own_options_and_ignores_those_of_others():
    assert resolve_attention_conf("mla", {"down_rate": 2, "q_lora_rank": 8}, 32, 4) == {
        "q_lora_rank": 8
    }
    assert resolve_attention_conf("mha", None, 32, 4) == {}


@pytest.mark.parametrize(
    "kind, conf, size, heads, message",
    [
        ("xyz", {}, 32, 4, "attention: 'xyz' is unknown; choose one of mha, mqa, gqa, mla, mtla"),
        ("mla", {"rate": 2}, 32, 4, "attention_conf: unknown option 'rate'; mla takes bias, kv_"),
        ("mha", {}, 32, 5, "5 heads do not divide the model size 32"),
        ("mla", {}, 32, 0, "must be at least 1, got 0"),
        ("mha", {}, 12, 4, "head size 3 = 12 / 4 is odd"),
        ("gqa", {"num_kv_heads": 3}, 32, 4, "num_kv_heads: 3 does not divide the 4 attention"),
        ("mtla", {"down_rate": 0}, 32, 4, "down_rate must be an integer of at least 1, got 0"),
        ("mtla", {"down_rate": 1.5}, 32, 4, "down_rate must be an integer of at least 1, got 1.5"),
        ("mtla", {"merge": "mean"}, 32, 4, "merge: 'mean' is unknown; choose sum or softmax"),
        ("mla", {"qk_rope_head_dim": 3}, 32, 4, "qk_rope_head_dim must be even, got 3"),
        ("mla", {"kv_lora_rank": True}, 32, 4, "kv_lora_rank must be an integer"),
    ],
)
def test_a_wrong_option_is_named_in_one_line(kind, conf, size, heads, message):
    with pytest.raises(ValueError) as error:
        resolve_attention_conf(kind, conf, size, heads)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ("mha", "mla", "mtla"))
def test_compile_takes_a_layer_as_one_graph(kind):
    torch._dynamo.reset()
    module = build((kind, {}))
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    position = count(9, 2)
    x = torch.randn(2, 9, SIZE, requires_grad=True)
    for where in (position, count(9, 2)):
        results = []
        for attention in (module, compiled):
            output = attention(x, x, where, position)
            (grad,) = torch.autograd.grad(output.square().sum(), x)
            results.append((output, grad))
        for ours, eager in zip(*results, strict=True):
            assert (ours - eager).abs().max() < 1e-5


# -- on a GPU ---------------------------------------------------------------------
@pytest.mark.gpu
@pytest.mark.parametrize("kind", DRAWN, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_cuda_is_within_twice_plain_pytorch(kind, dtype):
    """Forward, steps and all gradients against float32 of the same rounded weights."""
    exact = build(kind).to(dtype).float()
    module = build(kind).to(dtype).cuda()
    x, position = ragged([12])
    x = x.to(dtype)
    results = {}
    for name, attention, y in (("exact", exact, x.float()), ("cuda", module, x.cuda())):
        y = y.clone().requires_grad_(True)
        where = count(12, device=y.device)
        output = attention(y, y, where, where)
        output.sum().backward()
        results[name] = (output.detach().float().cpu(), y.grad.float().cpu())
    with torch.no_grad():
        plain = plain_low_precision(kind, module, x.cuda(), count(12, device="cuda")).cpu()
        steps, _ = step_by_step(module, x.cuda(), 5)
    truth, grad = results["exact"]
    allowed = 2 * max((plain - truth).abs().max().item(), 8 * torch.finfo(dtype).eps)
    assert (results["cuda"][0] - truth).abs().max() <= allowed
    assert (steps.float().cpu() - truth[:, 5:]).abs().max() <= allowed
    scale = grad.abs().max().item()
    assert (results["cuda"][1] - grad).abs().max() <= scale * 60 * torch.finfo(dtype).eps + 1e-5


@pytest.mark.gpu
@pytest.mark.parametrize("kind", DRAWN, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_compiled_on_cuda_equals_eager(kind, dtype):
    torch._dynamo.reset()  # else what other tests compiled counts as well
    module = build(kind).to(dtype).cuda()
    compiled = torch.compile(module, fullgraph=True)
    position = count(40, 2, "cuda")
    x = torch.randn(2, 40, SIZE, device="cuda", dtype=dtype, requires_grad=True)
    results = []
    for attention in (module, compiled):
        output = attention(x, x, position, position)
        (grad,) = torch.autograd.grad(output.float().square().sum(), x)
        results.append((output.float(), grad.float()))
    for ours, eager in zip(*results, strict=True):
        allowed = 40 * torch.finfo(dtype).eps * max(1.0, eager.abs().max().item())
        assert (ours - eager).abs().max() <= allowed
