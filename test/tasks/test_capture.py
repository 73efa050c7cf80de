import contextlib
import gc
import random

import numpy as np
import pytest
import torch

from mtla_espnet.files import UserError
from mtla_espnet.tasks.capture import CudaCapture

pytestmark = pytest.mark.espnet


@pytest.fixture
def captures(monkeypatch):
    """Captures run their work, as if there were a GPU."""

    class Graph:
        def replay(self):
            pass

    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 0))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", lambda *place, **mode: contextlib.nullcontext())
    return CudaCapture()


def test_waiting_for_the_gpu_is_refused(captures, monkeypatch):
    def waits():
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore")

    @contextlib.contextmanager
    def failing(*place, **mode):
        try:
            yield
        finally:
            raise RuntimeError("CUDA error: operation failed due to a previous error")

    monkeypatch.setattr(torch.cuda, "graph", failing)

    with pytest.raises(UserError) as refusal:
        captures(waits)
    assert str(refusal.value) == (
        "--train_graphs: this model cannot be captured (CUDA error: operation not permitted when "
        "stream is capturing): train without"
    )


def test_too_little_memory_is_said_as_ever(captures):
    def needs_more():
        raise torch.OutOfMemoryError("no memory")

    with pytest.raises(torch.OutOfMemoryError, match="no memory"):
        captures(needs_more)


def test_no_garbage_is_collected_during_a_capture(captures):
    seen = []
    captures(lambda: seen.append(gc.isenabled()))
    assert seen == [False] and gc.isenabled()


@pytest.mark.parametrize("draw", [lambda: torch.rand(1), np.random.rand, random.random])
def test_random_numbers_of_the_host_are_refused(captures, draw):
    captures(lambda: None)
    with pytest.raises(UserError, match="the host draws random numbers in this model"):
        captures(draw)
