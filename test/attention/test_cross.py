import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet import MultiheadTemporalLatentCrossAttention

SIZES = {"kv_lora_rank": 16, "qk_nope_head_dim": 8, "v_head_dim": 6}
options = st.builds(
    lambda rate, rank, bias: {"down_rate": rate, "q_lora_rank": rank, "bias": bias},
    st.integers(1, 4),
    st.sampled_from([0, 12]),
    st.booleans(),
)
key_sizes = st.lists(st.integers(1, 9), min_size=1, max_size=3)


def build(seed=0, **others):
    torch.manual_seed(seed)
    model = MultiheadTemporalLatentCrossAttention(32, 4, **SIZES, **others).double().eval()
    for parameter in model.parameters():  # LayerNorms and biases of 1 and 0 hide mistakes
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def loop(model, query, key):
    """One utterance, (L, d) and (T, d), a position, head and chunk at a time."""
    rank, rate = model.kv_lora_rank, model.down_rate
    merged = []
    for t, z in enumerate(key):
        latent = model.kv_norm(model.wkv_a(z))
        code = torch.zeros(rank, dtype=key.dtype)
        for k in range(rank // 2):
            angle = (t // rate) * 10000 ** (-2 * k / rank)
            code[2 * k], code[2 * k + 1] = math.sin(angle), math.cos(angle)
        net = model.hypernet_down
        weighted = torch.sigmoid(net.fc_c(code) @ net.fc_p(latent)) * latent
        if t % rate:
            merged[-1] = merged[-1] + weighted
        else:
            merged.append(weighted)
    outputs = []
    for x in query:
        q = model.wq_b(model.q_norm(model.wq_a(x))) if model.q_lora_rank else model.wq(x)
        heads = []
        for head in range(model.num_heads):
            weight = model.wkv_b.weight.view(model.num_heads, -1, rank)[head]
            to_key, to_value = weight[:8], weight[8:]
            own = q[8 * head : 8 * head + 8]
            scores = torch.stack([own @ (to_key @ m) / math.sqrt(8) for m in merged])
            weights = scores.softmax(dim=0)
            heads.append(sum(w * (to_value @ m) for w, m in zip(weights, merged, strict=True)))
        outputs.append(model.wo(torch.cat(heads)))
    return torch.stack(outputs)


def padded(sizes, left, seed):
    torch.manual_seed(seed)
    width = max(sizes)
    padding = torch.arange(width) >= torch.tensor(sizes)[:, None]
    padding = padding.flip(1) if left else padding
    key = torch.randn(len(sizes), width, 32, dtype=torch.float64)
    return torch.where(padding[..., None], 1e4, key), padding


@given(options, key_sizes, st.integers(1, 4), st.booleans(), st.integers(0, 2**31 - 1))
def test_equals_a_loop_with_padding_on_either_side(chosen, sizes, queries, left, seed):
    model = build(seed, **chosen)
    key, padding = padded(sizes, left, seed)
    query = torch.randn(len(sizes), queries, 32, dtype=torch.float64)
    output = model(query, key, key, padding)
    for b in range(len(sizes)):
        own = key[b][~padding[b]]
        assert (output[b] - loop(model, query[b], own)).abs().max() < 1e-5


@given(options, key_sizes, st.booleans(), st.integers(0, 2**31 - 1))
def test_a_cache_serves_steps_of_reordered_hypotheses(chosen, sizes, left, seed):
    model = build(seed, **chosen)
    key, padding = padded(sizes, left, seed)
    cache, state = model.init_cache(key, padding), {}
    chunks = sum(-(-size // model.down_rate) for size in sizes)
    assert cache.nbytes == chunks * 16 * 8
    rows = torch.arange(len(sizes))
    for t, width in enumerate((1, 3, 2)):
        query = torch.randn(len(rows), 1 + t, 32, dtype=torch.float64)
        expected = model(query, key[rows], key[rows], padding[rows])
        assert (model(query, cache=cache) - expected).abs().max() < 1e-9
        given_key = (key, key, padding) if t == 0 else ()
        output = model(query, *given_key, incremental_state=state, static_kv=True)
        assert (output - expected).abs().max() < 1e-9
        order = torch.arange(len(rows)).repeat_interleave(width).flip(0)
        cache.reorder(order)
        assert model.reorder_incremental_state(state, order) is state
        rows = rows[order]


def test_gradients_are_those_of_the_loop_and_reach_no_padding():
    model = build(down_rate=2, q_lora_rank=12)
    key, padding = padded([5, 3], left=True, seed=1)
    query = torch.randn(2, 3, 32, dtype=torch.float64)
    inputs = [query.requires_grad_(), key.requires_grad_()]
    parameters = [p for name, p in model.named_parameters() if name != "wkv_b.bias"]
    model(query, key, key, padding).square().sum().backward()
    ours = [x.grad.clone() for x in (*inputs, *parameters)]
    for x in (*inputs, *parameters):
        x.grad = None
    total = sum(loop(model, query[b], key[b][~padding[b]]).square().sum() for b in range(2))
    total.backward()
    for mine, x in zip(ours, (*inputs, *parameters), strict=True):
        assert (mine - x.grad).abs().max() < 1e-4 * (1 + x.grad.abs().max())
    assert (ours[1][padding] == 0).all()


@pytest.mark.parametrize("rate", [1, 2, 4])
def test_state_of_the_papers_variant_loads_and_gives_its_output(rate):
    variant = pytest.importorskip("assets.variant", reason="the peer `mtla` is not installed")
    peer_class = variant.MultiheadTemporalLatentCrossAttention
    torch.manual_seed(rate)
    arguments = {"embed_dim": 512, "num_heads": 8, "down_rate": rate, "cross_att": True}
    peer = peer_class(**arguments).eval()
    own = MultiheadTemporalLatentCrossAttention(**arguments).eval()
    own.load_state_dict(peer.state_dict(), strict=True)
    query, key = torch.randn(2, 7, 512), torch.randn(2, 24, 512)
    with torch.no_grad():
        assert (own(query, key, key) - peer(query, key, key)).abs().max() < 1e-4


def test_a_row_of_padding_alone_is_zeros_and_has_gradients():
    model = build()
    key = torch.randn(2, 4, 32, dtype=torch.float64, requires_grad=True)
    padding = torch.tensor([[False] * 4, [True] * 4])
    output = model(key[:, :2], key, key, padding)
    assert (output[1] == 0).all() and output[0].abs().max() > 0
    output.sum().backward()
    assert key.grad.isfinite().all()


def test_autocast_dropout_and_another_size_of_keys():
    torch.manual_seed(0)
    model = MultiheadTemporalLatentCrossAttention(32, 4, 0.5, **SIZES, kdim=20, batch_first=True)
    query, key = torch.randn(2, 3, 32), torch.randn(2, 5, 20)
    assert (model(query, key, key) - model(query, key, key)).abs().max() > 1e-3
    model.eval()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert (model(query, key, key) - model.float()(query, key, key)).abs().max() < 0.05


@pytest.mark.parametrize(
    ("made", "call", "message"),
    [
        ({"cross_att": False}, {}, "cross_att=False: for self-attention take MultiheadTemporal"),
        ({"qk_rope_head_dim": 32}, {}, "qk_rope_head_dim=32: this attention has none"),
        ({"down_rate": 0}, {}, "down_rate must be an integer of at least 1"),
        ({}, {"is_causal": True}, "is_causal=True: every query sees every chunk"),
        ({}, {"attn_mask": torch.ones(2, 4)}, "attn_mask=a tensor: .* tell padding by key_padding"),
        ({}, {"need_weights": True}, "need_weights=True: the weights are not kept"),
        ({}, {"key": None, "value": None}, "key is missing: give key, or the cache of init_cache"),
        ({}, {"value": torch.zeros(1, 4, 32)}, "value must be equal to key"),
        ({}, {"key_padding_mask": torch.zeros(1, 3).bool()}, r"must be bool of shape \(1, 4\)"),
        ({}, {"query": torch.zeros(2, 3, 32)}, r"1 rows of keys, but query is \(2, 3, 32\)"),
    ],
)
def test_misuse_gets_one_clear_line(made, call, message):
    key = torch.randn(1, 4, 32)
    arguments = {"query": torch.randn(1, 2, 32), "key": key, "value": key} | call
    with pytest.raises(ValueError, match=message):
        MultiheadTemporalLatentCrossAttention(32, 4, **SIZES, **made)(**arguments)


def test_a_cache_and_a_key_are_one_too_many():
    model = build()
    key = torch.randn(1, 4, 32, dtype=torch.float64)
    cache = model.init_cache(key)
    with pytest.raises(ValueError, match="the cache holds a key: leave key and value out"):
        model(key, key, key, cache=cache)
    with pytest.raises(ValueError, match="cache and incremental_state: give one of them"):
        model(key, cache=cache, incremental_state={})
    with pytest.raises(ValueError, match="key has no positions"):
        model.init_cache(key[:, :0])
