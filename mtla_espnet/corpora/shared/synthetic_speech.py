"""Synthetic speakers: sentences spoken by eSpeak NG or flite, in noise, into a raw corpus.

    <root>/wav/<speaker>/<id>.wav       16 kHz, 16 bit, one channel

Choices, and why:
- Each utterance has its own rate, pitch, level and white noise (15 to 35 dB SNR),
  drawn from a generator seeded by the corpus seed and the utterance id.
- The same plan gives the same bytes: each speaker is synthesised by a
  fresh process, in the order of the ids (see `espeak.Espeak`).
- A finished speaker is not made again: its directory appears whole, by a rename,
  and holds a digest of everything that its bytes depend on.

The speech is synthetic: results on it say how models compare, not how well they
would hear people.
"""

import importlib.metadata
import logging
import os
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import soundfile
import soxr

from mtla_espnet.corpora.shared.espeak import Espeak, open_espeak
from mtla_espnet.corpora.shared.flite import LIBRARY, Flite
from mtla_espnet.directories import (
    flush_all,
    replace_directory,
    scratch_directory,
    without_leftovers,
)
from mtla_espnet.files import write_text
from mtla_espnet.jobs.parallel import run_jobs
from mtla_espnet.json_files import digest

RATE_HZ = 16000
_SNR_DB = (15.0, 35.0)
_PEAK_DB = (-15.0, -3.0)  # of full scale
_SILENCE_S = (0.05, 0.15)  # before and after the words
_DONE = ".done"
_FORMAT = 1  # raise it when the same plan shall give other bytes
_FLITE = "flite"


class Spoken(Protocol):
    """A sentence: what is said, whatever else it has."""

    @property
    def text(self) -> str:
        """The words."""


@dataclass(frozen=True)
class SpeakerPlan[S: Spoken]:
    """What one speaker says.

    Attributes:
        speaker: its id, e.g. `scotland_m2`.
        voice: eSpeak NG's name, e.g. `en-gb-scotland+m2`, or flite's, as in `flite+slt`.
        seed: of the corpus.
        sentences: utterance id -> sentence, in the order of speaking.
    """

    speaker: str
    voice: str
    seed: int
    sentences: dict[str, S]

    @property
    def by_flite(self) -> bool:
        """Whether flite speaks."""
        return self.voice.startswith(f"{_FLITE}+")

    def digest(self) -> str:
        """Return a digest of all that the bytes of this speaker's files depend on."""
        engine = LIBRARY.version if self.by_flite else importlib.metadata.version("espeakng-loader")
        versions = [engine, importlib.metadata.version("soxr")]
        texts = [(id_, sentence.text) for id_, sentence in self.sentences.items()]
        return digest([_FORMAT, versions, self.voice, self.seed, texts])


def plan_speakers[S: Spoken](
    voices: Sequence[str], sentences: Sequence[S], seed: int
) -> list[SpeakerPlan[S]]:
    """Let speakers take turns.

    Args:
        voices: `language+variant`, or `flite+voice`; each is a speaker.
        sentences: what is said.
        seed: of the corpus.

    Returns:
        Plans of the speakers, sorted by speaker; one without sentences is left out.

    Example:
        >>> from types import SimpleNamespace
        >>> said = [SimpleNamespace(text=text) for text in ("a", "b", "c")]
        >>> plans = plan_speakers(["en-us+m1", "de+m1"], said, 0)
        >>> [(plan.speaker, list(plan.sentences)) for plan in plans]
        [('de_m1', ['de_m1-00000']), ('us_m1', ['us_m1-00000', 'us_m1-00001'])]
    """
    plans = []
    for turn, voice in enumerate(voices):
        language, variant = voice.split("+")
        speaker = f"{language.split('-')[-1]}_{variant.lower()}"
        own = {f"{speaker}-{n:05d}": s for n, s in enumerate(sentences[turn :: len(voices)])}
        if own:
            plans.append(SpeakerPlan(speaker, voice, seed, own))
    return sorted(plans, key=lambda plan: plan.speaker)


