from types import SimpleNamespace

import numpy as np
import pytest

from mtla_espnet.corpora.shared import synthetic_speech
from mtla_espnet.corpora.shared.synthetic_speech import (
    RATE_HZ,
    plan_speakers,
    spoken,
    synthesise_missing,
)
from mtla_espnet.files import UserError

SAID = [SimpleNamespace(text=text) for text in ("on", "off", "up", "down")]


class Hum:
    """An engine of 8 kHz that hums longer for longer texts and slower speech."""

    rate_hz = 8000
    word_starts = {0: 80}

    def __init__(self, tree, voice):
        if voice == "nobody":
            raise UserError(f"{tree}: flite has no voice {voice!r}")

    def speak(self, text, words_per_minute, pitch):
        samples = len(text) * 200_000 // words_per_minute
        return (8000 * np.sin(np.arange(samples) * 0.3)).astype(np.int16)


@pytest.fixture
def plans(monkeypatch):
    monkeypatch.setattr(synthetic_speech, "Flite", Hum)
    return plan_speakers(["flite+slt", "flite+rms", "flite+awb"], SAID, seed=0)


def test_the_engine_is_part_of_the_voice(plans):
    assert [plan.speaker for plan in plans] == ["flite_awb", "flite_rms", "flite_slt"]
    assert all(plan.by_flite for plan in plans)
    (espeak,) = plan_speakers(["en-us+m1"], SAID, seed=0)
    assert not espeak.by_flite
    digests = [plan.digest() for plan in (*plans, espeak)]
    assert len(set(digests)) == 4
    (other,) = plan_speakers(["en-us+m1"], SAID, seed=1)
    assert other.digest() != espeak.digest()


def test_utterances_have_silence_before_and_their_own_noise(plans):
    by_id = {id_: (samples, starts) for id_, samples, starts in spoken(plans[2])}
    assert list(by_id) == ["flite_slt-00000", "flite_slt-00001"]
    for samples, starts in by_id.values():
        assert samples.dtype == np.int16
        assert 0.05 <= starts[0] - 80 / 8000 <= 0.15
        before = samples[: int(0.05 * RATE_HZ)].astype(float)
        assert 0 < before.std() < np.abs(samples.astype(float)).max() / 5
    again = {id_: samples for id_, samples, _ in spoken(plans[2])}
    for id_, (samples, _) in by_id.items():
        np.testing.assert_array_equal(samples, again[id_])


def test_speakers_are_made_once(plans, tmp_path):
    synthesise_missing(tmp_path, plans, 1)
    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.wav")}
    assert len(made) == len(SAID)
    synthesise_missing(tmp_path, plans, 1)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.wav")} == made


def test_a_voice_that_is_not_there_leaves_nothing(plans, tmp_path):
    with pytest.raises(UserError, match="flite has no voice 'nobody'"):
        synthesise_missing(tmp_path, plan_speakers(["flite+nobody"], SAID, 0), 1)
    assert list((tmp_path / "wav").iterdir()) == []
