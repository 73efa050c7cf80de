"""Sound files: how long they are, and their samples. Whoever asks for either asks here.

What a header says counts where the file's bytes prove it (`length`). Other files are
decoded to their end: variable MP3 and FLAC that a stream made, joined Ogg, MP3 inside of wav,
and the formats that FFmpeg reads and libsndfile does not, such as AAC.
"""

import os
from collections.abc import Iterator
from typing import Self

import numpy as np
import soundfile

from mtla_espnet.data.archives.fairseq_zip import PlaceReader, parse_place
from mtla_espnet.data.audio.decode import SLACK_SAMPLES, check_whole, decode
from mtla_espnet.data.audio.length import Claim, check_alone, claim_of
from mtla_espnet.files import UserError, open_descriptor, reading

# Names of sound files, in small letters.
SOUND_SUFFIXES = frozenset(
    ".aac .aif .aiff .amr .au .caf .flac .gsm .m4a .mka .mov .mp3 .mp4 .nist .oga .ogg .opus .sph "
    ".w64 .wav .webm .wma".split()
)
# Telephones have 8 kHz and no converter goes beyond 768 kHz. Resampling a file whose header
# claims 1 Hz would make a gigabyte of 32 kB.
LOWEST_HZ, HIGHEST_HZ = 1_000, 1_000_000
# A frame of MP3 may need up to 511 bytes of those before it, and the smallest has 24.
_MP3_BEFORE_SAMPLES = 32 * 1152


class Sound:
    """An open sound file; a context.

    Args:
        entry: a file, or a place in a zip file, `a.zip:<offset>:<bytes>`.
        name: for messages; None: `entry`.
        claim: of the same file when it was open before: it is not looked for again.

    Raises:
        UserError: it is missing, empty, truncated, or no regular file; begins with the name.
    """

    def __init__(self, entry: str, name: str | None = None, claim: Claim | None = None):
        self._name = name or entry
        self._problem = ""
        self._file = None
        self._descriptor = _open(entry)
        try:
            size = os.fstat(self._descriptor).st_size
            if not size:
                raise UserError(f"{self._name}: is empty (0 bytes)")
            try:
                self._file = soundfile.SoundFile(self._descriptor, closefd=False)
            except soundfile.LibsndfileError as error:  # FFmpeg may read it
                self._problem, claim = error.error_string, Claim(None, False)
            if self._file is None or self._file.format.startswith("WAV"):
                check_alone(self._descriptor, self._name)
            self.claim = claim or claim_of(self._descriptor, size, self._name, self._file)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception):
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
        os.close(self._descriptor)

    @property
    def proven(self) -> bool:
        """The header's length is right: parts can be read without the rest."""
        return self.claim.proven

    def length(self, exact: bool = True) -> tuple[int, int]:
        """Return the rate in Hz and the number of samples."""
        if self.proven or (self.claim.samples and not exact):
            rate_hz, samples = self._file.samplerate, self.claim.samples
        else:
            rate_hz, samples = 0, 0
            for rate, block in self._decoded():
                rate_hz, samples = rate, samples + len(block)
        if not samples:
            raise UserError(f"{self._name}: has no samples")
        check_rate(self._name, rate_hz)
        return rate_hz, samples

    def read(self, start: int, end: int) -> np.ndarray:
        """Read a part of a file that is `proven`, (T, C) float32.

        Raises:
            UserError: not all of it is there.
        """
        is_mp3 = self._file.format == "MP3"
        before = min(start, _MP3_BEFORE_SAMPLES) if is_mp3 else 0
        with reading(self._name, "cannot be read as audio"):
            if not self._file.seekable():
                before = start
            elif start > before:
                self._file.seek(start - before)
            samples = self._file.read(before + end - start, dtype="float32", always_2d=True)
        samples = samples[before:]
        slack = SLACK_SAMPLES if is_mp3 else 0
        check_whole(self._name, end - start, len(samples), slack, start)
        return samples

    def read_all(self) -> tuple[np.ndarray, int]:
        """Read the whole, to the end of what decodes: (T, C) float32, and the rate in Hz.

        Raises:
            UserError: it cannot be read, is truncated or empty.
        """
        if self.proven:
            rate_hz, samples = self.length()
            return self.read(0, samples), rate_hz
        rate_hz, blocks = 0, []
        for rate, block in self._decoded():
            rate_hz = rate
            blocks.append(block)
        if not blocks:
            raise UserError(f"{self._name}: has no samples")
        check_rate(self._name, rate_hz)
        return np.concatenate(blocks), rate_hz

    def _decoded(self) -> Iterator[tuple[int, np.ndarray]]:
        found = 0
        for rate_hz, block in decode(self._descriptor, self._name, self._problem):
            found += len(block)
            yield rate_hz, block
        lossless = self._file is not None and self._file.format == "FLAC"
        slack = 0 if lossless else SLACK_SAMPLES
        check_whole(self._name, self.claim.samples or 0, found, slack)


def sound_length(entry: str, exact: bool = True) -> tuple[int, int]:
    """Return how long a sound file is; only what no header proves is decoded.

    Args:
        entry: a file, or a place in a zip file, `a.zip:<offset>:<bytes>`.
        exact: False: for an estimate, what the header says is enough.

    Returns:
        Rate in Hz, and number of samples, at least 1.

    Raises:
        UserError: it is missing, truncated, empty or not audio; begins with the entry.
    """
    with Sound(entry) as sound:
        return sound.length(exact)


def check_rate(name: str, rate_hz: int) -> None:
    """Refuse a rate that no recording has.

    Args:
        name: of the recording, for messages.
        rate_hz: its rate.

    Raises:
        UserError: the rate is not from 1 kHz to 1 MHz.
    """
    if not LOWEST_HZ <= rate_hz <= HIGHEST_HZ:
        raise UserError(
            f"{name}: claims a rate of {rate_hz} Hz, and {LOWEST_HZ} to {HIGHEST_HZ} Hz are read: "
            "write the right rate into its header"
        )


def _open(entry: str) -> int:
    """Open a file, or a copy in memory of what is at a place in a zip file."""
    place = parse_place(entry)
    if place is None:
        return open_descriptor(entry)
    content = PlaceReader().read(place)
    descriptor = os.memfd_create("sound", os.MFD_CLOEXEC)
    with open(descriptor, "wb", closefd=False) as stream:
        stream.write(content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
