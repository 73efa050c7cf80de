"""English speech from text by flite, out of Debian's package `libflite1` (needs no root)."""

import ctypes
from pathlib import Path

import numpy as np

from mtla_espnet.corpora.shared.debian_archive import DebianPackage, unpack_package
from mtla_espnet.files import UserError

LIBRARY = DebianPackage(
    "libflite1",
    "2.2-5",
    "bfa8c591f1b47730b30b372ec38e02918a1c9795eada67684e1746390ad2f061",
    megabytes=13,
)
_LIBRARIES = Path("usr/lib/x86_64-linux-gnu")
# The speed at which a voice speaks by itself.
_WORDS_PER_MINUTE = 170.0


class _Wave(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_char_p),
        ("sample_rate", ctypes.c_int),
        ("num_samples", ctypes.c_int),
        ("num_channels", ctypes.c_int),
        ("samples", ctypes.POINTER(ctypes.c_short)),
    )


class _Voice(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char_p), ("features", ctypes.c_void_p))  # and more


class Flite:
    """A voice of flite. The same text gives the same bytes.

    Args:
        tree: what the package unpacks to.
        voice: `slt`, `rms`, `awb` or `kal16`.

    Attributes:
        rate_hz: sample rate of the speech, 16000.
        word_starts: empty; flite does not tell when words begin.

    Raises:
        UserError: the libraries are not there or do not load, or there is no such voice.
    """

    def __init__(self, tree: Path, voice: str):
        register = f"register_cmu_us_{voice}"
        self._flite = _load(tree, "libflite.so.1")
        self._flite.flite_init()
        for name in ("usenglish", "cmulex"):
            _load(tree, f"libflite_{name}.so.1")
        path = f"libflite_cmu_us_{voice}.so.1"
        if not (tree / _LIBRARIES / path).is_file():
            raise UserError(f"{tree}: flite has no voice {voice!r}")
        make = getattr(_load(tree, path), register)
        make.argtypes, make.restype = [ctypes.c_char_p], ctypes.POINTER(_Voice)
        self._voice = make(None)
        synthesise = self._flite.flite_text_to_wave
        synthesise.argtypes = [ctypes.c_char_p, ctypes.POINTER(_Voice)]
        synthesise.restype = ctypes.POINTER(_Wave)
        self._flite.delete_wave.argtypes = [ctypes.POINTER(_Wave)]
        self._flite.feat_set_float.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_float]
        self.rate_hz = 16000
        self.word_starts: dict[int, int] = {}

    def speak(self, text: str, words_per_minute: int, pitch: int) -> np.ndarray:
        """Speak `text`.

        Args:
            text: what to say, in English.
            words_per_minute: 80 to 450.
            pitch: not used: a voice has its own.

        Returns:
            (T,) int16 at `rate_hz`.
        """
        del pitch
        stretch = _WORDS_PER_MINUTE / words_per_minute
        self._flite.feat_set_float(self._voice.contents.features, b"duration_stretch", stretch)
        wave = self._flite.flite_text_to_wave(text.encode(), self._voice)
        found = wave.contents
        if found.sample_rate != self.rate_hz or found.num_samples < 1:
            raise RuntimeError(f"flite spoke {found.num_samples} samples for {text!r}")
        samples = np.ctypeslib.as_array(found.samples, (found.num_samples,)).copy()
        self._flite.delete_wave(wave)
        return samples


def find_flite(root: Path, download: bool) -> Path:
    """Return the tree of the package with flite's libraries.

    Args:
        root: where `libflite1` is, or is to be.
        download: fetch it where it is not there.

    Raises:
        UserError: it is not there and may not, or cannot, be fetched.
    """
    tree = root / LIBRARY.name
    if not (tree / _LIBRARIES / "libflite.so.1").is_file():
        if not download:
            raise UserError(
                f"{tree}: is not there: fetch it by --local_data_opts --download (apt-get download "
                f"{LIBRARY.name}, {LIBRARY.megabytes} MB), or unpack that package there"
            )
        unpack_package(LIBRARY, tree)
    return tree


def _load(tree: Path, name: str) -> ctypes.CDLL:
    path = tree / _LIBRARIES / name
    try:
        return ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)  # a voice finds the others' names
    except OSError as error:
        raise UserError(
            f"{path}: does not load ({error}); flite is for x86-64 and needs libasound2: "
            "apt-get install libasound2"
        ) from None
