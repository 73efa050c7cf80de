"""What a GPU works, whatever its host does: the time of kernels, by the profiler."""

from collections.abc import Callable

import torch


def kernels(run: Callable[[], object]) -> list:
    """Return the kernels of a call, the longest first.

    Args:
        run: what to profile; it has run before, so that nothing is compiled or captured.

    Returns:
        The profiler's sums: `key`, `count`, `self_device_time_total` in microseconds.
    """
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as found:
        run()
        torch.cuda.synchronize()
    return sorted(found.key_averages(), key=lambda event: -event.self_device_time_total)


def kernel_ms(found: list) -> float:
    """Return the sum of what `kernels` found, in milliseconds."""
    return sum(event.self_device_time_total for event in found) / 1e3
