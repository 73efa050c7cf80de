"""A model in transformers: parts equal the whole, `generate` in all its ways, training, saving."""

import copy

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    Trainer,
    TrainingArguments,
    set_seed,
)

from mtla_espnet.hf import LlamaMTLAConfig, LlamaMTLAForCausalLM, LlamaMTLAModel
from mtla_espnet.hf.cache import LatentLayer
from mtla_espnet.hf.versions import cache_name
from small_models import QUIET_TRAINING

KINDS = [
    {"attention": "mtla", "down_rate": 2},
    {"attention": "mtla", "down_rate": 3, "q_lora_rank": 12},
    {"attention": "mla"},
    {"attention": "gla"},
]
VOCABULARY = 40
SIZES = dict(
    vocab_size=VOCABULARY,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
)
CACHE = cache_name()
PROMPTS = [[5, 9, 30, 12, 7, 21, 33], [8, 4, 19], [31, 6, 6, 14, 25]]


def model_of(kind, **sizes):
    torch.manual_seed(3)
    model = LlamaMTLAForCausalLM(LlamaMTLAConfig(**SIZES | kind | sizes)).eval()
    for parameter in model.parameters():  # small weights would make all tokens alike
        parameter.data += 0.2 * torch.randn_like(parameter)
    return model


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: "-".join(map(str, kind.values())))
def model(request):
    return model_of(request.param)


def batch(side="left"):
    longest = max(map(len, PROMPTS))
    ids, mask = [], []
    for prompt in PROMPTS:
        padding = [0] * (longest - len(prompt))
        is_left = side == "left"
        ids.append(padding + prompt if is_left else prompt + padding)
        ones = [1] * len(prompt)
        mask.append(padding + ones if is_left else ones + padding)
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


def generated(model, inputs, **options):
    """Tokens after the prompt, up to the end, of each row."""
    size = inputs["input_ids"].size(1)
    rows = model.generate(**inputs, **{"max_new_tokens": 7, "do_sample": False} | options)
    rows = rows[:, size:].tolist()
    return [row[: row.index(2) if 2 in row else None] for row in rows]


@torch.no_grad()
@pytest.mark.parametrize("side", ["left", "right"])
def test_parts_with_padding_equal_rows_alone(model, side):
    """In one pass, in parts of several columns, and one column at a time."""
    inputs = batch(side)
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    alone = [model(torch.tensor([prompt]), use_cache=False).logits[0] for prompt in PROMPTS]
    for cuts in ([7], [2, 5, 7], range(1, 8)):
        cache, outputs, start = None, [], 0
        for end in cuts:
            told = {"attention_mask": mask[:, :end], CACHE: cache, "use_cache": True}
            output = model(ids[:, start:end], **told)
            cache, start = output[CACHE], end
            outputs.append(output.logits)
        logits = torch.cat(outputs, dim=1)
        for row, wanted in enumerate(alone):
            found = logits[row, mask[row].bool()]
            torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
        assert cache.get_seq_length() == 7
        slot = model.model.layers[0].self_attn.slot
        bytes_alone = sum(slot.bytes(len(prompt), torch.float32) for prompt in PROMPTS)
        assert sum(layer.nbytes for layer in cache.layers) == 2 * bytes_alone


WAYS = {
    "greedy": {},
    "beams": {"num_beams": 3},
    "two of each": {"num_beams": 4, "num_return_sequences": 2},
    "sampling": {"do_sample": True, "top_k": 12, "temperature": 0.8},
    "penalties": {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2},
}


@pytest.mark.parametrize("way", WAYS)
def test_generate_with_and_without_a_cache(model, way):
    found = []
    for use_cache in (True, False):
        set_seed(11)
        found.append(generated(model, batch(), use_cache=use_cache, **WAYS[way]))
    assert found[0] == found[1]
    assert len({tuple(row) for row in found[0]}) > 1


@pytest.mark.parametrize("way", ["greedy", "beams"])
def test_a_padded_batch_generates_what_its_rows_do_alone(model, way):
    together = generated(model, batch(), **WAYS[way])
    for row, prompt in zip(together, PROMPTS, strict=True):
        assert generated(model, {"input_ids": torch.tensor([prompt])}, **WAYS[way]) == [row]


