"""`mtla-espnet convert` of a Llama: files in, files out, and what is refused."""

import json

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from mtla_espnet.cli import main
from mtla_espnet.json_files import read_json
from small_models import small_llama

WORDS = "the a of and to in is it was that he for on are with as his they at be".split()


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """A directory with a tiny Llama, its tokenizer and a text."""
    directory = tmp_path_factory.mktemp("llama")
    vocabulary = {word: number for number, word in enumerate(["<unk>", *WORDS])}
    model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"}
    words = {"version": "1.0", "added_tokens": [], "model": model}
    words["pre_tokenizer"] = {"type": "Whitespace"}
    (directory / "words.json").write_text(json.dumps(words))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(directory / "words.json"), unk_token="<unk>"
    )
    tokenizer.save_pretrained(directory)
    (directory / "words.json").unlink()
    turn = {"rope_type": "default", "rope_theta": 700.0}
    small_llama(0, vocab_size=21, rope_parameters=turn).save_pretrained(directory)
    words = torch.randint(0, 20, (600,)).tolist()
    (directory / "text").write_text(" ".join(WORDS[i] for i in words))
    return directory


def call(model, out, *options, text=None):
    text = model / "text" if text is None else text
    return ["convert", str(model), str(out), "--calibration", str(text), *options]


def test_the_whole_sizes_keep_the_perplexity(llama, tmp_path, capsys):
    out = tmp_path / "out"
    sizes = ["--kv_lora_rank", "16", "--qk_rope_head_dim", "16"]
    assert main(call(llama, out, "--to", "mla", *sizes)) == 0
    told = capsys.readouterr().out
    assert [cell.strip() for cell in told.splitlines()[0].split("|")[1:-1]] == [
        *("model", "numbers a position", "perplexity")
    ]
    given, mla = read_json(out / "conversion.json")["models"]
    assert given["numbers a position"] == mla["numbers a position"] == 32
    assert mla["perplexity"] == pytest.approx(given["perplexity"], rel=1e-4)
    tokens = torch.tensor([[3, 9, 12, 1]])
    wanted = AutoModelForCausalLM.from_pretrained(llama)(tokens).logits
    found = AutoModelForCausalLM.from_pretrained(out)(tokens).logits
    torch.testing.assert_close(found, wanted, atol=1e-3, rtol=1e-3)
    assert AutoTokenizer.from_pretrained(out)("the cat")["input_ids"] == [1, 0]


def test_mtla_from_a_llama_and_from_the_mla_between(llama, tmp_path):
    mla, mtla, again = (tmp_path / name for name in ("mla", "mtla", "again"))
    assert main(call(llama, mla, "--to", "mla")) == 0
    assert main(call(llama, mtla, "--to", "mtla", "--down_rate", "3")) == 0
    options = ["--to", "mtla", "--down_rate", "3"]
    assert main(call(mla, again, *options, text=llama / "text")) == 0
    rows, once_more = (read_json(out / "conversion.json")["models"] for out in (mtla, again))
    assert [row["numbers a position"] for row in rows] == [32, 36, 12]
    for one, other in zip(rows[1:], once_more, strict=True):
        assert one["model"] == other["model"]
        assert one["perplexity"] == pytest.approx(other["perplexity"], rel=1e-4)
    assert AutoModelForCausalLM.from_pretrained(again).config.down_rate == 3


