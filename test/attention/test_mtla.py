import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.attention.mla import Latent
from mtla_espnet.attention.mtla import TemporalLatent, merge_chunks
from mtla_espnet.attention.ops import sdpa
from mtla_espnet.position import Positions, positions
from strategies import HEADS, SIZE, build, lengths, seeds


@given(lengths(), st.integers(1, 5), seeds)
def test_merge_is_a_loop_over_members(sizes, rate, seed):
    torch.manual_seed(seed)
    position = positions(torch.tensor(sizes), max(sizes))
    latent = torch.randn(*position.shape, 3)
    weight = torch.rand(position.shape)
    merged = merge_chunks(latent, weight, position, rate)
    for b, size in enumerate(sizes):
        for i in range(size):
            members = range(i // rate * rate, i + 1)
            expected = sum(weight[b, m] * latent[b, m] for m in members)
            assert (merged[b, i] - expected).abs().max() < 1e-6
        assert (merged[b, size:] == 0).all()


def test_merge_is_exact_far_into_a_long_input():
    """A difference of global sums would lose all digits here; a sum in the chunk does not."""
    latent = torch.full((1, 100_000, 1), 3.0)
    latent[0, -2:] = torch.tensor([[1e-3], [2e-3]])
    merged = merge_chunks(latent, torch.ones(1, 100_000), torch.arange(100_000)[None], 2)
    assert merged[0, -1].item() == pytest.approx(3e-3, rel=1e-6)


def test_merge_makes_nothing_of_size_t_by_t():
    """65,536 positions: a T x T tensor would take 16 GiB."""
    x = torch.ones(1, 65_536, 1)
    assert merge_chunks(x, x[..., 0], torch.arange(65_536)[None], 4)[0, -1].item() == 4.0


def test_a_down_rate_below_one_is_refused():
    with pytest.raises(ValueError, match="down_rate must be an integer of at least 1, got 0"):
        merge_chunks(torch.ones(1, 1, 1), torch.ones(1, 1), torch.zeros(1, 1).long(), 0)


@given(lengths(), seeds)
def test_chunks_of_one_with_weight_one_are_mla(sizes, seed):
    mtla = build(("mtla", {"down_rate": 1}), seed)
    # sigmoid(fc_c . fc_p) = sigmoid(r / 4 * 100) = 1 in float32
    for layer in (mtla.hypernet_down.fc_c, mtla.hypernet_down.fc_p):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.constant_(layer.bias, 10.0)
    mla = Latent(SIZE, HEADS).eval()
    mla.load_state_dict(
        {k: v for k, v in mtla.state_dict().items() if not k.startswith("hypernet_down")}
    )
    position = positions(torch.tensor(sizes), max(sizes))
    x = torch.randn(*position.shape, SIZE)
    with torch.no_grad():
        places = Positions(position)
        difference = mtla(x, x, places, places) - mla(x, x, places, places)
    assert difference[position >= 0].abs().max() < 1e-5


def test_hyper_network_has_biases_even_without_bias():
    names = set(TemporalLatent(SIZE, HEADS, bias=False).state_dict())
    assert {"hypernet_down.fc_c.bias", "hypernet_down.fc_p.bias"} <= names
    assert "wq.bias" not in names


@given(st.integers(1, 4), st.integers(1, 15), seeds)
def test_fused_path_equals_plain_path(rate, size, seed):
    """Dropout of probability zero-in-effect takes the plain path; float32 takes the fused."""
    module = build(("mtla", {"down_rate": rate}), seed)
    position, same = (Positions(torch.arange(size)[None]) for _ in range(2))
    x = torch.randn(1, size, SIZE)
    with torch.no_grad():
        fused = module(x, x, position, position)
        plain = module(x, x, position, same)
    assert (fused - plain).abs().max() < 1e-5


@given(st.integers(1, 4), st.integers(1, 12), seeds)
def test_chunks_and_own_rows_in_one_masked_call_equal_the_plain_path(rate, size, seed):
    """What text queries take on CUDA."""
    module = build(("mtla", {"down_rate": rate}), seed)
    position = Positions(torch.arange(size)[None])
    asked = Positions(torch.randperm(size, generator=torch.Generator().manual_seed(seed))[None])
    x = torch.randn(1, size, SIZE)
    with torch.no_grad():
        query = module.turned(module.heads(x[:, asked.index[0]]), asked)
        entry = module.entries(x, position)
        plain = module._attend(query, entry, asked, position)
        query = query.transpose(1, 2)
        rows, mask = module._chunks_and_own(asked.index, size, query)
        rows = entry.gather(1, rows.expand(-1, -1, entry.size(-1)))
        key, value = (y.transpose(1, 2) for y in module.key_value(rows))
        masked = sdpa.attend_masked(query, key, value, mask, module.softmax_scale)
    assert (module._output(masked) - plain).abs().max() < 1e-5


def test_gates_are_the_hyper_network_as_one_dot_product():
    module = build(("mtla", {"down_rate": 2}))
    network = module.hypernet_down
    latent, chunk = torch.randn(3, 7, network.rank), torch.arange(7)
    vectors, numbers = module.gates(chunk)
    weight = ((vectors * latent).sum(dim=-1) + numbers).sigmoid()
    expected = network(latent, network.encode(chunk))
    torch.testing.assert_close(weight, expected, atol=1e-5, rtol=1e-5)
