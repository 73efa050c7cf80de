import os
import signal
import sys

import espeakng_loader
import numpy as np
import pytest

from mtla_espnet.corpora.shared.espeak import Espeak, open_espeak
from mtla_espnet.files import UserError
from mtla_espnet.jobs.parallel import run_jobs


def in_fresh_process(function):
    return run_jobs(lambda _: function(), [None], 1, fresh=True)[0]


def speak(voice, text, words_per_minute=170, pitch=50):
    with open_espeak() as espeak:
        espeak.set_voice(voice)
        return espeak.rate_hz, espeak.speak(text, words_per_minute, pitch)


def test_speech_comes_out_and_is_the_same_twice():
    rate_hz, samples = in_fresh_process(lambda: speak("en-us+m3", "turn on the light"))
    assert rate_hz == 22050
    assert samples.dtype == np.int16
    assert 0.5 < len(samples) / rate_hz < 3.0
    assert np.abs(samples.astype(int)).max() > 5000
    _, again = in_fresh_process(lambda: speak("en-us+m3", "turn on the light"))
    np.testing.assert_array_equal(samples, again)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_costs_no_samples(monkeypatch, number):
    text = "turn on the light, please"
    receive = Espeak._receive

    def disturbed(self, samples, count, events):
        os.kill(os.getpid(), number)  # at each block of samples
        return receive(self, samples, count, events)

    def speak_disturbed():
        signal.signal(number, signal.default_int_handler)
        with open_espeak() as espeak:
            espeak.set_voice("en-us+m3")
            try:
                espeak.speak(text, 170, 50)
            except KeyboardInterrupt:
                return np.concatenate(espeak._blocks)

    whole = in_fresh_process(lambda: speak("en-us+m3", text))[1]
    monkeypatch.setattr(Espeak, "_receive", disturbed)
    np.testing.assert_array_equal(in_fresh_process(speak_disturbed), whole)


def test_rate_pitch_and_voice_matter():
    text = "turn on the light"
    plain = in_fresh_process(lambda: speak("en-us+m3", text))[1]
    fast = in_fresh_process(lambda: speak("en-us+m3", text, words_per_minute=300))[1]
    high = in_fresh_process(lambda: speak("en-us+m3", text, pitch=90))[1]
    other = in_fresh_process(lambda: speak("en-us+f4", text))[1]
    assert len(fast) < 0.8 * len(plain)
    assert not np.array_equal(high, plain) and not np.array_equal(other, plain)


@pytest.mark.parametrize("voice", ["en-us+nobody", "xx-yy", "en-us+../../etc/passwd"])
def test_an_unknown_voice_is_refused(voice):
    with pytest.raises(UserError, match="eSpeak NG has no voice"):
        in_fresh_process(lambda: speak(voice, "hello"))


def test_a_wheel_that_lies_deep_speaks_the_same(tmp_path, monkeypatch):
    spoken = in_fresh_process(lambda: speak("en-us+m3", "hello"))[1]
    deep = tmp_path / ("d" * 150)
    deep.symlink_to(espeakng_loader.get_data_path())
    monkeypatch.setattr(espeakng_loader, "get_data_path", lambda: str(deep))
    np.testing.assert_array_equal(in_fresh_process(lambda: speak("en-us+m3", "hello"))[1], spoken)


def test_unusable_data_and_a_missing_wheel_are_refused(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(espeakng_loader, "get_data_path", lambda: str(tmp_path / "none"))
        with pytest.raises(UserError, match="does not start with the data of .*none"):
            in_fresh_process(lambda: speak("en-us+m3", "hello"))
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(UserError, match="pip install espeakng-loader"):
        in_fresh_process(lambda: speak("en-us+m3", "hello"))
