import torch
from hypothesis import given

from mtla_espnet.attention.mha import GroupedQuery, MultiHead, MultiQuery
from strategies import HEADS, SIZE, build, seeds


def test_mha_and_mqa_are_gqa_with_h_and_one_groups():
    assert MultiHead(SIZE, HEADS).num_kv_heads == HEADS
    assert MultiQuery(SIZE, HEADS).num_kv_heads == 1


@given(seeds)
def test_groups_that_repeat_their_keys_equal_multi_head(seed):
    """G shared key/value heads = H heads whose projections repeat within a group."""
    grouped = build(("gqa", {"num_kv_heads": 2}), seed)
    full = MultiHead(SIZE, HEADS).eval()
    state = grouped.state_dict()
    for name in ("wk.weight", "wk.bias", "wv.weight", "wv.bias"):
        heads = state[name].unflatten(0, (2, SIZE // HEADS))
        state[name] = heads.repeat_interleave(HEADS // 2, dim=0).flatten(0, 1)
    full.load_state_dict(state)
    x, position = torch.randn(2, 7, SIZE), torch.arange(7).expand(2, 7)
    with torch.no_grad():
        difference = grouped(x, x, position, position) - full(x, x, position, position)
    assert difference.abs().max() < 1e-5


def test_cache_width_is_that_of_the_groups():
    assert GroupedQuery(SIZE, HEADS, num_kv_heads=2).slot.width == 2 * 2 * SIZE // HEADS
