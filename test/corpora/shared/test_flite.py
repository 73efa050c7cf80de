import ctypes

import numpy as np
import pytest

from mtla_espnet.corpora.shared import flite
from mtla_espnet.corpora.shared.flite import Flite, find_flite
from mtla_espnet.files import UserError

SAMPLES = np.arange(-5, 5, dtype=np.int16)


class Function:
    """A function of a library, which may be given types."""

    def __init__(self, function):
        self.function = function

    def __call__(self, *arguments):
        return self.function(*arguments)


class Library:
    """Stands in for all of flite's libraries; notes the calls."""

    def __init__(self):
        self.calls = []
        self.rate_hz = 16000
        self.voice = flite._Voice(b"slt", 7)
        self.flite_init = Function(lambda: self.calls.append("init"))
        self.register_cmu_us_slt = Function(lambda _: ctypes.pointer(self.voice))
        self.feat_set_float = Function(lambda *call: self.calls.append(call))
        self.flite_text_to_wave = Function(self.speak)
        self.delete_wave = Function(lambda wave: self.calls.append("delete"))

    def speak(self, text, voice):
        self.calls.append((text, voice.contents.name))
        samples = (ctypes.c_short * len(SAMPLES))(*SAMPLES)
        self.wave = flite._Wave(b"", self.rate_hz, len(SAMPLES), 1, samples)
        return ctypes.pointer(self.wave)


@pytest.fixture
def tree(tmp_path):
    libraries = tmp_path / "libflite1" / flite._LIBRARIES
    libraries.mkdir(parents=True)
    for name in ("", "_usenglish", "_cmulex", "_cmu_us_slt"):
        (libraries / f"libflite{name}.so.1").write_bytes(b"no library")
    return tmp_path / "libflite1"


def test_speech_is_copied_before_the_library_takes_it_back(tree, monkeypatch):
    library = Library()
    monkeypatch.setattr(flite, "_load", lambda tree, name: library)
    voice = Flite(tree, "slt")
    samples = voice.speak("hello", words_per_minute=85, pitch=50)
    np.testing.assert_array_equal(samples, SAMPLES)
    assert (samples.dtype, voice.rate_hz, voice.word_starts) == (np.int16, 16000, {})
    stretch = (7, b"duration_stretch", 2.0)
    assert library.calls == ["init", stretch, (b"hello", b"slt"), "delete"]
    library.rate_hz = 8000
    with pytest.raises(RuntimeError, match="flite spoke"):
        voice.speak("hello", 170, 50)


def test_what_does_not_load_is_one_line(tree, monkeypatch):
    with pytest.raises(UserError, match=r"libflite\.so\.1: does not load \(.*apt-get install liba"):
        Flite(tree, "slt")
    monkeypatch.setattr(flite, "_load", lambda tree, name: Library())
    with pytest.raises(UserError, match=r"libflite1: flite has no voice 'nobody'$"):
        Flite(tree, "nobody")


def test_the_package_is_fetched_once(tmp_path, tree, archive, monkeypatch):
    archive.hold(tree=tree)
    monkeypatch.setattr(flite, "LIBRARY", flite.LIBRARY._replace(sha256=archive.sha256))
    root = tmp_path / "downloads"
    with pytest.raises(UserError, match=r"libflite1: is not there: fetch it by --local_data_opts"):
        find_flite(root, download=False)
    made = find_flite(root, download=True)
    archive.remove()
    assert find_flite(root, download=True) == find_flite(root, download=False) == made
    assert (made / flite._LIBRARIES / "libflite.so.1").is_file()
