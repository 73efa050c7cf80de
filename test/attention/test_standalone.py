import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mtla_espnet
from mtla_espnet import (
    GroupedLatentAttention,
    GroupedQueryAttention,
    MultiheadAttention,
    MultiheadLatentAttention,
    MultiheadTemporalLatentAttention,
    MultiQueryAttention,
)

CLASSES = [
    MultiheadAttention,
    MultiQueryAttention,
    GroupedQueryAttention,
    MultiheadLatentAttention,
    MultiheadTemporalLatentAttention,
]


EVERY_KIND = [
    *((cls, {}) for cls in [*CLASSES, GroupedLatentAttention]),
    *((MultiheadTemporalLatentAttention, {"down_rate": rate}) for rate in (1, 3, 4)),
    (MultiheadTemporalLatentAttention, {"q_lora_rank": 12, "bias": True}),
]


def small(cls, **options):
    torch.manual_seed(0)
    if cls in [*CLASSES[3:], GroupedLatentAttention]:
        options = {
            "kv_lora_rank": 16,
            "qk_nope_head_dim": 8,
            "qk_rope_head_dim": 4,
            "v_head_dim": 8,
        } | options
    return cls(32, 4, **options).eval()


@pytest.mark.parametrize("cls", CLASSES)
def test_the_call_of_the_paper(cls):
    x = torch.randn(2, 64, 512)
    position = torch.arange(0, 64).float().view(1, -1)
    model = cls(embed_dim=512, num_heads=8)
    assert model(query=x, key=x, value=x, position=position).shape == x.shape


def test_defaults_are_the_papers():
    model = MultiheadTemporalLatentAttention(embed_dim=512, num_heads=8)
    sizes = model.kv_lora_rank, model.qk_nope_head_dim, model.qk_rope_head_dim, model.v_head_dim
    assert sizes == (256, 64, 32, 64)
    assert (model.down_rate, model.dropout, model.q_lora_rank) == (2, 0.0, 0)
    assert model.wq.bias is None


@pytest.mark.parametrize("rate", [1, 2, 3, 4])
@pytest.mark.parametrize("options", [{}, {"q_lora_rank": 48}, {"bias": True}], ids=str)
def test_state_of_the_pypi_package_loads_and_gives_its_output(rate, options):
    peer_class = pytest.importorskip("mtla", reason="the peer `mtla` is not installed")
    torch.manual_seed(rate)
    arguments = {"embed_dim": 512, "num_heads": 8, "down_rate": rate, **options}
    peer = peer_class.MultiheadTemporalLatentAttention(**arguments).eval()
    own = MultiheadTemporalLatentAttention(**arguments).eval()
    own.load_state_dict(peer.state_dict(), strict=True)
    x = torch.randn(2, 200, 512)
    position = torch.arange(200).float().view(1, -1)
    with torch.no_grad():
        expected = peer(x, x, x, position=position)
        assert (own(x, x, x, position=position) - expected).abs().max() < 1e-4
        some = peer(x[:, -9:], x, x, position=position)
        assert (own(x[:, -9:], x, x, position=position) - some).abs().max() < 1e-4
        if rate == 1:  # the peer sums all positions in one slot there
            return
        cache, state = own.init_cache(2, 200), {}
        for t in range(200):
            now = x[:, t : t + 1]
            theirs = peer(now, now, now, position=position[:, t : t + 1], incremental_state=state)
            assert (own(now, now, now, cache=cache) - theirs).abs().max() < 1e-4


