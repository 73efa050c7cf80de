import torch

from mtla_espnet.attention.mtla_softmax import SoftmaxMergedLatent
from mtla_espnet.position import Positions
from strategies import HEADS, SIZE, build


def test_equal_scores_merge_to_the_mean():
    module = SoftmaxMergedLatent(SIZE, HEADS, down_rate=4)
    torch.nn.init.zeros_(module.merge_gate.weight)
    window = torch.randn(2, 3, 4, module.slot.width)
    merged = module.merge_window(window)
    rank = module.kv_lora_rank
    mean = module.merge_norm(window[..., :rank].mean(dim=-2))
    assert (merged[..., :rank] - mean).abs().max() < 1e-5
    assert torch.equal(merged[..., rank:], window[..., -1, rank:])


def test_the_bias_tells_places_of_the_window_apart():
    module = SoftmaxMergedLatent(SIZE, HEADS, down_rate=3)
    torch.nn.init.zeros_(module.merge_gate.weight)
    module.merge_bias.data[1] = 50.0
    window = torch.randn(1, 3, module.slot.width)
    expected = module.merge_norm(window[:, 1, : module.kv_lora_rank])
    found = module.merge_window(window)[:, : module.kv_lora_rank]
    assert (found - expected).abs().max() < 1e-5


def test_the_own_window_is_seen_raw_and_never_merged():
    """The last position of a window still sees its members, whatever merging would give."""
    module, position = build(("mtla_softmax", {"down_rate": 3})), Positions(torch.arange(6)[None])
    x = torch.randn(1, 6, SIZE)
    with torch.no_grad():
        before = module(x, x, position, position)
        module.merge_bias += torch.randn_like(module.merge_bias)
        after = module(x, x, position, position)
    assert torch.equal(before[:, :3], after[:, :3])
    assert (before[:, 3:] - after[:, 3:]).abs().amax(dim=-1).min() > 1e-4


def test_a_cache_counts_merged_windows_and_raw_positions():
    form = SoftmaxMergedLatent(SIZE, HEADS, down_rate=4).slot
    assert [form.slots(n) for n in (0, 1, 3, 4, 5, 11)] == [0, 1, 3, 1, 2, 5]
