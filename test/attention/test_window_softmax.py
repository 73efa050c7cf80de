import pytest
import torch

from mtla_espnet.attention.mtla import TemporalLatent
from mtla_espnet.attention.standalone import MultiheadTemporalLatentAttention
from mtla_espnet.attention.window_softmax import WindowSoftmax
from mtla_espnet.position import Positions
from strategies import HEADS, SIZE, build


def test_equal_scores_merge_to_the_mean():
    rank, rope = 8, 4
    merge = WindowSoftmax(rank, 4)
    torch.nn.init.zeros_(merge.gate.weight)
    window = torch.randn(2, 3, 4, rank + rope)
    merged = merge(window)
    mean = merge.norm(window[..., :rank].mean(dim=-2))
    assert (merged[..., :rank] - mean).abs().max() < 1e-5
    assert torch.equal(merged[..., rank:], window[..., -1, rank:])


def test_the_bias_tells_places_of_the_window_apart():
    rank = 8
    merge = WindowSoftmax(rank, 3)
    torch.nn.init.zeros_(merge.gate.weight)
    merge.bias.data[1] = 50.0
    window = torch.randn(1, 3, rank + 4)
    expected = merge.norm(window[:, 1, :rank])
    found = merge(window)[:, :rank]
    assert (found - expected).abs().max() < 1e-5


def test_the_own_window_is_seen_raw_and_never_merged():
    """The last position of a window still sees its members, whatever merging would give."""
    module, position = (
        build(("mtla", {"down_rate": 3, "merge": "softmax"})),
        Positions(torch.arange(6)[None]),
    )
    x = torch.randn(1, 6, SIZE)
    with torch.no_grad():
        before = module(x, x, position, position)
        module.window_softmax.bias += torch.randn_like(module.window_softmax.bias)
        after = module(x, x, position, position)
    assert torch.equal(before[:, :3], after[:, :3])
    assert (before[:, 3:] - after[:, 3:]).abs().amax(dim=-1).min() > 1e-4


def test_a_cache_counts_merged_windows_and_raw_positions():
    form = TemporalLatent(SIZE, HEADS, down_rate=4, merge="softmax").slot
    assert [form.slots(n) for n in (0, 1, 3, 4, 5, 11)] == [0, 1, 3, 1, 2, 5]


def test_an_unknown_merge_is_refused():
    with pytest.raises(ValueError, match="merge: 'mean' is unknown; choose sum or softmax"):
        TemporalLatent(SIZE, HEADS, merge="mean")


def test_it_is_stand_alone_and_its_steps_give_what_one_call_gives():
    torch.manual_seed(0)
    module = MultiheadTemporalLatentAttention(512, 8, down_rate=3, merge="softmax").eval()
    x = torch.randn(2, 10, 512)
    with torch.no_grad():
        whole, cache = module(x, x, x), module.init_cache(2, 10)
        parts = [module(each, each, each, cache=cache) for each in x.split((4, 1, 2, 3), dim=1)]
    assert (torch.cat(parts, dim=1) - whole).abs().max() < 1e-4