@given(
    st.sampled_from(CLASSES),
    st.lists(st.integers(1, 8), min_size=1, max_size=3),
    st.booleans(),
    st.integers(1, 8),
)
def test_padding_on_either_side_changes_nothing(cls, sizes, left, queries):
    model = small(cls)
    width = max(sizes)
    queries = min(queries, width)
    x = torch.randn(len(sizes), width, 32)
    padding = torch.arange(width) >= torch.tensor(sizes)[:, None]
    padding = padding.flip(1) if left else padding
    x = torch.where(padding[..., None], 1e4, x)
    with torch.no_grad():
        query = x if queries == width else x[:, -queries:]
        output = model(query, x, x, key_padding_mask=padding)
        for b in range(len(sizes)):
            own = x[b : b + 1][:, ~padding[b]]
            alone = model(own, own, own)
            held = ~padding[b, -queries:]
            count = int(held.sum())
            if not count:
                continue
            last = alone[0, -count:] if left else alone[0, width - queries :]
            assert (output[b][held] - last).abs().max() < 1e-4
            assert (output[b][~held] == 0).all()


@pytest.mark.parametrize("cls", CLASSES)
def test_stepping_equals_all_at_once(cls):
    model = small(cls)
    x = torch.randn(3, 7, 32)
    cache = model.init_cache(3, 7)
    with torch.no_grad():
        whole = model(x, x, x)
        for t in range(7):
            now = x[:, t : t + 1]
            assert (model(now, now, now, cache=cache) - whole[:, t : t + 1]).abs().max() < 1e-5


SPLITS = st.lists(st.integers(1, 7), min_size=1, max_size=5)


@given(st.sampled_from(EVERY_KIND), SPLITS, st.booleans(), st.integers(0, 2**31 - 1))
def test_positions_reach_the_cache_in_any_split(kind, split, shifted, seed):
    cls, options = kind
    model = small(cls, **options)
    torch.manual_seed(seed)
    total = sum(split)
    x = torch.randn(2, total, 32)
    position = torch.arange(total)[None] * 1.5 + 3 if shifted else None
    whole = model(x, x, x, position=position)
    caches = model.init_cache(2, 1), model.init_cache(2, total)
    begin = 0
    for count in split:
        new = x[:, begin : begin + count]
        numbers = None if position is None else position[:, begin : begin + count]
        output = model(new, new, new, position=numbers, cache=caches[0])
        for t in range(count):
            now, number = new[:, t : t + 1], None if numbers is None else numbers[:, t : t + 1]
            step = model(now, now, now, position=number, cache=caches[1])
            assert (output[:, t : t + 1] - step).abs().max() < 1e-5
        begin += count
        assert (output - whole[:, begin - count : begin]).abs().max() < 1e-4
        assert caches[0].nbytes == caches[1].nbytes
    assert not output.requires_grad


@pytest.mark.parametrize("kind", EVERY_KIND, ids=str)
def test_layers_with_a_cache_each_follow_their_hypotheses(kind):
    cls, options = kind
    layers = [small(cls, **options) for _ in range(2)]
    caches = [layer.init_cache(2, 16) for layer in layers]

    def decode(x, caches=None):
        for layer, cache in zip(layers, caches or [None, None], strict=True):
            x = x + layer(x, x, x, cache=cache)
        return x

    torch.manual_seed(1)
    prompt, told = torch.randn(2, 5, 32), [torch.randn(6, 1, 32) for _ in range(4)]
    parents = torch.tensor([2, 0, 1, 5, 5, 3])
    with torch.no_grad():
        decode(prompt, caches)
        for cache in caches:
            cache.reorder(torch.arange(2).repeat_interleave(3))  # three hypotheses each
        history = prompt.repeat_interleave(3, dim=0)
        for new in told:
            output = decode(new, caches)
            history = torch.cat((history, new), dim=1)
            assert (output - decode(history)[:, -1:]).abs().max() < 1e-4
            for cache in caches:
                cache.reorder(parents)
            history = history[parents]


