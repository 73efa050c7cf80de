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
    assert not loaded & {"torch", "espnet2", "numpy", "yaml", "transformers"}


def test_the_names_for_transformers_load_it_when_they_are_used():
    loaded = loaded_by(
        "import sys\nfrom mtla_espnet import MultiheadAttention\n"
        "assert 'transformers' not in sys.modules\nfrom mtla_espnet import LlamaMTLAConfig"
    )
    assert "transformers" in loaded and "espnet2" not in loaded


@pytest.mark.parametrize(
    "program",
    [
        f"from mtla_espnet import {', '.join(ATTENTIONS)}",
        "from mtla_espnet.attention.kinds import KINDS, attention_options\n"
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


BARE = (sys.executable, "-S")  # a Python without any package


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-m", "mtla_espnet", "transcribe", "--model", "m", "a.wav"), "error: this command "),
        (("-m", "mtla_espnet", "recipe", "asr", "--train_set", "a"), "error: this command "),
        (("-m", "mtla_espnet", "-m", "espnet2.bin.asr_train"), "error: espnet2.bin.asr_train "),
        (("-c", "from mtla_espnet import Speech2Text"), "ImportError: Speech2Text: "),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, tuple) else None,
)
def test_without_the_recipes_packages_the_command_says_what_to_install(arguments, message):
    done = subprocess.run(
        [*BARE, *arguments], capture_output=True, text=True, cwd=CHECKOUT, check=False
    )
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1
    assert last.startswith(f"{message}needs ")
    assert last.endswith(": pip install 'mtla-espnet[recipes]'")
    if arguments[0] == "-m":
        assert len(done.stderr.splitlines()) == 1


def test_a_module_that_the_recipes_do_not_need_is_told_as_it_is():
    assert mtla_espnet.missing_recipes(ModuleNotFoundError(name="kenlm")) is None


def test_help_needs_no_package():
    done = subprocess.run(
        [*BARE, "-m", "mtla_espnet", "--help"], capture_output=True, cwd=CHECKOUT, check=False
    )
    assert done.returncode == 0
