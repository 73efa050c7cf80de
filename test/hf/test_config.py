"""Sizes are taken over from a Llama, and refused by name where they do not fit."""

import pytest
from transformers import AutoConfig, LlamaConfig

from mtla_espnet.hf import LlamaMTLAConfig


def test_takes_the_sizes_of_a_llama():
    """As the example of the README of arXiv 2505.13544's code does it."""
    llama = LlamaConfig(hidden_size=96, num_attention_heads=6, vocab_size=77, rms_norm_eps=1e-5)
    config = LlamaMTLAConfig(**vars(llama))
    config.down_rate = 3
    assert (config.hidden_size, config.vocab_size, config.rms_norm_eps) == (96, 77, 1e-5)
    attention = config.new_attention()
    assert (attention.num_heads, attention.down_rate, attention.kv_lora_rank) == (6, 3, 64)
    assert config.model_type == "llama_mtla"


def test_is_kept_whole(tmp_path):
    config = LlamaMTLAConfig(attention="gla", num_latent_groups=4, kv_lora_rank=8, q_lora_rank=6)
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert loaded.to_diff_dict() == config.to_diff_dict()
    assert (loaded.attention, loaded.num_latent_groups, loaded.kv_lora_rank) == ("gla", 4, 8)


REFUSED = {
    "attention: 'mha' is none of mtla, mla, gla": {"attention": "mha"},
    "num_latent_groups: 3 does not divide the 4 attention heads": {
        "attention": "gla",
        "num_latent_groups": 3,
    },
    "qk_rope_head_dim must be even": {"qk_rope_head_dim": 3},
    "down_rate must be an integer of at least 1": {"down_rate": 0},
}


@pytest.mark.parametrize("line", REFUSED)
def test_sizes_that_do_not_fit(line):
    config = LlamaMTLAConfig(hidden_size=32, num_attention_heads=4, **REFUSED[line])
    with pytest.raises(ValueError, match=line):
        config.new_attention()
