import pytest
import torch
from hypothesis import given

from mtla_espnet import GroupedLatentAttention, MultiheadLatentAttention
from mtla_espnet.attention.gla import GroupedLatent
from mtla_espnet.attention.mla import Latent
from mtla_espnet.position import Positions, positions
from strategies import HEADS, SIZE, lengths, seeds


@given(lengths(), seeds)
def test_one_group_is_mla(sizes, seed):
    torch.manual_seed(seed)
    mla = Latent(SIZE, HEADS).eval()
    gla = GroupedLatent(SIZE, HEADS, num_latent_groups=1).eval()
    gla.load_state_dict(mla.state_dict())
    position = Positions(positions(torch.tensor(sizes), max(sizes)))
    x = torch.randn(len(sizes), max(sizes), SIZE)
    with torch.no_grad():
        assert torch.equal(gla(x, x, position, position), mla(x, x, position, position))
    assert gla.slot == mla.slot


def test_heads_read_the_latent_of_their_group_alone():
    gla = GroupedLatent(SIZE, HEADS)
    entries = torch.randn(1, 3, gla.slot.width)
    changed = entries.clone()
    changed[..., : gla.kv_lora_rank] += 1.0
    for before, after in zip(gla.key_value(entries), gla.key_value(changed), strict=True):
        same = (before == after).all(dim=-1).all(dim=1)[0]
        assert same.tolist() == [False, False, True, True]


def test_the_groups_share_what_mla_keeps():
    gla, mla = GroupedLatent(512, 8), Latent(512, 8)
    assert gla.slot.width == mla.slot.width == 288
    assert gla.kv_lora_rank == mla.kv_lora_rank // 2


def test_groups_divide_the_heads():
    with pytest.raises(ValueError, match="num_latent_groups: 3 does not divide the 4 attention"):
        GroupedLatent(SIZE, HEADS, num_latent_groups=3)


def test_stands_alone_and_steps():
    torch.manual_seed(0)
    model = GroupedLatentAttention(embed_dim=512, num_heads=8).eval()
    paper = MultiheadLatentAttention(embed_dim=512, num_heads=8)
    assert model.slot.width == paper.slot.width
    x = torch.randn(2, 7, 512)
    with torch.no_grad():
        whole = model(x, x, x)
        cache = model.init_cache(batch=2, max_length=7)
        for t in range(7):
            step = x[:, t : t + 1]
            assert (model(step, step, step, cache=cache) - whole[:, t : t + 1]).abs().max() < 1e-5
    assert cache.nbytes == 2 * 7 * 288 * 4
