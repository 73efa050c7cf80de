#!/usr/bin/env python3
"""A Llama converted to MLA and MTLA at several ranks: perplexity beside the cache.

Texts are the docstrings of the Python packages that are installed; one module of eight is held
out. Each size is converted and measured; those given by --train are trained on too, with the
logits of the Llama, for so many seconds each.

usage: bench/convert_llama.py MODEL [--sizes 384:192 256:64 ...] [--train 256:64:1 256:64:2]
           [--seconds 60] [--device cuda]
MODEL: a directory with safetensors, or a .gguf file. Sizes are rank:rotary, to train rank:rotary:s.
"""

import argparse
import ast
import hashlib
import sys
import sysconfig
import time
import warnings
from pathlib import Path

import torch
from transformers import TrainerCallback, TrainingArguments

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from mtla_espnet.convert.llama import load
from mtla_espnet.hf.distillation import DistillationTrainer
from mtla_espnet.hf.from_llama import perplexity, to_mla, to_mtla

ROW, BATCH = 512, 16
LEAST_LETTERS = 200


def docstrings(most_bytes: int) -> tuple[str, str]:
    """Return texts to train on and held-out ones."""
    texts, held_out, size = [], [], 0
    for folder in ("stdlib", "purelib"):
        for path in sorted(Path(sysconfig.get_path(folder)).rglob("*.py")):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    tree = ast.parse(path.read_text(encoding="utf-8"))
            except (SyntaxError, ValueError, OSError, RecursionError):
                continue
            kinds = ast.Module | ast.ClassDef | ast.FunctionDef
            found = [ast.get_docstring(n) or "" for n in ast.walk(tree) if isinstance(n, kinds)]
            found = [text for text in found if len(text) >= LEAST_LETTERS]
            part = hashlib.sha256(path.name.encode()).digest()[0] % 8
            (held_out if part == 0 else texts).extend(found)
            size += sum(map(len, found))
            if size > most_bytes:
                return "\n\n".join(texts), "\n\n".join(held_out)
    return "\n\n".join(texts), "\n\n".join(held_out)


def rows(tokenizer, text: str, most: int) -> torch.Tensor:
    """Return (X, ROW) tokens, from everywhere in a text."""
    tokens = torch.tensor(tokenizer(text, verbose=False)["input_ids"])
    whole = tokens[: len(tokens) // ROW * ROW].view(-1, ROW)
    return whole[torch.linspace(0, len(whole) - 1, min(most, len(whole))).long()]


class Clock(TrainerCallback):
    """Ends a training after some seconds; the learning rate falls with the time.

    Args:
        seconds: of training.
    """

    def __init__(self, seconds: float):
        self.seconds, self.start = seconds, time.monotonic()

    def rate(self, step: int) -> float:
        """Return the factor of the learning rate."""
        return min(1.0, step / 20) * max(0.02, 1 - self._part())

    def _part(self) -> float:
        return (time.monotonic() - self.start) / self.seconds

    def on_step_end(self, args, state, control, **kwargs):
        """Stop when the time is over."""
        control.should_training_stop = self._part() >= 1


def train(student, teacher, data: torch.Tensor, arguments) -> int:
    """Train for the given seconds; return the updates."""
    is_cuda = arguments.device.startswith("cuda")
    told = TrainingArguments(
        "unused",
        max_steps=100_000,
        per_device_train_batch_size=BATCH,
        bf16=is_cuda,
        use_cpu=not is_cuda,
        logging_steps=50,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        max_grad_norm=1.0,
    )
    clock = Clock(arguments.seconds)
    optimizer = torch.optim.AdamW(student.parameters(), lr=arguments.lr, weight_decay=0.0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, clock.rate)
    trainer = DistillationTrainer(
        student,
        told,
        teacher=teacher,
        share=0.7,
        train_dataset=[{"input_ids": row, "labels": row} for row in data],
        optimizers=(optimizer, scheduler),
        callbacks=[clock],
    )
    trainer.train()
    return trainer.state.global_step


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument(
        "--sizes", nargs="*", default=["192:192", "384:64", "256:64", "256:32", "128:32", "64:32"]
    )
    parser.add_argument("--train", nargs="*", default=["256:64:1", "128:32:1", "256:64:2"])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--rows", type=int, default=64, help="to calibrate with, and to measure on")
    parser.add_argument("--megabytes", type=int, default=24, help="of text")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    llama, tokenizer = load(arguments.model)
    llama = llama.to(arguments.device).eval()
    texts = docstrings(arguments.megabytes << 20)
    data, held_out = (rows(tokenizer, text, 1 << 20) for text in texts)
    spread = torch.linspace(0, len(held_out) - 1, arguments.rows).long()
    measured = held_out[spread].to(arguments.device).split(4)
    spread = torch.linspace(0, len(data) - 1, arguments.rows).long()
    seen = data[spread].to(arguments.device).split(4)
    print(f"{data.numel()} tokens to train on, {len(spread) * ROW} measured")
    print("| model | numbers a position and layer | trained, s | updates | perplexity |")
    print("|:--|--:|--:|--:|--:|")

    def row(name: str, numbers: float, model, seconds: float = 0, updates: int = 0) -> None:
        found = perplexity(model, measured)
        told = f"| {name} | {numbers:g} | {seconds:g} | {updates} | {found:.2f} |"
        print(told, flush=True)

    config = llama.config
    row("given", 2 * config.num_key_value_heads * config.head_dim, llama)
    for size in dict.fromkeys([*arguments.sizes, *arguments.train]):
        rank, rope, rate = (*map(int, size.split(":")), 1)[:3]
        model, _ = to_mla(llama, seen, rank, rope)
        if rate > 1:
            model = to_mtla(model, rate)
        name = f"rank {rank}, rotary {rope}" + (f", s = {rate}" if rate > 1 else "")
        numbers = (rank + rope) / rate
        row(name, numbers, model)
        if size in arguments.train:
            updates = train(model.train(), llama, data, arguments)
            row(name, numbers, model.eval(), arguments.seconds, updates)


if __name__ == "__main__":
    main()
