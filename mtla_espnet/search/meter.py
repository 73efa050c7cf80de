"""Time and memory of a decode, measured directly around its parts."""

import contextlib
import ctypes
import dataclasses
import functools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch


@dataclasses.dataclass
class Cost:
    """What a decode took. Times are in seconds, sizes in bytes.

    Args:
        encoder_s: time in the model's `encode`.
        search_s: time in the beam search.
        total_s: time from the beginning to the end of the measurement.
        peak_memory_bytes: the most memory above what was in use at the beginning, when the
            model was loaded: activations and cache. None where it cannot be measured.
        cache_bytes_peak: the most bytes that the cache held, over all layers and rows.
            None for a decoder whose states have no `cache`.
        cache_bytes_allocated: the most bytes of its buffers.
    """

    encoder_s: float = 0.0
    search_s: float = 0.0
    total_s: float = 0.0
    peak_memory_bytes: int | None = None
    cache_bytes_peak: int | None = None
    cache_bytes_allocated: int | None = None


@contextlib.contextmanager
def measure(
    model: torch.nn.Module, search: torch.nn.Module, device: str | torch.device
) -> Iterator[Cost]:
    """Measure what is decoded inside the `with` block.

    Wraps `model.encode`, `model.decoder.batch_score` and `search.forward` for that time.
    On CUDA each measured part ends with a synchronisation. On a CPU, decode a short utterance
    before: the first one also loads pages of libraries, 40 MB of them in a test.

    Args:
        model: an ESPnet model.
        search: an ESPnet beam search over `model.decoder`.
        device: where both compute.

    Yields:
        The cost; `total_s` and `peak_memory_bytes` are there after the block.
    """
    device = torch.device(device)
    synchronize = torch.cuda.synchronize if device.type == "cuda" else _nothing
    cost = Cost()

    def watch_cache(batch_score):
        @functools.wraps(batch_score)  # the search looks at its signature
        def watched(*args, **kwargs):
            scores, states = batch_score(*args, **kwargs)
            cache = getattr(states, "cache", None)
            if cache is not None:
                cost.cache_bytes_peak = max(cost.cache_bytes_peak or 0, cache.nbytes)
                allocated = max(cost.cache_bytes_allocated or 0, cache.nbytes_allocated)
                cost.cache_bytes_allocated = allocated
            return scores, states

        return watched

    with (
        _replaced(model, "encode", _timed(cost, "encoder_s", synchronize)),
        _replaced(search, "forward", _timed(cost, "search_s", synchronize)),
        _replaced(model.decoder, "batch_score", watch_cache),
    ):
        synchronize()
        base = _start_memory(device)
        begin = time.perf_counter()
        yield cost
        synchronize()
        cost.total_s = time.perf_counter() - begin
        if base is not None:
            cost.peak_memory_bytes = max(0, _peak_memory(device) - base)


def _nothing() -> None:
    """Stand for a synchronisation where there is none to do."""


def _timed(cost: Cost, field: str, synchronize: Callable) -> Callable:
    """Return a decorator that adds the time of a function's outermost calls to `cost`."""

    def decorate(function):
        depth = 0

        @functools.wraps(function)
        def timed(*args, **kwargs):
            nonlocal depth
            depth += 1
            begin = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                depth -= 1
                if depth == 0:  # ESPnet's search calls itself where it found nothing
                    synchronize()
                    setattr(cost, field, getattr(cost, field) + time.perf_counter() - begin)

        return timed

    return decorate


@contextlib.contextmanager
def _replaced(owner: torch.nn.Module, name: str, decorate: Callable) -> Iterator[None]:
    """Let an instance's method be a decorated one inside the block."""
    if name in vars(owner):
        raise RuntimeError(f"{type(owner).__name__}.{name} is being measured already")
    vars(owner)[name] = decorate(getattr(owner, name))
    try:
        yield
    finally:
        del vars(owner)[name]


def _start_memory(device: torch.device) -> int | None:
    """Forget the peak of memory so far; return the bytes in use, None if it cannot be told."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    # Memory that was freed but kept would be used again unseen. Only glibc has malloc_trim.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: VmHWM becomes VmRSS
    except OSError:
        return None
    return _peak_memory(device)


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    raise RuntimeError("/proc/self/status has no line VmHWM")
