"""Translation of English speech into German: Battle for Wesnoth, and two spoken adventure games.

Choices, and why:
- The texts of Wesnoth are its campaigns and help, translated by people; no menus. They are paired
  by sentence (`catalogue`) and spoken by synthetic voices of two engines, eSpeak NG and flite.
- Beneath a Steel Sky (`steel_sky`) is spoken by actors. Three quarters of it are trained on.
  Drascula (`drascula`) is spoken by others; all of it is a test.
- Held out are campaigns (`_CAMPAIGNS`), voices (`VOICES`) and sections of the game
  (`_SECTIONS`). No English line of a test is in training or validation, nor one of validation in
  training.
- The games write stress, or all, in capitals, and Drascula has no umlauts. German is written as
  Wesnoth's training texts mostly write a word (`german`), so its case is restored, not given.
- Rejected are recordings with more than 30 characters of English a second, which nobody speaks.
- What is read of the games is kept in `raw` beside the data directories. With it the packages are
  not needed any more.

Raw layout, as Debian's packages bring it, all in one tree (or that of a system that has them):

    <WESNOTH>/usr/share/games/wesnoth/1.16/locale/de/LC_MESSAGES/wesnoth-httt.mo
    <WESNOTH>/usr/share/scummvm/beneath-a-steel-sky/{sky.dnr,sky.dsk}
    <WESNOTH>/usr/share/scummvm/drascula/en/{drascula.dat,VB12.ALS,...}
    <WESNOTH>/usr/games/scummvm         has the codes of the texts in sky.dsk

Data directories: `text` and `text.lc.rm.en` are the English words, `text.{tc,lc,lc.rm}.de` the
translation, `text.tc.en` what was distributed.
"""

import argparse
import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from mtla_espnet.corpora.shared.corpus_set import CorpusSet, leave_out_rejected, write_sets
from mtla_espnet.corpora.shared.flite import find_flite
from mtla_espnet.corpora.shared.raw_files import add_shared_arguments, durations
from mtla_espnet.corpora.shared.synthetic_speech import plan_speakers, synthesise_missing
from mtla_espnet.corpora.wesnoth.games import MEGABYTES, SpokenLine, find_lines
from mtla_espnet.corpora.wesnoth.german import usual_forms, write_usually
from mtla_espnet.data.text.text_case import CASES, to_case
from mtla_espnet.files import UserError

ENGINES = ("espeak", "flite")
SETS = ("train", "valid", "test_drascula", "test_steel_sky", "test_voices")
# Set -> its voices, of eSpeak NG or flite.
VOICES = {
    "train": (
        "en-us+m1 en-us+f1 en-us+Andy en-gb-scotland+m2 en-gb-scotland+belinda en-gb-x-rp+m3 "
        "en-gb-x-rp+f4 en-gb-x-gbclan+grandma flite+rms flite+kal16"
    ).split(),
    "valid": "en-us+m5 en-gb-scotland+marcelo".split(),
    "test_voices": "en-us+m7 en-gb-x-rp+edward flite+slt flite+awb".split(),
}
# The Eastern Invasion and The Hammer of Thursagan; A Tale of Two Brothers.
_CAMPAIGNS = {"ei": "test_voices", "thot": "test_voices", "tb": "valid"}
# Sections of Beneath a Steel Sky: the last ones, and the first.
_SECTIONS = {"5": "test_steel_sky", "6": "test_steel_sky", "7": "test_steel_sky", "0": "valid"}
_MOST_CHARACTERS_PER_S = 30.0
# Between words, though `to_case` drops it without a blank.
_BREAKS = re.compile(r"\.{2,}|[-/*]")


