"""A Llama of transformers becomes a `LlamaMTLAForCausalLM`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from mtla_espnet.files import UserError, read_text, reading
from mtla_espnet.json_files import read_json
from mtla_espnet.trust import nothing_runs

# Tokens of a row, and of every so many rows one is not calibrated with, but measured on.
_ROW = 512
_HELD_OUT = 8
_FAMILIES = ("llama", "llama_mtla")
_BESIDE = ("tokenizer", "special_tokens", "chat_template", "generation_config")


def convert(arguments: argparse.Namespace, made: Path) -> tuple[list[dict], str]:
    """Write the converted model.

    Args:
        arguments: of the verb.
        made: directory to write in.

    Returns:
        A row for each model with its cache and its perplexity, and what to do next.

    Raises:
        UserError: it cannot be converted.
    """
    from mtla_espnet.hf.from_llama import perplexity, to_mla, to_mtla

    device = _device(arguments.device)
    model, tokenizer = load(arguments.model)
    model = model.to(device).eval()
    rows = text_rows(tokenizer, arguments.calibration, arguments.calibration_tokens)
    rows = [row[None].to(device) for row in rows]
    held_out = rows[_HELD_OUT - 1 :: _HELD_OUT] or rows[-1:]
    seen = [row for number, row in enumerate(rows) if number % _HELD_OUT != _HELD_OUT - 1]
    told = []

    def tell(name: str, numbers: float) -> None:
        told.append(
            {
                "model": name,
                "numbers a position": numbers,
                "perplexity": perplexity(model, held_out),
            }
        )

    config = model.config
    if config.model_type == "llama":
        tell("given", 2 * config.num_key_value_heads * config.head_dim)
        sizes = arguments.kv_lora_rank, arguments.qk_rope_head_dim
        model, _ = to_mla(model, seen, *sizes)
    elif arguments.kv_lora_rank or arguments.qk_rope_head_dim:
        raise UserError("--kv_lora_rank and --qk_rope_head_dim are of models that are not MLA yet")
    elif arguments.to == "mla":
        raise UserError(f"{arguments.model}: is a latent model already; --to mtla merges positions")
    numbers = model.config.kv_lora_rank + model.config.qk_rope_head_dim
    tell(f"mla, rank {model.config.kv_lora_rank}", numbers)
    if arguments.to == "mtla":
        rate = arguments.down_rate
        model = to_mtla(model, rate)
        tell(f"mtla, s = {rate}, chunks as plain means", numbers / rate)
    model.save_pretrained(made)
    tokenizer.save_pretrained(made)
    advice = (
        f"{arguments.out}: AutoModelForCausalLM.from_pretrained loads it after `import "
        "mtla_espnet.hf`; train it on by mtla_espnet.hf.distillation"
    )
    return told, advice


def load(path: Path):
    """Return a model of the Llama family in float32 and its tokenizer; nothing of it runs.

    Args:
        path: a directory with safetensors, or a .gguf file.

    Raises:
        UserError: another family, or files that cannot be read.
    """
    import mtla_espnet.hf  # noqa: F401, isort: skip - registers the latent family
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if path.suffix == ".gguf":
        _check_gguf(path)
        place, options = path.parent, {"gguf_file": path.name}
    else:
        config = read_json(path / "config.json")
        kind = config.get("model_type") if isinstance(config, dict) else None
        if kind not in _FAMILIES:
            raise UserError(f"{path}: of the family {kind!r}: only Llama's (`llama`) are converted")
        quantised = config.get("quantization_config")
        if quantised:
            how = quantised.get("quant_method") if isinstance(quantised, dict) else quantised
            raise UserError(
                f"{path}: quantised ({how}): take the model before that, or its .gguf file"
            )
        if not list(path.glob("*.safetensors")):
            raise UserError(f"{path}: has no *.safetensors: save the model by save_pretrained")
        place, options = path, {"use_safetensors": True}
    options |= {"local_files_only": True, "trust_remote_code": False}
    with reading(path, "cannot be loaded"), nothing_runs(path):
        tokenizer = AutoTokenizer.from_pretrained(place, **options)
        model = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32, **options)
    if model.config.model_type not in _FAMILIES:
        kind = model.config.model_type
        raise UserError(f"{path}: of the family {kind!r}: only Llama's (`llama`) are converted")
    return model, tokenizer


def _check_gguf(path: Path) -> None:
    """Refuse what is no file of GGUF, before transformers opens it."""
    try:
        import gguf
    except ModuleNotFoundError:
        raise UserError(f"{path}: needs the package gguf: pip install gguf") from None
    with reading(path, "not a whole GGUF file"):
        reader = gguf.GGUFReader(path)
    family = reader.get_field("general.architecture")
    kind = None if family is None else family.contents()
    if kind != "llama":
        raise UserError(f"{path}: of the family {kind!r}: only Llama's (`llama`) are converted")
    known = set(gguf.quants._type_traits)
    for tensor in reader.tensors:
        name = tensor.tensor_type.name
        plain = name in ("F32", "F16", "F64")
        if not plain and tensor.tensor_type not in known:
            raise UserError(f"{path}: {tensor.name} is quantised as {name}, which is not read here")


def text_rows(tokenizer, paths: Sequence[Path], count: int) -> Tensor:
    """Return rows (X, T) of tokens from everywhere in the texts, at least two.

    Args:
        tokenizer: of the model.
        paths: of text files.
        count: of tokens, about.

    Raises:
        UserError: there are no texts, or too short ones.
    """
    if not paths:
        raise UserError("--calibration: say files of text that the model is for", 2)
    text = "\n\n".join(read_text(path) for path in paths)
    tokens = torch.tensor(tokenizer(text, verbose=False)["input_ids"], dtype=torch.int64)
    size = min(_ROW, len(tokens) // 2)
    if size < 2:
        raise UserError(f"{paths[0]}: too short to calibrate with: some thousand words are needed")
    rows = tokens[: len(tokens) // size * size].view(-1, size)
    wanted = min(len(rows), max(2, round(count / size)))
    return rows[torch.linspace(0, len(rows) - 1, wanted).round().long()]


def _device(name: str) -> torch.device:
    from mtla_espnet.inference.decodable import usable_device

    return usable_device(name)
