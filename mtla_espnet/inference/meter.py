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

    Attributes:
        encoder_s: time in the model's encoder, front end included.
        search_s: time in the search, the prefix cache and CTC posteriors included.
        decoder_s: of it in the decoder and other scorers of all tokens.
        ctc_s: of it in CTC prefix scores.
        total_s: time from the beginning to the end of the measurement.
        processor_s: time that the processor worked in it, all threads of this process together.
        peak_memory_bytes: the most memory above what was in use at the beginning, when the
            model was loaded: activations and cache. None where it cannot be measured.
        mean_memory_bytes: the peak of a batch, averaged over utterances.
        cache_bytes_peak: the most bytes that the cache held, over all layers and rows.
            None for a decoder that is not ours.
        cache_bytes_prefix_peak: the most bytes that its prefixes took, as they are kept.
        cache_bytes_allocated: the most bytes of its buffers.
    """

    encoder_s: float = 0.0
    search_s: float = 0.0
    decoder_s: float = 0.0
    ctc_s: float = 0.0
    total_s: float = 0.0
    processor_s: float = 0.0
    peak_memory_bytes: int | None = None
    mean_memory_bytes: int | None = None
    cache_bytes_peak: int | None = None
    cache_bytes_prefix_peak: int | None = None
    cache_bytes_allocated: int | None = None


class Meter:
    """Adds up what the parts of a decode take.

    On CUDA a part is timed by events of its stream, which do not make the host wait.

    Args:
        device: where the parts compute.
    """

    def __init__(self, device: str | torch.device):
        self.cost = Cost()
        self._device = torch.device(device)
        self._begin, self._begin_processor, self._base_bytes = 0.0, 0.0, None
        self._batch_bytes, self._utterances = 0, 0  # a batch's bytes count once an utterance
        self._events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    @contextlib.contextmanager
    def whole(self) -> Iterator[Cost]:
        """Measure the block as a whole; its cost is complete after the block.

        On a CPU, decode something short before: the first time also loads pages of
        libraries, 40 MB of them in a test.
        """
        self._synchronize()
        self._base_bytes = _start_memory(self._device)
        self._begin, self._begin_processor = time.perf_counter(), time.process_time()
        yield self.cost
        self.until_now()

    def until_now(self) -> None:
        """Complete the cost of what has been measured so far, inside `whole`, between parts."""
        self._synchronize()
        self.cost.total_s = time.perf_counter() - self._begin
        self.cost.processor_s = time.process_time() - self._begin_processor
        for name, start, end in self._events:
            self._add(name, start.elapsed_time(end) / 1000)
        self._events.clear()
        self._note_peak()

    def end_batch(self, utterances: int) -> None:
        """Count the memory of a batch, and measure that of the next one anew; call after each.

        On a CPU freed memory is given back. In a process that has trained before, batches else
        wander over it page by page: 450 MB were counted where 60 were in use.

        Args:
            utterances: that the batch had.
        """
        peak_bytes = self._note_peak()
        if peak_bytes is not None and utterances:
            self._batch_bytes += peak_bytes * utterances
            self._utterances += utterances
            self.cost.mean_memory_bytes = round(self._batch_bytes / self._utterances)
        if self._base_bytes is not None:
            _start_memory(self._device)

    def _note_peak(self) -> int | None:
        """Return the peak since the batch began, above the bytes in use at the beginning."""
        if self._base_bytes is None:
            return None
        peak_bytes = max(0, _peak_memory(self._device) - self._base_bytes)
        self.cost.peak_memory_bytes = max(peak_bytes, self.cost.peak_memory_bytes or 0)
        return peak_bytes

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the time of the block to the field `name` of the cost."""
        if self._device.type == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            try:
                yield
            finally:
                end.record()
                self._events.append((name, start, end))
            return
        begin = time.perf_counter()
        try:
            yield
        finally:
            self._add(name, time.perf_counter() - begin)

    def watch(self, name: str, scorer, *methods: str) -> None:
        """Count the calls of a scorer's methods as a part from now on.

        Args:
            name: field of the cost.
            scorer: any object; where it has a `cache`, its sizes are noted after each call.
            methods: names of its methods.
        """
        for method in methods:
            vars(scorer)[method] = self._timed(name, getattr(scorer, method), scorer)

    def note_cache(self, cache) -> None:
        """Note the sizes of a decoder's cache, where there is one."""
        if cache is None:
            return
        sizes = {
            "cache_bytes_peak": cache.nbytes,
            "cache_bytes_prefix_peak": cache.prefix_nbytes,
            "cache_bytes_allocated": cache.nbytes_allocated,
        }
        for name, size in sizes.items():
            setattr(self.cost, name, max(getattr(self.cost, name) or 0, size))

    def _timed(self, name: str, function: Callable, scorer) -> Callable:
        @functools.wraps(function)
        def timed(*args):
            with self.part(name):
                result = function(*args)
            self.note_cache(getattr(scorer, "cache", None))
            return result

        return timed

    def _add(self, name: str, seconds: float) -> None:
        setattr(self.cost, name, getattr(self.cost, name) + seconds)

    def _synchronize(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def _start_memory(device: torch.device) -> int | None:
    """Forget the peak of memory so far; return the bytes in use, None if it cannot be told."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    _give_back_freed()  # what was freed but kept would be used again unseen
    try:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: VmHWM becomes VmRSS
    except OSError:
        return None
    return _peak_memory(device)


def _give_back_freed() -> None:
    """Return freed memory to the system, where the C library can (glibc)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    raise RuntimeError("/proc/self/status has no line VmHWM")
