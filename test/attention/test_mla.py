import torch

from mtla_espnet.attention.mla import Latent
from mtla_espnet.position import Positions
from strategies import HEADS, SIZE, build


def test_sizes_left_unset_follow_the_model():
    module = Latent(144, 4)
    assert (module.kv_lora_rank, module.qk_nope_head_dim) == (144, 36)
    assert (module.qk_rope_head_dim, module.v_head_dim) == (18, 36)
    paper = Latent(512, 8)
    assert (paper.kv_lora_rank, paper.qk_nope_head_dim) == (256, 64)
    assert (paper.qk_rope_head_dim, paper.v_head_dim) == (32, 64)


def test_the_latent_alone_is_normalised():
    module = build(("mla", {}))
    x, position = torch.randn(1, 3, SIZE), Positions(torch.arange(3)[None])
    larger = module.entries(x * 7, position), module.entries(x, position)
    latent, rope = module.kv_lora_rank, module.qk_rope_head_dim
    assert (larger[0][..., :latent] - larger[1][..., :latent]).abs().max() < 1e-3
    assert torch.allclose(larger[0][..., -rope:], larger[1][..., -rope:] * 7, atol=1e-5)


def test_the_cache_keeps_latents_and_not_heads():
    slot = Latent(SIZE, HEADS).slot
    assert slot.width == 4 * SIZE // HEADS + SIZE // HEADS // 2


def test_the_bias_of_the_up_projection_is_loaded_but_not_used():
    module = build(("mla", {"bias": True}))
    x, position = torch.randn(1, 4, SIZE), Positions(torch.arange(4)[None])
    with torch.no_grad():
        before = module(x, x, position, position)
        module.wkv_b.bias += 5
        assert torch.equal(module(x, x, position, position), before)
