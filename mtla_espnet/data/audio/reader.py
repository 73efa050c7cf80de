"""Reading audio strictly: all that there is, one channel, finite samples of the right scale."""

import math
import os
import tempfile
from typing import NamedTuple

import numpy as np

from mtla_espnet.data.archives.ark import ark_file, is_ark_place, read_ark_audio
from mtla_espnet.data.archives.fairseq_zip import parse_place
from mtla_espnet.data.audio.length import Claim
from mtla_espnet.data.audio.sound_file import Sound, check_rate, sound_length
from mtla_espnet.data.kaldi.pipes import is_command, run_command
from mtla_espnet.files import UserError

# A segment may end this much after its recording (rounded times); it is cut short.
_OVERSHOOT_S = 0.5
# Full scale is 1, and a hot mix in floats may go beyond it by a little. Values that are larger
# are of another scale, such as that of 16-bit integers.
_LOUDEST = 8.0


def read_audio(
    path: str | os.PathLike,
    start_s: float | None = None,
    end_s: float | None = None,
    channel: int | None = 0,
) -> tuple[np.ndarray, int]:
    """Read one channel of a recording, or of a part of it.

    Args:
        path: a file that libsndfile or FFmpeg reads (wav, flac, sph, ogg, opus, mp3, m4a ...),
            or a place in a Kaldi archive, `file.ark:25`, or in a zip, `file.zip:25:4000`.
        start_s: where the part starts, in seconds; the beginning if None.
        end_s: where it ends; the end of the recording if None.
        channel: from 0; None: the mean of all.

    Returns:
        (T,) float32 in [-1, 1), and the sample rate in Hz.

    Raises:
        UserError: the file is missing, truncated, empty or not audio, the part or the
            channel is not in it, the channel is all zeros beside one that is not, or samples
            are of another scale; the message starts with the path.
    """
    return AudioReader().read(os.fspath(path), start_s, end_s, channel)


def audio_length(entry: str, exact: bool = True) -> tuple[int, int]:
    """Return how long a recording is; only what no header proves is decoded.

    Args:
        entry: a path as of `read_audio`; a command is not run.
        exact: False: for an estimate, what a header says is enough.

    Returns:
        Rate in Hz, and number of samples, at least 1.

    Raises:
        UserError: it is missing, truncated, empty or not audio; begins with the entry.
    """
    if is_ark_place(entry):
        samples, rate_hz = read_ark_audio(entry)
        return rate_hz, len(samples)
    return sound_length(entry, exact)


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
        self._claim: tuple[str, Claim] | None = None

    def read(
        self,
        entry: str,
        start_s: float | None = None,
        end_s: float | None = None,
        channel: int | None = 0,
    ) -> tuple[np.ndarray, int]:
        """Read one channel of a recording, or of a part of it.

        Args:
            entry: path of a file, a place in an archive or a zip, or a command.
            start_s: where the part starts, in seconds; the beginning if None.
            end_s: where it ends; the end of the recording if None.
            channel: from 0; None: the mean of all.

        Returns:
            (T,) float32 in [-1, 1), and the sample rate in Hz.

        Raises:
            UserError: it cannot be used, or is a command that is not allowed, or fails; the
                message starts with the entry.
        """
        if self._kept is not None and self._kept[0] == entry:
            found = self._cut(entry, start_s, end_s)
        elif is_command(entry):
            found = self._keep(entry, *self._run(entry), start_s, end_s)
        elif is_ark_place(entry):
            found = self._keep(entry, *read_ark_audio(entry), start_s, end_s)
        else:
            found = self._from_file(entry, start_s, end_s)
        samples, rate_hz = found
        check_rate(entry, rate_hz)
        samples = _one_channel(entry, samples, channel)
        _check_values(entry, samples)
        return samples, rate_hz

    def _from_file(
        self, entry: str, start_s: float | None, end_s: float | None
    ) -> tuple[np.ndarray, int]:
        """Read a part of a sound file, (T, C), without the rest of it where that can be."""
        known = self._claim is not None and self._claim[0] == entry
        with Sound(entry, claim=self._claim[1] if known else None) as sound:
            self._claim = (entry, sound.claim)
            if sound.proven:
                rate_hz, total = sound.length()
                return sound.read(*_bounds(entry, total, rate_hz, start_s, end_s)), rate_hz
            recording, rate_hz = sound.read_all()
        if start_s is None and end_s is None:
            return recording, rate_hz
        return self._keep(entry, recording, rate_hz, start_s, end_s)

    def _keep(
        self,
        entry: str,
        recording: np.ndarray,
        rate_hz: int,
        start_s: float | None,
        end_s: float | None,
    ) -> tuple[np.ndarray, int]:
        self._kept = (entry, recording, rate_hz)
        return self._cut(entry, start_s, end_s)

    def _cut(
        self, entry: str, start_s: float | None, end_s: float | None
    ) -> tuple[np.ndarray, int]:
        _, recording, rate_hz = self._kept
        start, end = _bounds(entry, len(recording), rate_hz, start_s, end_s)
        return recording[start:end], rate_hz

    def _run(self, entry: str) -> tuple[np.ndarray, int]:
        if not self._allow_pipes:
            raise UserError(f"`{entry}`: commands are run only with --allow_pipes true")
        with tempfile.NamedTemporaryFile() as output:
            run_command(entry, output)
            output.flush()
            with Sound(output.name, f"`{entry}`") as sound:
                return sound.read_all()


class SourcePart(NamedTuple):
    """Where the audio of an utterance is: a recording, or a part of it.

    Args:
        utterance: its id.
        path: of the recording, as in `wav.scp`.
        start_s: where the part starts, in seconds; None: the beginning.
        end_s: where it ends; None: the end of the recording.
        channel: from 0; None: the mean of all.
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


def _check_values(name: str, samples: np.ndarray) -> None:
    lowest, highest = float(samples.min()), float(samples.max())
    if not (math.isfinite(lowest) and math.isfinite(highest)):
        raise UserError(f"{name}: has samples that are not finite numbers")
    if max(-lowest, highest) > _LOUDEST:
        raise UserError(
            f"{name}: has samples of the size {max(-lowest, highest):.6g}, and full scale is 1: "
            "scale it (values of 16-bit integers: divide by 32768)"
        )


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