class TranslatedSentence(NamedTuple):
    """A sentence that is to be spoken.

    Args:
        text: English, with punctuation, which voices heed.
        german: the translation.
    """

    text: str
    german: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this corpus."""
    add_shared_arguments(parser)
    parser.add_argument(
        "--download",
        action="store_true",
        help=f"fetch Wesnoth, two games, ScummVM and flite ({MEGABYTES} MB) by apt-get if missing",
    )
    parser.add_argument(
        "--engines", default=",".join(ENGINES), help="that speak; flite is for x86-64 alone"
    )
    parser.add_argument(
        "--train_sentences",
        type=int,
        default=0,
        help="of Wesnoth, evenly taken from its texts; 0: all",
    )
    parser.add_argument("--seed", type=int, default=0, help="of styles and noise")


def prepare(args: argparse.Namespace) -> None:
    """Read the games, let the sentences of Wesnoth be spoken, and write the sets.

    Raises:
        UserError: a game or an engine is not there, a file does not parse, an option is wrong, or
            too much is rejected.
    """
    engines = args.engines.replace(",", " ").split()
    if not engines or not set(engines) <= set(ENGINES):
        raise UserError(f"--engines are of {', '.join(ENGINES)}, not {args.engines!r}", 2)
    if args.train_sentences < 0:
        raise UserError(f"--train_sentences must be at least 0, not {args.train_sentences}", 2)
    lines = find_lines(args.downloads, args.output / "raw", args.download, args.nj)
    flite = find_flite(args.downloads, args.download) if "flite" in engines else None
    forms = usual_forms(
        each.german for each in lines if _set_of(each) == "train" and not each.audio
    )
    sets = {name: CorpusSet(name, others=_no_translations()) for name in SETS}
    taken = _without_repetitions(lines)
    _add_recordings(sets, taken, forms, args)
    plans = {}
    for name, voices in VOICES.items():
        said = [
            TranslatedSentence(each.english, each.german) for each in taken[name] if not each.audio
        ]
        if name == "train" and 0 < args.train_sentences < len(said):
            count = args.train_sentences
            said = [said[number * len(said) // count] for number in range(count)]
        own = [
            voice for voice in voices if ("flite" if voice[:6] == "flite+" else "espeak") in engines
        ]
        plans[name] = plan_speakers(own, said, args.seed)
    speech = args.output / "speech"
    everyone = [plan for of_set in plans.values() for plan in of_set]
    synthesise_missing(speech, everyone, args.nj, flite)
    for name, of_set in plans.items():
        for plan in of_set:
            for key, sentence in plan.sentences.items():
                path = speech / "wav" / plan.speaker / f"{key}.wav"
                _add(sets[name], key, plan.speaker, path, sentence.text, sentence.german)
    leave_out_rejected(args.output, list(sets.values()), args.max_rejected)
    write_sets(args.output, list(sets.values()))
    for each in sets.values():
        lengths = durations(each.wav_scp.values(), args.nj, None)
        hours = sum(float(length) for length in lengths.values()) / 3600
        words = sum(len(text.split()) for text in each.text.values())
        speakers = len(set(each.utt2spk.values()))
        logging.info(
            "%s: %.2f h, %d English words, %d speakers",
            args.output / each.name, hours, words, speakers,
        )  # fmt: skip


def spoken_form(text: str) -> str:
    """Return an English text in lower case, without punctuation but the apostrophe.

    Example:
        >>> spoken_form("Ummm... Left-handed, JOE?")
        'ummm left handed joe'
    """
    return to_case(_BREAKS.sub(" ", text), "lc.rm")


def _set_of(line: SpokenLine) -> str:
    """Return the set of a line.

    Example:
        >>> [_set_of(SpokenLine("x", game, part, "", "", "")) for game, part in
        ...     [("wesnoth", "httt"), ("wesnoth", "ei"), ("steel_sky", "5"), ("drascula", "VB")]]
        ['train', 'test_voices', 'test_steel_sky', 'test_drascula']
    """
    if line.game == "drascula":
        return "test_drascula"
    return (_CAMPAIGNS if line.game == "wesnoth" else _SECTIONS).get(line.part, "train")


def _no_translations() -> dict[str, dict[str, str]]:
    tables = ["text.tc.en", "text.lc.rm.en", *(f"text.{case}.de" for case in CASES)]
    return {name: {} for name in tables}


def _without_repetitions(lines: Iterable[SpokenLine]) -> dict[str, list[SpokenLine]]:
    """Give each set its lines: none of training or validation whose English is held out from it.

    Nor has a set a line twice, but for recordings.
    """
    by_set: dict[str, list[SpokenLine]] = {name: [] for name in SETS}
    for line in lines:
        by_set[_set_of(line)].append(line)
    held_out: set[str] = set()
    for name in reversed(SETS):
        kept, own = [], set()
        refused = set() if name.startswith("test_") else held_out.copy()
        for line in by_set[name]:
            text = spoken_form(line.english)
            if text and text not in refused and (line.audio or text not in own):
                kept.append(line)
                own.add(text)
        if len(kept) < len(by_set[name]):
            logging.info(
                "%s: %d of %d lines left out: they are held out, or twice there",
                name, len(by_set[name]) - len(kept), len(by_set[name]),
            )  # fmt: skip
        held_out |= own
        by_set[name] = kept
    return by_set


def _add_recordings(
    sets: dict[str, CorpusSet],
    taken: dict[str, list[SpokenLine]],
    forms: dict[str, str],
    args: argparse.Namespace,
) -> None:
    """Give the sets what actors say, and let them reject recordings that are cut off."""
    spoken = [(name, line) for name, own in taken.items() for line in own if line.audio]
    lengths = durations((line.audio for _, line in spoken), args.nj, None)
    for name, line in spoken:
        speaker = f"{line.game}_{line.part}"
        key = f"{speaker}-{line.name}"
        length = lengths[line.audio]
        if isinstance(length, str):
            sets[name].reject(key, line.audio, None, length)
        elif len(spoken_form(line.english)) > _MOST_CHARACTERS_PER_S * length:
            what = f"cut off: {length:.2f} s for {len(line.english)} characters of text"
            sets[name].reject(key, line.audio, None, what)
        else:
            german = write_usually(line.german, forms, umlauts=line.game == "drascula")
            _add(sets[name], key, speaker, Path(line.audio), line.english, german)


def _add(
    made: CorpusSet, key: str, speaker: str, recording: Path, english: str, german: str
) -> None:
    """Add an utterance to a set."""
    made.wav_scp[key] = str(recording)
    made.utt2spk[key] = speaker
    made.text[key] = made.others["text.lc.rm.en"][key] = spoken_form(english)
    made.others["text.tc.en"][key] = english
    for case in CASES:
        made.others[f"text.{case}.de"][key] = to_case(german, case)