def test_a_quantised_file_of_gguf(llama, tmp_path):
    """Written here by the package itself, with Llama's names and rows in its order."""
    import gguf
    import numpy as np

    path = tmp_path / "tiny.gguf"
    model = LlamaForCausalLM.from_pretrained(llama).float()
    config, state = model.config, model.state_dict()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(2)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(48)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(700.0)
    writer.add_rope_dimension_count(8)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(["<unk>", *"abdefhinorstuwc.", "th", "the", "is", "in"])
    writer.add_token_merges(["t h", "th e"])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 2)
    for name, value in state.items():
        for part, heads in (("q_proj", 4), ("k_proj", 2)):
            if part in name:  # pairs are neighbours there
                value = value.view(heads, 2, -1, 32).transpose(1, 2).reshape(-1, 32)
        target = names.get_name(name, try_suffixes=(".weight",))
        array = value.numpy().astype(np.float32)
        kind = gguf.GGMLQuantizationType.Q8_0 if array.ndim == 2 and array.shape[1] == 32 else None
        if kind is not None:
            array = gguf.quants.quantize(array, kind)
        writer.add_tensor(target, array, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    out = tmp_path / "out"
    sizes = ["--kv_lora_rank", "16", "--qk_rope_head_dim", "16"]
    command = ["convert", str(path), str(out), "--calibration", str(llama / "text"), *sizes]
    assert main([*command, "--to", "mla"]) == 0
    rows = read_json(out / "conversion.json")["models"]
    assert rows[1]["perplexity"] == pytest.approx(rows[0]["perplexity"], rel=1e-3)
    tokens = torch.tensor([[3, 9, 12, 1]])
    wanted, found = model(tokens).logits, AutoModelForCausalLM.from_pretrained(out)(tokens).logits
    assert (wanted - found).abs().max() < 0.05 * wanted.abs().max()


def refused(capsys, *options):
    code = main(["convert", *map(str, options)])
    captured = capsys.readouterr().err.splitlines()
    lines = [line for line in captured if line.startswith("error: ")]
    assert len(lines) == 1, captured
    return code, lines[0]


def test_what_cannot_be_converted(llama, tmp_path, capsys):
    out = tmp_path / "out"
    text = ["--calibration", llama / "text"]
    code, line = refused(capsys, "--to", "mla", llama, out, *text, "--kv_lora_rank", 40)
    assert code == 1 and "kv_lora_rank 40: say an even number from 4 to 32" in line
    code, line = refused(capsys, "--to", "mla", llama, out)
    assert code == 2 and "--calibration: say files of text" in line
    (tmp_path / "short").write_text("the a of")
    code, line = refused(capsys, "--to", "mla", llama, out, "--calibration", tmp_path / "short")
    assert "short: too short to calibrate with" in line
    code, line = refused(capsys, "--to", "mla", llama, out, *text, "--down_rate", 2)
    assert code == 2 and "--down_rate is of mtla" in line
    code, line = refused(capsys, "--to", "mla", tmp_path, out, *text)
    assert "neither the directory of an experiment (config.yaml), nor of a Llama" in line
    code, line = refused(capsys, "--to", "mla", llama, llama, *text)
    assert f"{llama}: is there already; say a new directory" in line
    assert not out.exists()


def test_checkpoints_of_other_families_and_forms(llama, tmp_path, capsys):
    out, text = tmp_path / "out", ["--calibration", llama / "text"]
    other = tmp_path / "other"
    other.mkdir()

    def told(config):
        (other / "config.json").write_text(json.dumps(config))
        return refused(capsys, "--to", "mla", other, out, *text)[1]

    assert "of the family 'gpt2': only Llama's (`llama`) are converted" in told(
        {"model_type": "gpt2"}
    )
    assert "has no *.safetensors: save the model by save_pretrained" in told(
        {"model_type": "llama"}
    )
    quantised = {"model_type": "llama", "quantization_config": {"quant_method": "gptq"}}
    assert "quantised (gptq): take the model before that, or its .gguf file" in told(quantised)
    (other / "model.safetensors").write_bytes(b"broken")
    assert f"{other}: cannot be loaded: " in told({"model_type": "llama"})
    (other / "a.gguf").write_bytes(b"GGUF nothing")
    line = refused(capsys, "--to", "mla", other / "a.gguf", out, *text)[1]
    assert "a.gguf: not a whole GGUF file" in line


@pytest.mark.parametrize(
    ("family", "kind", "told"),
    [
        ("llama", "Q8_1", "token_embd.weight is quantised as Q8_1, which is not read here"),
        ("qwen2", "Q8_0", "of the family 'qwen2': only Llama's (`llama`) are converted"),
    ],
)
def test_files_of_gguf_that_are_not_read(llama, tmp_path, capsys, family, kind, told):
    import gguf
    import numpy as np

    path = tmp_path / "tiny.gguf"
    kind = gguf.GGMLQuantizationType[kind]
    per_block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    writer = gguf.GGUFWriter(path, family)
    rows = np.zeros((4, 32 // per_block * block_bytes), dtype=np.uint8)
    writer.add_tensor("token_embd.weight", rows, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    call = ["--to", "mla", path, tmp_path / "out", "--calibration", llama / "text"]
    assert refused(capsys, *call) == (1, f"error: {path}: {told}")
