"""What importing loads: the modules need PyTorch alone, and no more of it than they use."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import mtla_espnet
from mtla_espnet.attention.ops import choose

CHECKOUT = Path(__file__).resolve().parents[1]
ATTENTIONS = [name for name in mtla_espnet.__all__ if "Attention" in name]


def loaded_by(program):
    """Return the modules that a program loads in a process of its own."""
    program = f"{program}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=CHECKOUT, check=True
    )
    return set(done.stdout.split())


def test_the_package_itself_loads_nothing():
    loaded = loaded_by("import mtla_espnet")
    assert not loaded & {"torch", "espnet2", "numpy", "yaml"}


@pytest.mark.parametrize(
    "program",
    [
        f"from mtla_espnet import {', '.join(ATTENTIONS)}",
        "from mtla_espnet.attention.base import KINDS, attention_options\n"
        "for kind in KINDS: attention_options(kind)",
    ],
    ids=["modules", "options of a configuration"],
)
def test_the_attentions_load_pytorch_without_its_compiler_and_no_espnet(program):
    loaded = loaded_by(program)
    assert "torch" in loaded
    assert not loaded & {"torch._dynamo", "torch._inductor", "sympy", "triton", "espnet2"}


def test_a_constant_is_marked_as_pytorch_marks_one():
    marked = torch.compiler.assume_constant_result(lambda: 0)
    assert marked.__dict__ == choose._constant(lambda: 0).__dict__ != {}
