"""Pieces of a recording, or of a stream while it comes, that hold speech.

A window of 32 ms holds speech where Silero VAD says so (package `silero-vad`, whose weights come
with it), or where it is clearly louder than the quietest of the last seconds. A piece ends at a
pause; one that grows too long is cut where it is quietest.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import soxr
import torch

from mtla_espnet.data.audio.cut_recordings import cut

# What Silero VAD hears at once: so many samples at that rate.
WINDOW, WINDOW_RATE_HZ = 512, 16000
_SPEECH = 0.5  # the probability that its makers recommend
_PAUSE_S = 0.5
_MARGIN_S = 0.2  # kept before and after speech
# By loudness: so many dB above the quietest of the last seconds, and above silence.
_LOUDER_DB, _SILENCE_DB, _REMEMBERED_S = 12.0, -60.0, 10.0

# Tells of (WINDOW,) float32 samples, which follow those of the last call, whether somebody speaks.
type Speaks = Callable[[np.ndarray], bool]


def by_silero() -> Speaks:
    """Return what tells by Silero VAD whether somebody speaks.

    Raises:
        ModuleNotFoundError: `silero-vad` is not installed.
    """
    threads = torch.get_num_threads()
    from silero_vad import load_silero_vad  # here: few need it; it sets the number of threads

    torch.set_num_threads(threads)
    model = load_silero_vad()

    def speaks(window: np.ndarray) -> bool:
        with torch.inference_mode():
            return float(model(torch.from_numpy(window), WINDOW_RATE_HZ)) >= _SPEECH

    return speaks


def by_loudness() -> Speaks:
    """Return what tells by loudness alone whether somebody speaks."""
    last = deque(maxlen=int(_REMEMBERED_S * WINDOW_RATE_HZ / WINDOW))

    def speaks(window: np.ndarray) -> bool:
        level = 10 * np.log10(float(np.square(window, dtype=np.float64).mean()) + 1e-12)
        last.append(level)
        return level > max(min(last) + _LOUDER_DB, _SILENCE_DB)

    return speaks


class SpeechCutter:
    """Cuts a stream into pieces that hold speech.

    Args:
        rate_hz: of the stream.
        longest_s: of a piece, in seconds.
        speaks: tells whether somebody speaks in a window.
    """

    def __init__(self, rate_hz: int, longest_s: float, speaks: Speaks):
        self._rate_hz, self._longest_s, self._speaks = rate_hz, longest_s, speaks
        self._resample = soxr.ResampleStream(rate_hz, WINDOW_RATE_HZ, 1, dtype="float32")
        self._waiting = np.zeros(0, dtype=np.float32)  # less than a window
        self._kept = np.zeros(0, dtype=np.float32)  # of the stream, from sample `_first` on
        self._first = 0
        self._windows = 0
        self._start: int | None = None  # sample where the open piece begins
        self._spoken = 0  # sample after the last window with speech

    def feed(self, samples: np.ndarray, last: bool = False) -> Iterator[tuple[int, np.ndarray]]:
        """Take what comes next of the stream.

        Args:
            samples: (N,) float32.
            last: nothing comes after it.

        Yields:
            Pieces that are finished: their first sample, counted from the beginning of the
            stream, and their (M,) samples.
        """
        self._kept = np.concatenate([self._kept, samples])
        heard = self._resample.resample_chunk(samples.astype(np.float32), last=last)
        self._waiting = np.concatenate([self._waiting, heard])
        if last and len(self._waiting):
            self._waiting = np.pad(self._waiting, (0, -len(self._waiting) % WINDOW))
        while len(self._waiting) >= WINDOW:
            window, self._waiting = self._waiting[:WINDOW], self._waiting[WINDOW:]
            yield from self._hear(np.ascontiguousarray(window))
        if last and self._start is not None:
            yield self._take(self._spoken + self._in_samples(_MARGIN_S))

    def _hear(self, window: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        before = self._in_samples(self._windows * WINDOW / WINDOW_RATE_HZ)
        self._windows += 1
        now = self._in_samples(self._windows * WINDOW / WINDOW_RATE_HZ)
        margin = self._in_samples(_MARGIN_S)
        if self._speaks(window):
            if self._start is None:
                self._start = max(self._first, before - margin)
            self._spoken = now
        if self._start is None:
            self._forget(now - margin)
        elif now - self._spoken >= self._in_samples(_PAUSE_S):
            yield self._take(self._spoken + margin)
        elif now - self._start > self._longest_s * self._rate_hz:
            own = self._kept[self._start - self._first : now - self._first]
            end = self._start + cut(own, self._rate_hz, self._longest_s)[0][1]
            yield self._take(end)
            self._start = end

    def _take(self, end: int) -> tuple[int, np.ndarray]:
        start, self._start = self._start, None
        piece = self._kept[start - self._first : end - self._first].copy()
        self._forget(end)
        return start, piece

    def _forget(self, until: int) -> None:
        """Drop the samples before one."""
        until = max(until, self._first)
        self._kept = self._kept[until - self._first :]
        self._first = until

    def _in_samples(self, seconds: float) -> int:
        return round(seconds * self._rate_hz)


def speech_bounds(
    samples: np.ndarray, rate_hz: int, longest_s: float, speaks: Speaks
) -> list[tuple[int, int]]:
    """Cut a recording into pieces that hold speech, one between two pauses.

    Args:
        samples: (T,) float32.
        rate_hz: of the samples.
        longest_s: of a piece, in seconds; a longer one is cut where it is quietest.
        speaks: tells whether somebody speaks in a window.

    Returns:
        First sample and the one after the last of each piece; what is between them is not speech.
    """
    pieces = SpeechCutter(rate_hz, longest_s, speaks).feed(samples, last=True)
    return [(start, start + len(piece)) for start, piece in pieces]


def stream_pieces(
    chunks: Iterable[np.ndarray], rate_hz: int, longest_s: float, speaks: Speaks
) -> Iterator[tuple[float, np.ndarray]]:
    """Cut a stream into pieces, each as soon as it is finished.

    Args:
        chunks: (N,) float32 samples as they come.
        rate_hz: of the samples.
        longest_s: of a piece, in seconds.
        speaks: tells whether somebody speaks in a window.

    Yields:
        Where a piece starts, in seconds of the stream, and its samples.
    """
    cutter = SpeechCutter(rate_hz, longest_s, speaks)
    for chunk in chunks:
        for start, piece in cutter.feed(chunk):
            yield start / rate_hz, piece
    for start, piece in cutter.feed(np.zeros(0, dtype=np.float32), last=True):
        yield start / rate_hz, piece
