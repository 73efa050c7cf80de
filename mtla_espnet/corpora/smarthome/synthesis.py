"""Make the smarthome corpus: spoken home commands, synthesised by eSpeak NG.

The result has the layout of a corpus as it is distributed:

    <root>/{train,valid,test}.jsonl     one utterance a line
    <root>/wav/<speaker>/<id>.wav       16 kHz, 16 bit, one channel

Choices, and why:
- Voices are split: a speaker of `test` is heard nowhere else. So are sentences:
  no sentence of `valid` or `test` is spoken in another set.
- Each utterance has its own rate, pitch, level and white noise (15 to 35 dB SNR),
  drawn from a generator seeded by the corpus seed and the utterance id.
- The same seed and sizes give the same bytes: each speaker is synthesised by a
  fresh process, in the order of the ids (see `espeak.Espeak`).
- A finished speaker is not made again: its directory appears whole, by a rename,
  and holds a digest of everything that its bytes depend on.

The speech is synthetic: results on it say how models compare, not how well they
would hear people.
"""

import importlib.metadata
import itertools
import json
import logging
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from mtla_espnet.corpora.smarthome.espeak import Espeak, open_espeak
from mtla_espnet.corpora.smarthome.grammar import Command
from mtla_espnet.data.audio.sound_file import sound_length
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
# Of each intent's sentences; the rest is for training.
_HELD_OUT = {"test": 0.18, "valid": 0.07}
_SNR_DB = (15.0, 35.0)
_PEAK_DB = (-15.0, -3.0)  # of full scale
_SILENCE_S = (0.05, 0.15)  # before and after the words
_DONE = ".done"
_FORMAT = 1  # raise it when the same plan shall give other bytes

# eSpeak NG's language and variant; a pair is a speaker.
VOICES = {
    "train": (
        "en-us+m1 en-us+f1 en-us+Andy en-us+Annie en-us+adam en-us+linda "
        "en-gb-scotland+m2 en-gb-scotland+Alex en-gb-scotland+belinda "
        "en-gb-scotland+Michael en-gb-scotland+grandpa en-gb-scotland+zac "
        "en-gb-x-rp+m3 en-gb-x-rp+f4 en-gb-x-rp+david en-gb-x-rp+Andrea en-gb-x-rp+robert "
        "en-gb-x-gbclan+m4 en-gb-x-gbclan+Mike en-gb-x-gbclan+grandma "
        "en-gb-x-gbclan+john en-gb-x-gbclan+aunty"
    ).split(),
    "valid": "en-us+m5 en-gb-scotland+marcelo en-gb-x-gbclan+travis".split(),
    "test": (
        "en-us+m7 en-us+steph en-gb-scotland+m6 en-gb-x-rp+anika en-gb-x-rp+edward "
        "en-gb-x-gbclan+shelby"
    ).split(),
}


@dataclass(frozen=True)
class SpeakerPlan:
    """What one speaker says.

    Attributes:
        speaker: its id, e.g. `scotland_m2`.
        voice: eSpeak NG's name, e.g. `en-gb-scotland+m2`.
        seed: of the corpus.
        sentences: utterance id -> sentence, in the order of speaking.
    """

    speaker: str
    voice: str
    seed: int
    sentences: dict[str, Command]

    def digest(self) -> str:
        """Return a digest of all that the bytes of this speaker's files depend on."""
        versions = [importlib.metadata.version(name) for name in ("espeakng-loader", "soxr")]
        texts = [(id_, sentence.text) for id_, sentence in self.sentences.items()]
        return digest([_FORMAT, versions, self.voice, self.seed, texts])


def synthesise(
    root: Path, sizes: dict[str, int], seed: int, n_workers: int, sentences: list[Command]
) -> None:
    """Write the corpus under `root`, but for what is there already.

    Args:
        root: directory of the corpus.
        sizes: utterances of each of `train`, `valid` and `test`.
        seed: chooses sentences, speaking styles and noise.
        n_workers: speakers synthesised side by side.
        sentences: what can be said.

    Raises:
        UserError: eSpeak NG is not installed or lacks a voice.
    """
    plans = plan_corpus(sentences, sizes, seed)
    with without_leftovers(root), without_leftovers(root / "wav"):
        missing = [plan for split in plans.values() for plan in split if not _is_done(root, plan)]
        if missing:
            logging.info("smarthome: %d speakers to synthesise", len(missing))
            run_jobs(lambda plan: speak(root, plan), missing, n_workers, "synthesis", fresh=True)
        for split, split_plans in plans.items():
            records = [record for plan in split_plans for record in _records(root, plan)]
            lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
            write_text(root / f"{split}.jsonl", "".join(lines))