def test_a_prompt_in_parts_and_a_cache_that_goes_on(model):
    wanted = generated(model, batch())
    assert generated(model, batch(), prefill_chunk_size=3) == wanted
    prompt = torch.tensor(PROMPTS[:1])
    first = model.generate(prompt, max_new_tokens=3, do_sample=False, return_dict_in_generate=True)
    going_on = {"input_ids": first.sequences, CACHE: first[CACHE]}
    going_on["attention_mask"] = torch.ones_like(first.sequences)  # 0 may be a token
    rest = model.generate(**going_on, max_new_tokens=4, do_sample=False)
    assert rest.tolist() == model.generate(prompt, max_new_tokens=7, do_sample=False).tolist()


def test_drafts_are_taken_back_exactly_or_refused():
    """Prompt lookup cuts the cache after each draft."""
    prompt = {"input_ids": torch.tensor([[5, 9, 5, 9, 5, 9, 5]])}
    exact = model_of({"attention": "mla"})
    drafted = generated(exact, prompt, prompt_lookup_num_tokens=2)
    assert drafted == generated(exact, prompt)
    with pytest.raises(ValueError, match="cropped|cannot be cut inside one"):
        generated(model_of({"down_rate": 3}), prompt, prompt_lookup_num_tokens=2)


@torch.no_grad()
def test_bfloat16_steps_are_within_twice_the_error_of_one_pass(model):
    torch.manual_seed(5)
    ids = torch.randint(3, VOCABULARY, (3, 12))
    wanted = model(ids).logits
    low = copy.deepcopy(model).to(torch.bfloat16)
    passed = (low(ids).logits - wanted).abs().max()
    cache, steps = None, []
    for column in ids.split(1, dim=1):
        output = low(column, **{CACHE: cache})
        cache = output[CACHE]
        steps.append(output.logits)
    assert (torch.cat(steps, dim=1) - wanted).abs().max() < 2 * passed


def test_saved_and_loaded_by_auto_classes(model, tmp_path):
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").exists()
    assert type(AutoConfig.from_pretrained(tmp_path)) is LlamaMTLAConfig
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, device_map={"": "cpu"})
    assert type(loaded) is LlamaMTLAForCausalLM
    ids = torch.tensor(PROMPTS[:1])
    assert torch.equal(loaded(ids).logits, model(ids).logits)
    base = AutoModel.from_pretrained(tmp_path)
    assert type(base) is LlamaMTLAModel
    torch.testing.assert_close(model.lm_head(base(ids)[0]), model(ids).logits)


def test_tied_weights_are_one_matrix_and_stay_so(tmp_path):
    tied = model_of(KINDS[0], tie_word_embeddings=True)
    assert tied.lm_head.weight is tied.model.embed_tokens.weight
    tied.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    tied.resize_token_embeddings(VOCABULARY + 3)
    assert tied(torch.tensor([[VOCABULARY + 2]])).logits.size(-1) == VOCABULARY + 3


def test_layers_of_several_devices_have_a_cache_each(model):
    from transformers.cache_utils import Cache

    attentions = [[layer.self_attn] for layer in model.model.layers]
    split = Cache(layers=[LatentLayer(each) for each in attentions])
    ids = torch.tensor(PROMPTS[:1])
    found = model.generate(ids, max_new_tokens=5, do_sample=False, num_beams=2, **{CACHE: split})
    assert (
        found.tolist()
        == model.generate(ids, max_new_tokens=5, do_sample=False, num_beams=2).tolist()
    )
    assert [layer.columns for layer in split.layers] == [11, 11]


@torch.no_grad()
def test_outputs_that_transformers_may_ask_for(model):
    ids = torch.tensor(PROMPTS[:1])
    output = model(ids, output_hidden_states=True)
    assert [tuple(state.shape) for state in output.hidden_states] == 3 * [(1, 7, 32)]
    torch.testing.assert_close(model.lm_head(output.hidden_states[-1]), output.logits)
    kept = model(ids, logits_to_keep=1).logits
    torch.testing.assert_close(kept, output.logits[:, -1:], atol=1e-5, rtol=1e-5)
    assert torch.equal(model(ids, return_dict=False)[0], output.logits)
    embedded = model.get_input_embeddings()(ids)
    assert torch.equal(model(inputs_embeds=embedded).logits, output.logits)
    assert CACHE not in model(ids, use_cache=False)


