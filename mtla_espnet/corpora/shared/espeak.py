"""Speech from text by eSpeak NG, out of the PyPI wheel `espeakng-loader` (no root, no download)."""

import contextlib
import ctypes
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mtla_espnet.files import UserError
from mtla_espnet.signals import signals_held

# Values of the C header speak_lib.h.
_OUTPUT_TO_CALLBACK = 2  # the synchronous one: the other speaks in a thread and polls it, 4x slower
_PARAMETER_RATE, _PARAMETER_PITCH = 1, 3
_TEXT_IS_UTF8 = 1
_DO_NOT_EXIT = 0x8000  # when the data cannot be read
_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)
_LIST_TERMINATED, _WORD = 0, 1  # kinds of events
_LONGEST_DATA_PATH = 140  # bytes


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    )


class Espeak:
    """The synthesiser of this process.

    The library is one global machine whose output depends on what it spoke
    before, and initialising it again does not help. The same bytes twice need a
    fresh process (forked before this class is made: after it a fork hangs) that
    speaks the same texts in the same order. The variants Alicia, Demonic, f2, f3,
    f5, sandro, victor, whisper and whisperf differ even then.

    Args:
        data_path: directory of the library's voices and dictionaries, not above
            140 bytes long (`open_espeak` sees to that).

    Attributes:
        rate_hz: sample rate of the speech, 22050.
        word_starts: of the last text: place of a word's first letter -> the sample at which it
            begins. The library tells none of a word that it speaks as one with the
            word before, such as `the` in `on the`.

    Raises:
        UserError: the library does not start with this data.
    """

    def __init__(self, data_path: str):
        self._library = ctypes.CDLL(_loader().get_library_path())
        self._variants = Path(data_path) / "voices" / "!v"
        self.rate_hz = self._library.espeak_Initialize(
            _OUTPUT_TO_CALLBACK, 0, os.fsencode(data_path), _DO_NOT_EXIT
        )
        if self.rate_hz <= 0:
            raise UserError(f"eSpeak NG does not start with the data of {data_path}")
        self._blocks: list[np.ndarray] = []
        self.word_starts: dict[int, int] = {}
        self._callback = _CALLBACK(self._receive)  # kept alive here: the library has its address
        self._library.espeak_SetSynthCallback(self._callback)

    def _receive(self, samples, count: int, events) -> int:
        if count > 0:  # the library reuses its buffer
            self._blocks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        for event in ctypes.cast(events, ctypes.POINTER(_Event)):  # has no end of its own
            if event.type == _LIST_TERMINATED:
                break
            if event.type == _WORD:
                self.word_starts[event.text_position - 1] = event.sample
        return 0

    def set_voice(self, name: str) -> None:
        """Choose the voice, `language+variant`.

        Raises:
            UserError: no such language or variant (the library itself would speak
                an unknown variant in its default voice).
        """
        variant = name.partition("+")[2]
        unknown = variant and not (self._variants / variant).is_file()
        if unknown or self._library.espeak_SetVoiceByName(name.encode()) != 0:
            raise UserError(f"eSpeak NG has no voice {name!r}")

    def speak(self, text: str, words_per_minute: int, pitch: int) -> np.ndarray:
        """Speak `text`.

        Args:
            text: what to say.
            words_per_minute: 80 to 450.
            pitch: 0 to 100; 50 is the voice's own.

        Returns:
            (T,) int16 at `rate_hz`.
        """
        self._library.espeak_SetParameter(_PARAMETER_RATE, words_per_minute, 0)
        self._library.espeak_SetParameter(_PARAMETER_PITCH, pitch, 0)
        self._blocks, self.word_starts = [], {}
        data = text.encode()
        synthesise = self._library.espeak_Synth
        with signals_held():  # one that came up in the callback would cost samples
            failed = synthesise(data, len(data) + 1, 0, 0, 0, _TEXT_IS_UTF8, None, None)
        if failed or not self._blocks:
            raise RuntimeError(f"eSpeak NG spoke nothing for {text!r} (code {failed})")
        return np.concatenate(self._blocks)


@contextlib.contextmanager
def open_espeak() -> Iterator[Espeak]:
    """Start eSpeak NG with the data of its wheel.

    The library keeps the data's path in a buffer of 160 bytes, so where the
    wheel lies deeper, it is given a link to it, until the end of the block.

    Raises:
        UserError: the wheel is not installed, or the library does not start.
    """
    path = _loader().get_data_path()
    if len(os.fsencode(path)) <= _LONGEST_DATA_PATH:
        yield Espeak(path)
        return
    with tempfile.TemporaryDirectory() as directory:
        link = os.path.join(directory, "data")
        os.symlink(path, link)
        yield Espeak(link)


def _loader():
    try:
        import espeakng_loader  # here: other corpora do without it
    except ImportError:
        raise UserError("no speech synthesiser: pip install espeakng-loader") from None
    return espeakng_loader
