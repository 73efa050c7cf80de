#!/usr/bin/env python3
r"""Decoding in transformers: our latent models against its own DeepseekV3 and Llama-GQA.

All models have the same sizes, random weights and no mixture of experts. A prompt of so many
tokens is cached, then single steps are timed: the median of a step, the bytes of the cache, the
peak of the memory on CUDA. Rows of one run are compared; a process warms up before each row.

usage: bench/hf_decode.py [--tokens 1024 4096 16384] [--batches 1 32] [--steps 32]
           [--device cuda --dtype bfloat16] [--layers 16 --size 2048 --heads 16]
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch
from transformers import DeepseekV3Config, DeepseekV3ForCausalLM, LlamaConfig, LlamaForCausalLM

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from mtla_espnet.hf import LlamaMTLAConfig, LlamaMTLAForCausalLM
from mtla_espnet.hf.versions import cache_name

PROMPT_PART = 2048


def models(arguments) -> dict:
    """Return name -> a function that makes the model."""
    size, heads = arguments.size, arguments.heads
    width = size // heads
    common = dict(
        vocab_size=arguments.vocabulary,
        hidden_size=size,
        intermediate_size=3 * size,
        num_hidden_layers=arguments.layers,
        num_attention_heads=heads,
        max_position_embeddings=2 * max(arguments.tokens),
    )
    latent = dict(
        kv_lora_rank=4 * width,
        qk_nope_head_dim=width,
        qk_rope_head_dim=width // 2,
        v_head_dim=width,
    )

    def ours(kind: str, **options):
        return lambda: LlamaMTLAForCausalLM(
            LlamaMTLAConfig(**common, **latent, attention=kind, **options)
        )

    deepseek = dict(q_lora_rank=None, first_k_dense_replace=arguments.layers, num_mtp_layers=0)
    return {
        "Llama, GQA": lambda: LlamaForCausalLM(
            LlamaConfig(**common, num_key_value_heads=max(1, heads // 4))
        ),
        "DeepseekV3": lambda: DeepseekV3ForCausalLM(
            DeepseekV3Config(**common, **latent, **deepseek)
        ),
        "mla": ours("mla"),
        "mtla s=2": ours("mtla", down_rate=2),
        "mtla s=4": ours("mtla", down_rate=4),
    }


def cache_bytes(cache) -> int:
    """Return the bytes of what a cache holds."""
    held = 0
    for layer in cache.layers:
        tensors = (layer.keys, layer.values)
        held += getattr(layer, "nbytes", None) or sum(x.nbytes for x in tensors if x is not None)
    return held


@torch.inference_mode()
def measure(model, batch: int, tokens: int, arguments) -> tuple[float, int, int]:
    """Return the milliseconds of a step, the bytes of the cache, and the peak of memory."""
    device, name = arguments.device, cache_name()
    is_cuda = device.startswith("cuda")
    if is_cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    prompt = torch.randint(3, arguments.vocabulary, (batch, tokens), device=device)
    cache = None
    for part in prompt.split(PROMPT_PART, dim=1):
        cache = model(part, use_cache=True, logits_to_keep=1, **{name: cache})[name]
    times = []
    for _ in range(arguments.steps + 4):
        token = torch.randint(3, arguments.vocabulary, (batch, 1), device=device)
        if is_cuda:
            torch.cuda.synchronize()
        start = time.perf_counter()
        model(token, use_cache=True, **{name: cache})
        if is_cuda:
            torch.cuda.synchronize()
        times.append(1e3 * (time.perf_counter() - start))
    peak = torch.cuda.max_memory_allocated() if is_cuda else 0
    return statistics.median(times[4:]), cache_bytes(cache), peak


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tokens", type=int, nargs="+", default=[1024, 4096, 16384])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--heads", type=int, default=16)
    parser.add_argument("--vocabulary", type=int, default=32000)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="bfloat16")
    arguments = parser.parse_args()
    print("| model | batch | tokens | ms a step | cache MB | peak MB |\n|:--|--:|--:|--:|--:|--:|")
    for name, make in models(arguments).items():
        torch.manual_seed(0)
        with torch.device(arguments.device):
            model = make()
        model = model.to(getattr(torch, arguments.dtype)).eval()
        for batch in arguments.batches:
            for tokens in arguments.tokens:
                try:
                    took_ms, held, peak = measure(model, batch, tokens, arguments)
                    cells = f"{took_ms:.2f} | {held / 1e6:.1f} | {peak / 1e6:.0f}"
                except torch.cuda.OutOfMemoryError:
                    cells = "out of memory | |"
                print(f"| {name} | {batch} | {tokens} | {cells} |", flush=True)
        del model


if __name__ == "__main__":
    main()
