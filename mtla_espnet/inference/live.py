"""Speech that is recognised while it comes: raw samples on a pipe, piece by piece."""

import logging
import queue
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mtla_espnet.files import UserError
from mtla_espnet.inference.from_files import load
from mtla_espnet.inference.pieces import LONGEST_S, Piece, recognised
from mtla_espnet.inference.samples import resampled
from mtla_espnet.inference.speech_activity import by_loudness, by_silero, stream_pieces
from mtla_espnet.inference.times import check_times

_SAMPLE_BYTES = 2
_CHUNK_BYTES = 1 << 12
_FULL_SCALE = 1 << 15
_STREAM = Path("-")


def recognise_live(
    task: str,
    model: Path,
    stream: BinaryIO,
    rate_hz: int | None = None,
    *,
    inference_config: Path | None = None,
    options: Mapping[str, object] | None = None,
    device: str = "auto",
    cut_at: str = "silence",
    longest_s: float = LONGEST_S,
    times: str | None = None,
) -> Iterator[Piece]:
    """Recognise, translate or understand a stream, a piece after each pause.

    This is no streaming recognition: a piece is decoded when its speaker pauses.

    Args:
        task: its name: asr, st or slu.
        model: an experiment's directory, or a pack of it.
        stream: 16-bit little-endian samples of one channel. It is read in a thread of its own, so
            that nothing is lost while the model is loaded or decodes.
        rate_hz: of the samples; None: that of the model.
        inference_config: a YAML file of decoding options; None: what is kept with the model.
        options: of the search, over those of the configuration.
        device: of torch; "auto": CUDA where there is a GPU, else the CPU.
        cut_at: how pauses are found: `silence`, by loudness; `vad`, by Silero VAD.
        longest_s: of a piece, in seconds; a longer one is cut where it is quietest.
        times: `word` or `token`: tell when each is spoken, by CTC.

    Yields:
        Pieces, with times in seconds of the stream.

    Raises:
        UserError: an option means nothing, or the model is not whole or of another task.
    """
    if cut_at not in ("silence", "vad"):
        raise UserError(f"a stream is cut at silence or by vad, not at {cut_at}", exit_code=2)
    speaks = by_silero() if cut_at == "vad" else by_loudness()
    chunks = _read_ahead(stream)
    hears = load(task, model, inference_config, options, device)
    if times:
        check_times(hears, model)
    own_hz = rate_hz or hears.rate_hz
    logging.warning(f"listening to 16-bit samples of one channel, {own_hz} a second")

    def pieces() -> Iterator[tuple[Piece, np.ndarray]]:
        for start_s, samples in stream_pieces(chunks, own_hz, longest_s, speaks):
            end_s = start_s + len(samples) / own_hz
            piece = Piece(_STREAM, start_s, end_s, text="", whole=False)
            yield piece, resampled(samples, own_hz, hears.rate_hz)

    def refuse(path: Path, error: UserError) -> None:
        logging.warning(str(error))

    yield from recognised(hears, pieces(), refuse, times, batch_size=1)


def _read_ahead(stream: BinaryIO) -> Iterator[np.ndarray]:
    """Read samples in a thread from now on; yield (N,) float32 of them, to the stream's end."""
    waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def read() -> None:
        while chunk := stream.read1(_CHUNK_BYTES):
            waiting.put(chunk)
        waiting.put(b"")

    threading.Thread(target=read, daemon=True).start()

    def chunks() -> Iterator[np.ndarray]:
        left = b""
        while chunk := waiting.get():
            left += chunk
            whole = len(left) - len(left) % _SAMPLE_BYTES
            yield np.frombuffer(left[:whole], dtype="<i2").astype(np.float32) / _FULL_SCALE
            left = left[whole:]

    return chunks()
