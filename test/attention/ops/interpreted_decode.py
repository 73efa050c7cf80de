"""Run by test_decode.py in a process of its own, where Triton interprets its kernels."""

import sys

import test_decode
from triton.runtime import interpreter

from mtla_espnet.attention.ops import decode, decode_triton

# Kinds, and the parts that their prefixes are split into.
KINDS = (
    (("gqa", {"num_kv_heads": 2}), 3),
    (("mla", {"q_lora_rank": 12}), 1),
    (("mtla", {"down_rate": 3}), 2),
    (("gla", {}), 1),
)


def let_loops_end_at_loaded_numbers():
    """NumPy turns no array of one element into an index, which Triton's interpreter asks for."""
    patch = interpreter._patch_lang_tensor

    def patched(tensor, scope):
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: self.handle.data.item())

    interpreter._patch_lang_tensor = patched


def main():
    let_loops_end_at_loaded_numbers()
    test_decode.BATCH, test_decode.BEAMS, test_decode.SLOTS = 2, 2, 50
    test_decode.PREFIXES = [200, 41]
    for kind, parts in KINDS:
        decode_triton.prefix_parts = lambda *_, parts=parts: parts
        ours, plain = (test_decode.outcome(kind, form) for form in (decode_triton, decode))
        worst = max((a - b).abs().max().item() for a, b in zip(ours, plain, strict=True))
        print(*kind, parts, worst)
        if not worst < 1e-4:
            sys.exit(1)