@pytest.mark.parametrize("kind", EVERY_KIND, ids=str)
def test_the_second_example_of_the_paper_equals_stepping_with_a_cache(kind):
    cls, options = kind
    model = small(cls, **options)
    batch, length = 2, 16
    x = torch.randn(batch, length, 32)
    pos = torch.arange(0, length, dtype=torch.float32).view(1, -1)
    incremental_state = {}
    outputs = []
    for t in range(length):
        out = model(
            query=x[:, t : t + 1],
            key=x[:, t : t + 1],
            value=x[:, t : t + 1],
            position=pos[:, t : t + 1],
            incremental_state=incremental_state,
            use_flashattn_infer=True,
        )
        outputs.append(out)
    cache = model.init_cache(batch, length)
    steps = [model(*3 * [x[:, t : t + 1]], cache=cache) for t in range(length)]
    assert torch.equal(torch.cat(outputs, dim=1), torch.cat(steps, dim=1))
    (kept,) = incremental_state.values()
    assert kept.nbytes == cache.nbytes


@pytest.mark.parametrize("rate", [2, 3])
@pytest.mark.parametrize("recompute", [True, False])
def test_a_prompt_and_reordered_rows_equal_the_pypi_package(rate, recompute):
    """Its state is a dict too. A first step of one query alone is causal there."""
    peer_class = pytest.importorskip("mtla", reason="the peer `mtla` is not installed")
    torch.manual_seed(0)
    options = {"kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8}
    options |= {"down_rate": rate, "recompute_prompt_attn": recompute}
    layers = []
    for _ in range(2):
        peer = peer_class.MultiheadTemporalLatentAttention(32, 4, **options).eval()
        own = MultiheadTemporalLatentAttention(32, 4, **options).eval()
        own.load_state_dict(peer.state_dict(), strict=True)
        layers.append((own, peer))
    x, pos = torch.randn(3, 5, 32), torch.arange(12).float().view(1, -1)
    states = {}, {}
    queries = x if recompute else x[:, -1:]
    orders = ([2, 0, 0], [1, 1], [0, 1, 0, 1, 1])  # rows are dropped, repeated and crossed
    with torch.no_grad():
        for pair in layers:
            y = [
                layer(queries, x, x, position=pos[:, :5], incremental_state=state)
                for layer, state in zip(pair, states, strict=True)
            ]
            assert (y[0] - y[1]).abs().max() < 1e-5
        for t, order in enumerate(orders, 5):
            new = torch.randn(len(order), 1, 32)
            for pair in layers:
                for layer, state in zip(pair, states, strict=True):
                    layer.reorder_incremental_state(state, torch.tensor(order))
                now = pos[:, t : t + 1]
                y = [
                    layer(new, new, new, position=now.expand(len(order), 1), incremental_state=s)
                    for layer, s in zip(pair, states, strict=True)
                ]
                assert (y[0] - y[1]).abs().max() < 1e-5
    assert layers[0][0].reorder_incremental_state({}, torch.tensor([0])) == {}


@given(st.sampled_from(EVERY_KIND), st.integers(1, 9), st.integers(1, 9), st.booleans())
def test_the_queries_of_a_prompt_may_be_its_last_positions(kind, size, queries, shifted):
    cls, options = kind
    model = small(cls, **options)
    x = torch.randn(2, size + 1, 32)
    position = torch.arange(size + 1)[None] * 2.0 if shifted else None
    whole = model(x, x, x, position=position)
    prompt, queries = x[:, :size], min(queries, size)
    cache = model.init_cache(2, 1)
    begin = None if position is None else position[:, :size]
    output = model(prompt[:, -queries:], prompt, prompt, position=begin, cache=cache)
    assert (output - whole[:, size - queries : size]).abs().max() < 1e-4
    last = None if position is None else position[:, size:]
    assert (model(*3 * [x[:, size:]], position=last, cache=cache) - whole[:, size:]).abs().max() < (
        1e-4
    )


@pytest.mark.parametrize("cls", CLASSES)
def test_a_mask_that_is_causal_is_taken(cls):
    model = small(cls)
    x = torch.randn(2, 6, 32)
    expected = model(x, x, x)
    added = torch.nn.Transformer.generate_square_subsequent_mask(6)
    for mask in (added, added < 0, added.clamp_min(torch.finfo(torch.float16).min)):
        assert torch.equal(model(x, x, x, attn_mask=mask, is_causal=True), expected)
        assert (model(x[:, 4:], x, x, self_attn_mask=mask[4:]) - expected[:, 4:]).abs().max() < 1e-5
    cache = model.init_cache(2, 6)
    model(x[:, :5], x[:, :5], x[:, :5], cache=cache)
    model(*3 * [x[:, 5:]], attn_mask=added[5:], cache=cache)


class Adapted(torch.nn.Linear):
    """A linear layer with a low-rank adapter beside it, as LoRA's libraries make them."""

    merged = False

    def forward(self, x):
        return super().forward(x) + x.mean(-1, keepdim=True)


@pytest.mark.parametrize("cls", CLASSES)
def test_an_adapter_works_or_is_refused(cls):
    x = torch.randn(1, 3, 32)
    plain = small(cls)
    for name, layer in list(plain.named_children()):
        if not isinstance(layer, torch.nn.Linear):
            continue
        model = small(cls)
        adapted = Adapted(layer.in_features, layer.out_features, bias=layer.bias is not None)
        adapted.load_state_dict(layer.state_dict())
        setattr(model, name, adapted)
        if name == "wkv_b":
            with pytest.raises(ValueError, match="Adapted computes more .* merge the adapter into"):
                model(x, x, x)
            with pytest.raises(ValueError, match="merge the adapter"):
                model(x[:, :1], x[:, :1], x[:, :1], cache=model.init_cache(1, 3))
            adapted.merged = True
            assert model(x, x, x).shape == x.shape
            continue
        output = model(x, x, x)
        assert (output - plain(x, x, x)).abs().max() > 1e-3
        assert (model(x, x, x, cache=model.init_cache(1, 3)) - output).abs().max() < 1e-5
        cache = model.init_cache(1, 3)
        steps = [model(*3 * [x[:, t : t + 1]], cache=cache) for t in range(3)]
        assert (torch.cat(steps, dim=1) - output).abs().max() < 1e-5


@pytest.mark.parametrize("cls", CLASSES)
def test_only_distances_of_rotary_positions_count(cls):
    """Chunks follow the count of keys, as in the paper's code; angles follow `position`."""
    model = small(cls)
    x = torch.randn(1, 6, 32)
    with torch.no_grad():
        shifted = model(x, x, x, position=torch.arange(6).view(1, -1) + 100.0)
        assert (shifted - model(x, x, x)).abs().max() < 1e-4


@pytest.mark.parametrize("cls", CLASSES)
def test_autocast_and_compile(cls):
    model = small(cls)
    x = torch.randn(2, 9, 32)
    with torch.no_grad():
        expected = model(x, x, x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert (model(x, x, x) - expected).abs().max() < 0.05
    compiled = torch.compile(model, backend="aot_eager")
    x.requires_grad_(True)
    model.train()
    (expected,) = torch.autograd.grad(model(x, x, x).square().sum(), x)
    (ours,) = torch.autograd.grad(compiled(x, x, x).square().sum(), x)
    assert (ours - expected).abs().max() < 1e-4


def test_misuse_gets_one_clear_line():
    model = small(MultiheadTemporalLatentAttention)
    x = torch.randn(2, 5, 32)
    with pytest.raises(ValueError, match="value must be equal to key: this is self-attention"):
        model(x, x, x + 1)
    with pytest.raises(ValueError, match="value must be equal to key"):
        model(x, x, x[:, :4])
    with pytest.raises(ValueError, match="6 queries, but only 5 keys"):
        model(torch.randn(2, 6, 32), x, x)
    with pytest.raises(ValueError, match=r"key_padding_mask must be bool of shape \(2, 5\)"):
        model(x, x, x, key_padding_mask=torch.zeros(2, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"the new positions of 3 rows, got \(2, 5\) and \(2, 5\)"):
        model(x, x, x, cache=model.init_cache(3, 5))
    cache = model.init_cache(2, 5)
    model(x, x, x, cache=cache)
    with pytest.raises(ValueError, match=r"got \(2, 1\) and \(2, 5\)"):
        model(x[:, -1:], x, x, cache=cache)
    with pytest.raises(ValueError, match=r"query must be .batch, positions, 32., got \(5, 32\)"):
        model(x[0], x[0], x[0])
    with pytest.raises(ValueError, match=r"key must be .*, 32., got \(2, 5, 16\)"):
        model(x, x[..., :16], x[..., :16])
    with pytest.raises(ValueError, match="cache and incremental_state: give one of them"):
        model(x, x, x, cache=cache, incremental_state={})


@pytest.mark.parametrize("cls", CLASSES)
def test_what_means_the_same_in_pytorchs_own_attention_is_taken(cls):
    x = torch.randn(2, 5, 32, dtype=torch.float64)
    model = small(cls, batch_first=True, kdim=32, vdim=None, device="cpu", dtype=torch.float64)
    assert {weight.dtype for weight in model.parameters()} == {torch.float64}
    plain = small(cls).double()
    plain.load_state_dict(model.state_dict())
    given = {"is_causal": True, "need_weights": False, "attn_mask": None}
    assert torch.equal(model(x, x, x.clone(), **given), plain(x, x, x))
    assert small(cls, device="meta").wo.weight.is_meta


@pytest.mark.parametrize(
    ("made", "call", "message"),
    [
        ({"batch_first": False}, {}, "batch_first=False: inputs are .batch, positions, size."),
        ({"add_bias_kv": True}, {}, "add_bias_kv=True: keys have no bias of their own"),
        ({"kdim": 16}, {}, "kdim=16: keys have the size of the model"),
        ({}, {"is_causal": False}, "is_causal=False: this attention is causal always"),
        ({}, {"need_weights": True}, "need_weights=True: the weights are not kept"),
        ({}, {"attn_mask": torch.ones(5, 5)}, "attn_mask=a tensor: only the causal mask has a"),
        (
            {},
            {"attn_mask": torch.zeros(5, 5)},
            "attn_mask=a tensor: .* tell padding by key_padding",
        ),
        ({}, {"self_attn_mask": torch.ones(5, 5).tril().bool()}, "self_attn_mask=a tensor: only"),
        ({}, {"average_attn_weights": True}, "average_attn_weights=True: the weights are not"),
    ],
)
@pytest.mark.parametrize("cls", CLASSES)
def test_what_means_something_else_there_is_refused(cls, made, call, message):
    x = torch.randn(1, 5, 32)
    with pytest.raises(ValueError, match=message):
        small(cls, **made)(x, x, x, **call)


def test_arguments_that_nobody_has_are_type_errors():
    x = torch.randn(1, 5, 32)
    with pytest.raises(TypeError, match="'mask'"):
        small(MultiheadAttention)(x, x, x, mask=None)
    with pytest.raises(TypeError, match="'heads'"):
        small(MultiheadAttention, heads=3)


@pytest.mark.parametrize("cls", CLASSES[3:])
def test_latents_that_save_nothing_are_warned_of(cls):
    with pytest.warns(UserWarning, match=r"256 \+ 32 numbers, .* embed_dim=64 have 128") as caught:
        cls(64, 4)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cls(512, 8)
        cls(64, 4, kv_lora_rank=32, qk_rope_head_dim=4)


def test_public_names_are_lazy():
    import subprocess
    import sys

    code = (
        "import sys, mtla_espnet; assert 'torch' not in sys.modules;"
        "mtla_espnet.MultiheadAttention; assert 'torch' in sys.modules;"
        "assert not any(m.startswith('espnet') for m in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        mtla_espnet.Nothing  # noqa: B018
