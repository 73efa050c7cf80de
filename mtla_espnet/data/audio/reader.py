"""Reading audio strictly: the whole of what a file promises, one channel, finite samples."""

import os
import tempfile
from typing import NamedTuple

import numpy as np
import soundfile

from mtla_espnet.data.archives.ark import ark_file, is_ark_place, read_ark_audio
from mtla_espnet.data.archives.fairseq_zip import parse_place
from mtla_espnet.data.audio.length import check_length
from mtla_espnet.data.kaldi.pipes import is_command, run_command
from mtla_espnet.files import UserError

# A segment may end this much after its recording (rounded times); it is cut short.
_OVERSHOOT_S = 0.5
# An mp3 header counts samples that the decoder drops: up to two frames.
_MP3_SLACK_SAMPLES = 2 * 1152


def read_audio(
    path: str | os.PathLike,
    start_s: float | None = None,
    end_s: float | None = None,
    channel: int | None = 0,
) -> tuple[np.ndarray, int]:
    """Read one channel of a recording, or of a part of it.

    Args:
        path: a file that libsndfile reads (wav, flac, sph, ogg, opus, mp3 ...), or a place
            in a Kaldi archive, `file.ark:25`.
        start_s: where the part starts, in seconds; the beginning if None.
        end_s: where it ends; the end of the recording if None.
        channel: from 0; None: the mean of all.

    Returns:
        (T,) float32 in [-1, 1), and the sample rate in Hz.

    Raises:
        UserError: the file is missing, truncated, empty or not audio, the part or the
            channel is not in it, or the channel is all zeros beside one that is not; the
            message starts with the path.
    """
    return AudioReader().read(os.fspath(path), start_s, end_s, channel)


def channel_number(text: str) -> int | None:
    """Return the channel that an option `--channel` names; None for the mean of all.

    Raises:
        UserError: it names none.

    Example:
        >>> channel_number("1"), channel_number("mean")
        (1, None)
    """
    if text != "mean" and not text.isdecimal():
        raise UserError(f"--channel must be a number from 0, or mean, not {text!r}", exit_code=2)
    return None if text == "mean" else int(text)


class AudioReader:
    """Reads parts of recordings; a recording that must be read whole is kept for the next.

    Args:
        allow_pipes: run entries that are commands, `sox a.wav -t wav - |`.
    """

    def __init__(self, allow_pipes: bool = False):
        self._allow_pipes = allow_pipes
        self._kept: tuple[str, np.ndarray, int] | None = None  # entry, (T, C), rate

    def read(
        self,
        entry: str,
        start_s: float | None = None,
        end_s: float | None = None,
        channel: int | None = 0,
    ) -> tuple[np.ndarray, int]:
        """Read a part; see `read_audio`, of which `entry` is the path or a command.

        Raises:
            UserError: see there; or a command that is not allowed, or fails.
        """
        if is_command(entry) or is_ark_place(entry):
            recording, rate_hz = self._whole(entry)
            start, end = _bounds(entry, len(recording), rate_hz, start_s, end_s)
            samples = recording[start:end]
        else:
            samples, rate_hz = _read_part(entry, entry, start_s, end_s)
        samples = _one_channel(entry, samples, channel)
        if not np.isfinite(samples).all():
            raise UserError(f"{entry}: has samples that are not finite numbers")
        return samples, rate_hz

    def _whole(self, entry: str) -> tuple[np.ndarray, int]:
        if self._kept is None or self._kept[0] != entry:
            if is_ark_place(entry):
                self._kept = (entry, *read_ark_audio(entry))
            else:
                self._kept = (entry, *self._run(entry))
        return self._kept[1:]

    def _run(self, entry: str) -> tuple[np.ndarray, int]:
        if not self._allow_pipes:
            raise UserError(f"`{entry}`: commands are run only with --allow_pipes true")
        with tempfile.NamedTemporaryFile() as output:
            run_command(entry, output)
            output.flush()
            return _read_part(output.name, f"`{entry}`", None, None)


class Part(NamedTuple):
    """Where the audio of an utterance is: a recording, or a part of it.

    Args:
        utterance: its id.
        path: of the recording, as in `wav.scp`.
        start_s: see `read_audio`, as the next two.
        end_s: see there.
        channel: see there.
        file: the table that says so.
        line: where in that table, from 1.
    """

    utterance: str
    path: str
    start_s: float | None = None
    end_s: float | None = None
    channel: int | None = 0
    file: str = "wav.scp"
    line: int | None = None

    def source_files(self) -> list[str]:
        """Return the files that are read; none where a command reads them."""
        if is_command(self.path):
            return []
        if is_ark_place(self.path):
            return [ark_file(self.path)]
        place = parse_place(self.path)
        return [place.path if place else self.path]


def _read_part(
    path: str, name: str, start_s: float | None, end_s: float | None
) -> tuple[np.ndarray, int]:
    """Read a part of a sound file, (T, C), without reading the rest of it."""
    if not os.path.isfile(path):
        raise UserError(f"{name}: no such file")
    if not os.path.getsize(path):
        raise UserError(f"{name}: is empty (0 bytes)")
    try:
        with soundfile.SoundFile(path) as sound:
            check_length(path, sound)
            start, end = _bounds(name, sound.frames, sound.samplerate, start_s, end_s)
            sound.seek(start)
            samples = sound.read(end - start, dtype="float32", always_2d=True)
            rate_hz = sound.samplerate
    except soundfile.LibsndfileError as error:
        raise UserError(f"{name}: cannot be read as audio: {error.error_string}") from None
    slack = _MP3_SLACK_SAMPLES if sound.format == "MP3" else 0
    if len(samples) < end - start - slack:
        raise UserError(
            f"{name}: truncated: its header promises {end - start} samples "
            f"from sample {start}, {len(samples)} are there"
        )
    return samples, rate_hz


def _one_channel(name: str, samples: np.ndarray, channel: int | None) -> np.ndarray:
    """Turn (T, C) into (T,)."""
    if channel is None:
        return samples.mean(axis=1, dtype=np.float32)
    count = samples.shape[1]
    if not 0 <= channel < count:
        has = "one channel" if count == 1 else f"{count} channels"
        raise UserError(f"{name}: has {has}, and no channel {channel} (the first is 0)")
    chosen = np.ascontiguousarray(samples[:, channel])
    if count > 1 and not chosen.any() and samples.any():
        raise UserError(
            f"{name}: channel {channel} is silent (all zeros) and another one is not: "
            "take another --channel, or mean"
        )
    return chosen


def _bounds(
    path: str, total: int, rate_hz: int, start_s: float | None, end_s: float | None
) -> tuple[int, int]:
    """Return first and end sample of a part of a recording of `total` samples."""
    if total == 0:
        raise UserError(f"{path}: has no samples")
    start = 0 if start_s is None else round(start_s * rate_hz)
    end = total if end_s is None else round(end_s * rate_hz)
    if end > total + _OVERSHOOT_S * rate_hz or start >= min(end, total):
        raise UserError(
            f"{path}: is {total / rate_hz:.3f} s long, and has no part "
            f"from {start / rate_hz:.3f} s to {end / rate_hz:.3f} s"
        )
    return start, min(end, total)