TRAINING = [
    {"input_ids": row, "labels": row}
    for row in ([5 + (i + j) % 9 for j in range(10)] for i in range(16))
]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_trainer_learns_with_and_without_checkpointing(tmp_path, checkpointing):
    model = model_of(KINDS[0])
    arguments = TrainingArguments(
        tmp_path,
        max_steps=20,
        per_device_train_batch_size=8,
        learning_rate=1e-2,
        gradient_checkpointing=checkpointing,
        **QUIET_TRAINING,
    )
    trainer = Trainer(model, arguments, train_dataset=TRAINING)
    trainer.train()
    losses = [float(row["loss"]) for row in trainer.state.log_history if "loss" in row]
    assert len(losses) == 20
    assert losses[-1] < 0.5 * losses[0]


def test_checkpointing_gives_the_same_gradients(model):
    ids = torch.tensor(PROMPTS[:1])
    gradients = []
    for checkpointing in (False, True):
        trained = copy.deepcopy(model).train()
        if checkpointing:
            trained.gradient_checkpointing_enable()
        trained(ids, labels=ids).loss.backward()
        gradients.append([parameter.grad for parameter in trained.parameters()])
    for one, other in zip(*gradients, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other)


def test_low_rank_adapters_train_and_merge(model):
    from peft import LoraConfig, get_peft_model

    ids = torch.tensor(PROMPTS[:1])
    plain = model(ids).logits
    targets = ["wq", "wkv_a", "wkv_b", "wo"]
    if model.config.q_lora_rank:
        targets[:1] = ["wq_a", "wq_b"]
    config = LoraConfig(r=2, target_modules=targets, task_type="CAUSAL_LM", init_lora_weights=False)
    torch.manual_seed(5)
    adapted = get_peft_model(copy.deepcopy(model), config)
    adapted(input_ids=ids, labels=ids).loss.backward()
    for name, parameter in adapted.named_parameters():
        assert parameter.requires_grad == ("lora_" in name)
        assert parameter.grad is None or "lora_" in name
        assert not parameter.requires_grad or parameter.grad.abs().sum() > 0, name
    with torch.no_grad():
        logits = adapted(input_ids=ids).logits
        tokens = adapted.generate(input_ids=ids, max_new_tokens=5, do_sample=False)
        assert (logits - plain).abs().max() > 1e-2
        with adapted.disable_adapter():
            torch.testing.assert_close(adapted(input_ids=ids).logits, plain)
        merged = adapted.merge_and_unload()
        torch.testing.assert_close(merged(ids).logits, logits, atol=1e-4, rtol=1e-4)
        assert torch.equal(merged.generate(ids, max_new_tokens=5, do_sample=False), tokens)


def test_adapters_that_were_trained_are_kept_and_merge(tmp_path):
    """Trainer moves them alone; loaded again and merged, the model does what was trained."""
    from peft import LoraConfig, PeftModel, get_peft_model

    model = model_of(KINDS[0])
    config = LoraConfig(
        r=4, target_modules=["wq", "wkv_a", "wkv_b", "wo"], task_type="CAUSAL_LM", lora_alpha=16
    )
    torch.manual_seed(5)
    adapted = get_peft_model(model, config)
    arguments = TrainingArguments(
        tmp_path / "training",
        max_steps=20,
        per_device_train_batch_size=8,
        learning_rate=3e-2,
        **QUIET_TRAINING,
    )
    trainer = Trainer(adapted, arguments, train_dataset=TRAINING)
    trainer.train()
    losses = [float(row["loss"]) for row in trainer.state.log_history if "loss" in row]
    assert len(losses) == 20 and losses[-1] < 0.8 * losses[0]
    adapted.save_pretrained(tmp_path / "adapter")
    loaded = PeftModel.from_pretrained(model_of(KINDS[0]), tmp_path / "adapter")
    ids = torch.tensor(PROMPTS[:1])
    with torch.no_grad():
        wanted = adapted.eval()(input_ids=ids).logits
        found = loaded.merge_and_unload()(ids).logits
    torch.testing.assert_close(found, wanted, atol=1e-3, rtol=1e-3)


