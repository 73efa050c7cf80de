"""Make the smarthome corpus: spoken home commands, synthesised by eSpeak NG.

The result has the layout of a corpus as it is distributed:

    <root>/{train,valid,test}.jsonl     one utterance a line
    <root>/wav/<speaker>/<id>.wav       16 kHz, 16 bit, one channel

Choices, and why:
- Voices are split: a speaker of `test` is heard nowhere else. So are sentences:
  no sentence of `valid` or `test` is spoken in another set.
- The same seed and sizes give the same bytes; `synthetic_speech` has how a sentence is spoken.

The speech is synthetic: results on it say how models compare, not how well they
would hear people.
"""

import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path

from mtla_espnet.corpora.shared.synthetic_speech import (
    SpeakerPlan,
    plan_speakers,
    synthesise_missing,
)
from mtla_espnet.corpora.smarthome.grammar import Command
from mtla_espnet.data.audio.sound_file import sound_length
from mtla_espnet.directories import without_leftovers
from mtla_espnet.files import write_text

# Of each intent's sentences; the rest is for training.
_HELD_OUT = {"test": 0.18, "valid": 0.07}

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
    with without_leftovers(root):
        everyone = [plan for split in plans.values() for plan in split]
        synthesise_missing(root, everyone, n_workers)
        for split, split_plans in plans.items():
            records = [record for plan in split_plans for record in _records(root, plan)]
            lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
            write_text(root / f"{split}.jsonl", "".join(lines))


def plan_corpus(
    sentences: list[Command], sizes: dict[str, int], seed: int
) -> dict[str, list[SpeakerPlan[Command]]]:
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
        plans[split] = plan_speakers(voices, chosen, seed)
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


def _records(root: Path, plan: SpeakerPlan[Command]) -> Iterator[dict]:
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
