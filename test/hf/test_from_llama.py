"""Llamas of transformers become latent models: the same logits where the sizes allow."""

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from mtla_espnet.hf.from_llama import perplexity, to_mla, to_mtla
from mtla_espnet.user_error import UserError
from small_models import small_llama

TEXT = torch.randint(0, 40, (4, 12), generator=torch.Generator().manual_seed(0))
TURNS = {
    "default": {"rope_type": "default", "rope_theta": 500.0},
    "linear": {"rope_type": "linear", "factor": 3.0, "rope_theta": 10000.0},
    "llama3": {
        "rope_type": "llama3",
        "rope_theta": 1000.0,
        "factor": 4.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
}


def llama(groups=2, turn="default", **options):
    return small_llama(num_key_value_heads=groups, rope_parameters=TURNS[turn], **options)


CASES = {
    "mha": dict(groups=4),
    "gqa": dict(groups=2),
    "mqa": dict(groups=1),
    "linear": dict(turn="linear"),
    "llama3": dict(turn="llama3"),
    "wide heads with biases": dict(head_dim=12, attention_bias=True),
    "tied": dict(tie_word_embeddings=True),
}


@torch.no_grad()
@pytest.mark.parametrize("case", CASES)
def test_with_all_sizes_logits_are_the_same(case, tmp_path):
    source = llama(**CASES[case])
    everything = source.config.num_key_value_heads * source.config.head_dim
    model, lost = to_mla(source, [TEXT[:1]], everything, everything)
    assert max(lost) < 1e-9 and len(lost) == 2
    wanted = source(TEXT).logits
    torch.testing.assert_close(model(TEXT).logits, wanted, atol=2e-4, rtol=2e-4)
    assert perplexity(model, [TEXT]) == pytest.approx(perplexity(source, [TEXT]), rel=1e-4)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded(TEXT).logits, model(TEXT).logits)
    ways = dict(max_new_tokens=6, do_sample=False, pad_token_id=0)
    assert torch.equal(loaded.generate(TEXT, **ways), source.generate(TEXT, **ways))


@torch.no_grad()
def test_a_smaller_cache_costs_some_of_the_quality():
    source = llama(groups=4)
    wanted = source(TEXT).logits
    errors = []
    for rank, rope in ((8, 4), (32, 8), (64, 8), (64, 24)):
        model, _ = to_mla(source, [TEXT], rank, rope)
        errors.append(float((model(TEXT).logits - wanted).square().mean()))
    assert errors == sorted(errors, reverse=True)
    mtla = to_mtla(model, 3)
    assert (mtla.config.attention, mtla.config.down_rate) == ("mtla", 3)
    assert mtla.config.rope_frequencies == model.config.rope_frequencies
    same = to_mtla(model, 1)
    torch.testing.assert_close(same(TEXT).logits, model(TEXT).logits, atol=1e-4, rtol=1e-4)
    tokens = mtla.generate(TEXT[:1], max_new_tokens=4, min_new_tokens=4, pad_token_id=0)
    assert tokens.shape == (1, 16)


def test_sizes_left_out_follow_the_heads():
    model, _ = to_mla(llama(groups=1), [TEXT])
    assert (model.config.kv_lora_rank, model.config.qk_rope_head_dim) == (16, 4)
    assert model.config.rope_frequencies and not model.config.latent_norm


REFUSED = {
    "kv_lora_rank 34: say an even number from 4 to 32; the 2 key and": (
        llama,
        dict(kv_lora_rank=34),
    ),
    "qk_rope_head_dim 7: say an even number from 2 to 16": (llama, dict(qk_rope_head_dim=7)),
    "there is no text to calibrate with": (llama, dict(calibration=[])),
    "a model of the family 'mistral': only Llama's": (
        lambda: MistralForCausalLM(
            MistralConfig(
                vocab_size=9,
                hidden_size=8,
                intermediate_size=8,
                num_hidden_layers=1,
                num_attention_heads=2,
                num_key_value_heads=1,
            )
        ),
        {},
    ),
}


@pytest.mark.parametrize("line", REFUSED)
def test_what_cannot_be_converted(line):
    make, options = REFUSED[line]
    with pytest.raises(UserError) as caught:
        to_mla(make(), **{"calibration": [TEXT]} | options)
    assert str(caught.value).startswith(line)


def test_other_turns_and_kinds_are_refused():
    source = llama()
    source.config.rope_parameters = {"rope_type": "yarn", "factor": 2.0}
    with pytest.raises(UserError, match="rope_type 'yarn': only default, linear, llama3"):
        to_mla(source, [TEXT])
    mtla = to_mtla(to_mla(llama(), [TEXT])[0])
    with pytest.raises(UserError, match="the model has attention mtla: only mla becomes mtla"):
        to_mtla(mtla)
