"""Triton kernels without a GPU: it interprets them only if told before it is imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

_PLACES = ("attention/ops", "search/graph", "tasks")


def run_interpreted(code: str, lines: int) -> None:
    """Run Python code that prints so many lines, where test files import each other."""
    pytest.importorskip("triton")
    here = Path(__file__).parent
    places = (here.parent, here, *(here / each for each in _PLACES))
    environment = os.environ | {
        "TRITON_INTERPRET": "1",
        "PYTHONPATH": os.pathsep.join(map(str, places)),
    }
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0 and run.stdout.count("\n") == lines, run.stdout + run.stderr