def plan_corpus(
    sentences: list[Command], sizes: dict[str, int], seed: int
) -> dict[str, list[SpeakerPlan]]:
    """Decide who says what: a pure function of its arguments.

    The pools of sentences depend on `seed` alone. Each sentence of a pool is
    spoken once before any is spoken twice, and speakers take turns.

    Returns:
        Set -> plans of its speakers, sorted by speaker; a speaker without
        sentences is left out.
    """
    pools = _split_sentences(sentences, seed)
    plans = {}
    for split, voices in VOICES.items():
        order = _endless_shuffle(pools[split], random.Random(f"{seed} {split}"))
        chosen = list(itertools.islice(order, sizes[split]))
        split_plans = []
        for turn, voice in enumerate(voices):
            speaker = _speaker(voice)
            own = {f"{speaker}-{n:05d}": s for n, s in enumerate(chosen[turn :: len(voices)])}
            if own:
                split_plans.append(SpeakerPlan(speaker, voice, seed, own))
        plans[split] = sorted(split_plans, key=lambda plan: plan.speaker)
    return plans


def _split_sentences(sentences: list[Command], seed: int) -> dict[str, list[Command]]:
    """Give each set its share of every intent's sentences, no sentence to two sets."""
    by_intent: dict[str, list[Command]] = {}
    for sentence in sentences:
        by_intent.setdefault(sentence.intent, []).append(sentence)
    pools: dict[str, list[Command]] = {split: [] for split in VOICES}
    for intent, own in by_intent.items():
        random.Random(f"{seed} {intent}").shuffle(own)
        start = 0
        for split, share in _HELD_OUT.items():
            count = max(1, round(share * len(own)))
            pools[split] += own[start : start + count]
            start += count
        pools["train"] += own[start:]
    return pools


def _endless_shuffle(pool: list[Command], generator: random.Random) -> Iterator[Command]:
    """Yield all of `pool` in random order, then all of it in another order, and so on."""
    while pool:
        yield from generator.sample(pool, len(pool))


def _speaker(voice: str) -> str:
    language, variant = voice.split("+")
    return f"{language.split('-')[-1]}_{variant.lower()}"


def speak(root: Path, plan: SpeakerPlan) -> None:
    """Synthesise one speaker; call it in a fresh process (see `espeak.Espeak`)."""
    final = root / "wav" / plan.speaker
    with scratch_directory(final.parent) as scratch:
        unfinished = scratch / plan.speaker
        unfinished.mkdir()
        for id_, samples, _ in spoken(plan):
            soundfile.write(unfinished / f"{id_}.wav", samples, RATE_HZ, subtype="PCM_16")
        flush_all(unfinished)  # before the mark, which vouches for them
        write_text(unfinished / _DONE, plan.digest() + "\n")
        replace_directory(unfinished, final)


def spoken(plan: SpeakerPlan) -> Iterator[tuple[str, np.ndarray, dict[int, float]]]:
    """Speak what a speaker says; in a fresh process (see `espeak.Espeak`).

    Args:
        plan: of the speaker.

    Yields:
        Id of the utterance; (T,) int16 at RATE_HZ; place of a word's first letter in the text ->
        second of the utterance at which the word begins, of the words of which eSpeak tells it.
    """
    with open_espeak() as espeak:
        espeak.set_voice(plan.voice)
        for id_, sentence in plan.sentences.items():
            yield (id_, *_utterance(espeak, plan, id_, sentence.text))


def _utterance(
    espeak: Espeak, plan: SpeakerPlan, id_: str, text: str
) -> tuple[np.ndarray, dict[int, float]]:
    """Speak one sentence in its own style and surroundings."""
    of_speaker = random.Random(f"{plan.seed} {plan.speaker}")
    of_utterance = random.Random(f"{plan.seed} {id_}")
    words_per_minute = of_speaker.randint(160, 205) + of_utterance.randint(-12, 12)
    pitch = of_speaker.randint(38, 62) + of_utterance.randint(-6, 6)
    clean = espeak.speak(text, words_per_minute, pitch).astype(np.float64)
    clean = soxr.resample(clean, espeak.rate_hz, RATE_HZ)
    clean *= _from_db(of_utterance.uniform(*_PEAK_DB)) / np.abs(clean).max()
    noise_level = np.sqrt(np.mean(clean**2)) / _from_db(of_utterance.uniform(*_SNR_DB))
    silence = [round(of_utterance.uniform(*_SILENCE_S) * RATE_HZ) for _ in range(2)]
    noise = np.random.default_rng(of_utterance.getrandbits(64))
    noisy = np.pad(clean, silence)
    noisy += noise_level * noise.standard_normal(len(noisy))
    before_s = silence[0] / RATE_HZ
    starts_s = {at: before_s + n / espeak.rate_hz for at, n in espeak.word_starts.items()}
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


def _records(root: Path, plan: SpeakerPlan) -> Iterator[dict]:
    for id_, sentence in plan.sentences.items():
        wav = f"wav/{plan.speaker}/{id_}.wav"
        rate_hz, samples = sound_length(str(root / wav))
        yield {
            "id": id_,
            "wav": wav,
            "speaker": plan.speaker,
            "text": sentence.text,
            "intent": sentence.intent,
            "slots": sentence.slots,
            "german": sentence.german,
            "duration": round(samples / rate_hz, 4),
        }