def synthesise_missing(
    root: Path, plans: Iterable[SpeakerPlan], n_workers: int, flite: Path | None = None
) -> None:
    """Write the speakers that are not there.

    Args:
        root: directory of the raw corpus.
        plans: of all speakers.
        n_workers: speakers synthesised side by side.
        flite: tree of the package with flite's libraries, where a speaker is flite's.

    Raises:
        UserError: an engine is not installed or lacks a voice.
    """
    with without_leftovers(root / "wav"):
        missing = [plan for plan in plans if not _is_done(root, plan)]
        if missing:
            logging.info("%s: %d speakers to synthesise", root.name, len(missing))
            run_jobs(
                lambda plan: speak(root, plan, flite), missing, n_workers, "synthesis", fresh=True
            )


def speak(root: Path, plan: SpeakerPlan, flite: Path | None = None) -> None:
    """Synthesise one speaker; call it in a fresh process (see `espeak.Espeak`)."""
    final = root / "wav" / plan.speaker
    with scratch_directory(final.parent) as scratch:
        unfinished = scratch / plan.speaker
        unfinished.mkdir()
        for id_, samples, _ in spoken(plan, flite):
            soundfile.write(unfinished / f"{id_}.wav", samples, RATE_HZ, subtype="PCM_16")
        flush_all(unfinished)  # before the mark, which vouches for them
        write_text(unfinished / _DONE, plan.digest() + "\n")
        replace_directory(unfinished, final)


def spoken(
    plan: SpeakerPlan, flite: Path | None = None
) -> Iterator[tuple[str, np.ndarray, dict[int, float]]]:
    """Speak what a speaker says; in a fresh process (see `espeak.Espeak`).

    Args:
        plan: of the speaker.
        flite: tree of the package with flite's libraries, where it speaks.

    Yields:
        Id of the utterance; (T,) int16 at RATE_HZ; place of a word's first letter in the text ->
        second of the utterance at which the word begins, of the words of which the engine tells it.
    """
    if plan.by_flite:
        engine = Flite(flite, plan.voice.removeprefix(f"{_FLITE}+"))
        for id_, sentence in plan.sentences.items():
            yield (id_, *_utterance(engine, plan, id_, sentence.text))
        return
    with open_espeak() as espeak:
        espeak.set_voice(plan.voice)
        for id_, sentence in plan.sentences.items():
            yield (id_, *_utterance(espeak, plan, id_, sentence.text))


def _utterance(
    engine: Espeak | Flite, plan: SpeakerPlan, id_: str, text: str
) -> tuple[np.ndarray, dict[int, float]]:
    """Speak one sentence in its own style and surroundings."""
    of_speaker = random.Random(f"{plan.seed} {plan.speaker}")
    of_utterance = random.Random(f"{plan.seed} {id_}")
    words_per_minute = of_speaker.randint(160, 205) + of_utterance.randint(-12, 12)
    pitch = of_speaker.randint(38, 62) + of_utterance.randint(-6, 6)
    clean = engine.speak(text, words_per_minute, pitch).astype(np.float64)
    clean = soxr.resample(clean, engine.rate_hz, RATE_HZ)
    clean *= _from_db(of_utterance.uniform(*_PEAK_DB)) / np.abs(clean).max()
    noise_level = np.sqrt(np.mean(clean**2)) / _from_db(of_utterance.uniform(*_SNR_DB))
    silence = [round(of_utterance.uniform(*_SILENCE_S) * RATE_HZ) for _ in range(2)]
    noise = np.random.default_rng(of_utterance.getrandbits(64))
    noisy = np.pad(clean, silence)
    noisy += noise_level * noise.standard_normal(len(noisy))
    before_s = silence[0] / RATE_HZ
    starts_s = {at: before_s + n / engine.rate_hz for at, n in engine.word_starts.items()}
    return np.round(np.clip(noisy, -1.0, 1.0) * 32767).astype(np.int16), starts_s


def _from_db(decibel: float) -> float:
    return 10.0 ** (decibel / 20.0)


def _is_done(root: Path, plan: SpeakerPlan) -> bool:
    directory = root / "wav" / plan.speaker
    mark = directory / _DONE
    if not mark.is_file() or mark.read_text(encoding="utf-8").strip() != plan.digest():
        return False
    with os.scandir(directory) as entries:
        there = {entry.name for entry in entries if entry.stat().st_size}
    return there >= {f"{id_}.wav" for id_ in plan.sentences}