def test_an_adapter_that_is_more_than_a_product_is_refused(model):
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=2, target_modules=["wkv_b"], use_dora=True)
    torch.manual_seed(5)
    adapted = get_peft_model(copy.deepcopy(model), config)
    with pytest.raises(ValueError, match="merge the adapter into the weight first"):
        adapted(input_ids=torch.tensor(PROMPTS[:1]))


REFUSED = {
    "static": (
        dict(cache_implementation="static"),
        "cache_implementation='static': the model keeps latents in a cache of its own, which",
    ),
    "offloaded": (dict(cache_implementation="offloaded"), "leave it out"),
    "weights": (dict(output_attentions=True, return_dict_in_generate=True), "are not kept"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_generate_cannot_do_is_one_line(model, case):
    options, line = REFUSED[case]
    with pytest.raises(ValueError, match=line):
        generated(model, batch(), **options)


def test_a_layer_stays_whole_and_its_weights_in_memory(model, tmp_path):
    assert set(model._no_split_modules) == {type(model.model.layers[0]).__name__}
    model.save_pretrained(tmp_path / "model")
    places = {"lm_head": "cpu", "model.embed_tokens": "cpu", "model.norm": "cpu"}
    places |= {"model.layers.0": "cpu", "model.layers.1": "disk"}
    told = {"device_map": places, "offload_folder": tmp_path / "offloaded"}
    offloaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model", **told)
    with pytest.raises(ValueError, match="device_map offloads weights.*give every layer a device"):
        offloaded(torch.tensor(PROMPTS[:1]))


def test_masks_caches_and_positions_that_do_not_fit_are_refused(model):
    from transformers.cache_utils import StaticCache

    ids = torch.tensor(PROMPTS[:1])
    with pytest.raises(ValueError, match=r"attention_mask has shape \(1, 6\), not \(1, 7\)"):
        model(ids, attention_mask=torch.ones(1, 6))
    with pytest.raises(ValueError, match="position_ids are not the count .* pad sequences rather"):
        model(ids, position_ids=torch.tensor([[0, 1, 2, 0, 1, 2, 3]]))
    with pytest.raises(ValueError, match="StaticCache: the model keeps latents"):
        model(ids, **{CACHE: StaticCache(config=model.config, max_cache_len=9)})
    with pytest.raises(ValueError, match="either input_ids or inputs_embeds"):
        model()
    filled = model(ids, use_cache=True)[CACHE]
    with pytest.raises(ValueError, match="2 rows, but the cache holds 1"):
        model(torch.tensor([[3], [4]]), **{CACHE: filled})
    other = torch.ones(1, 8)
    other[0, 2] = 0
    with pytest.raises(ValueError, match="other padding than the columns in the cache"):
        model(ids[:, :1], attention_mask=other, **{CACHE: filled})
    trained = copy.deepcopy(model).train()
    with pytest.raises(ValueError, match="a filled cache has no gradients"):
        trained(ids[:, :1], **{CACHE: trained(ids, use_cache=True)[CACHE]})


class Operations(TorchDispatchMode):
    """Counts what is computed inside: on a GPU each is a kernel or more, or a view."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        self.count += 1
        return function(*arguments, **named or {})


@torch.no_grad()
def test_a_step_of_mtla_is_not_much_longer_than_one_of_mla():
    """The weights of latents are a table: what a chunk's number alone says is not made anew."""

    def operations(kind):
        model = model_of(kind)
        output = model(torch.tensor(PROMPTS[:1]), use_cache=True)
        found = []
        for token in (4, 5, 6):
            with Operations() as counted:
                output = model(torch.tensor([[token]]), **{CACHE: output[CACHE], "use_cache": True})
            found.append(counted.count)
        return found[-1]

    layers = SIZES["num_hidden_layers"]
    more = operations({"attention": "mtla"}) - operations({"attention": "mla"})
    assert more <= 24 * layers
