"""Capturing work as CUDA graphs, and what a graph cannot hold."""

import contextlib
import gc
import random
from collections.abc import Callable, Iterator

import numpy as np
import torch

from mtla_espnet.files import UserError

Work = Callable[[], None]


class CudaCapture:
    """Captures work on the GPU as CUDA graphs that share a memory pool."""

    def __init__(self):
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, work: Work) -> Work:
        """Return what replays `work`, which is captured and not run.

        Raises:
            UserError: it waits for the GPU, or the host draws random numbers in it.
        """
        graph, before = torch.cuda.CUDAGraph(), _host_random_state()
        capturing = torch.cuda.graph(
            graph,
            pool=self._pool,
            capture_error_mode="thread_local",  # loaders' threads may pin memory meanwhile
        )
        try:
            with _no_collection(), capturing:
                work()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            first = _first(error)
            reason = str(first).strip().partition("\n")[0]
            raise UserError(
                f"--train_graphs: this model cannot be captured ({reason}): train without"
            ) from first
        if _host_random_state() != before:
            raise UserError(
                "--train_graphs: the host draws random numbers in this model (layer drop, "
                "stochastic depth?), which a graph would repeat for ever: train without"
            )
        return graph.replay


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Let Python collect no garbage: to destroy another graph would break the capture."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _first(error: BaseException) -> BaseException:
    """Return what broke a capture: its end fails too, and says so alone."""
    while error.__context__ is not None:
        error = error.__context__
    return error


def _host_random_state() -> tuple:
    name, keys, *rest = np.random.get_state()
    torch_state = torch.get_rng_state().numpy().tobytes()
    return random.getstate(), (name, keys.tobytes(), *rest), torch_state
