"""Flight of the Amazon Queen: 4.5 hours of acted English, 30 characters (adventure game, 1995).

Choices, and why:
- A speech file of the game is an utterance, of 2 seconds in the median: MP3, 11,025 Hz.
- Characters and scenes are held out, by the lists below. `test_characters` is what characters say
  who are heard in no dialogue of training; `test_scenes` is what Joe, whom training knows, answers
  them, and cutaways of held-out scenes. `valid` has both kinds, of others. A cutaway does not tell
  who speaks, so a held-out character may be heard in one of training.
- A text that a later set has, of valid, test_scenes and test_characters, is dropped from those
  before it and from training: no sentence of a test was trained on.
- `text` is in lower case without punctuation but the apostrophe; `text.tc` is as the game shows it.
- The speaker of a cutaway's utterances is its scene.
- Rejected are files without a text, as sounds of actions (<gulp>) and what the game never shows,
  and recordings with more than 30 characters of text a second, which nobody speaks.

Raw layout, as Debian's `flight-of-the-amazon-queen` brings it: one file, which `game_file` reads.

    <QUEEN>/usr/share/scummvm/flight-of-the-amazon-queen/queen.1c
"""

import argparse
import logging
import re
from pathlib import Path

from mtla_espnet.corpora.amazon_queen.game_file import NAME, GameFile, SpeechFile
from mtla_espnet.corpora.shared.corpus_set import CorpusSet, leave_out_rejected, write_sets
from mtla_espnet.corpora.shared.debian_archive import (
    DebianPackage,
    add_download_argument,
    unpack_package,
)
from mtla_espnet.corpora.shared.raw_files import add_shared_arguments, durations
from mtla_espnet.data.text.text_case import to_case
from mtla_espnet.directories import (
    flush_all,
    replace_directory,
    scratch_directory,
    without_leftovers,
)
from mtla_espnet.files import UserError, write_text
from mtla_espnet.json_files import digest

PACKAGE = DebianPackage(
    "flight-of-the-amazon-queen",
    "1.0.0-9",
    "40c08fd258d6fe95c46c1eaf5e9137f84ba330657995a281bd887c94a560a0f1",
    megabytes=35,
)
_IN_PACKAGE = Path("usr/share/scummvm/flight-of-the-amazon-queen")
SETS = ("train", "valid", "test_scenes", "test_characters")
# Women and men, a tenth of the dialogues; cutaways of an eighth of the time.
HELD_OUT = {
    "test": "FAYE HENRY SPARKY WITCH C19 C21 C31 C63 C70 C100".split(),
    "valid": "JIM LARIS C13 C40".split(),
}
_MOST_CHARACTERS_PER_S = 30.0
# 201 of the 6,745 files have no text, nearly all of them in training.
_MAX_REJECTED = 6.0
# Between words, though `to_case` drops it without a blank.
_BREAKS = re.compile(r"\.{2,}|[-/*]")
_SOUND = re.compile(r"<\w+>")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this corpus."""
    add_shared_arguments(parser)
    parser.set_defaults(max_rejected=_MAX_REJECTED)
    add_download_argument(parser, PACKAGE)


def prepare(args: argparse.Namespace) -> None:
    """Write the sets, and the recordings beside them in `audio`.

    Raises:
        UserError: the game's file is not there, does not parse, or too much of it is rejected.
    """
    path = find_game(args.downloads, args.download)
    game = GameFile(path)
    segments, without_text = game.segments()
    audio = args.output / "audio"
    _unpack(game, [*(each.name for each in segments), *without_text], audio)
    lengths = durations((audio / f"{each.name}.mp3" for each in segments), args.nj, None)
    sets = _make_sets(segments, audio, lengths, path)
    for name in without_text:
        sets[0].reject(f"UNKNOWN-{name}", path, None, f"{name}.SB has no text")
    leave_out_rejected(args.output, sets, args.max_rejected)
    write_sets(args.output, sets)
    for each in sets:
        hours = sum(float(lengths[place]) for place in each.wav_scp.values()) / 3600
        speakers = len(set(each.utt2spk.values()))
        logging.info("%s: %.2f h, %d speakers", args.output / each.name, hours, speakers)


def find_game(root: Path, download: bool) -> Path:
    """Return the path of the game's file.

    Args:
        root: what `QUEEN` names: a package's tree, or the directory of `queen.1c`.
        download: fetch the package where nothing is there.

    Raises:
        UserError: it is not there and may not, or cannot, be fetched.
    """
    fetched = root / PACKAGE.name
    for directory in (root, root / _IN_PACKAGE, fetched / _IN_PACKAGE):
        if (directory / NAME).is_file():
            return directory / NAME
    if not download:
        raise UserError(
            f"{root}: has no {NAME}: fetch it by --local_data_opts --download (apt-get download "
            f"{PACKAGE.name}, {PACKAGE.megabytes} MB), or unpack that package and name its tree by "
            "QUEEN in db.sh"
        )
    unpack_package(PACKAGE, fetched)
    path = fetched / _IN_PACKAGE / NAME
    if not path.is_file():
        raise UserError(f"{fetched}: the package has no {_IN_PACKAGE / NAME}")
    return path


def set_of(segment: SpeechFile) -> str:
    """Return the set of an utterance.

    Example:
        >>> [set_of(SpeechFile("", who, "WITCH", "Hello")) for who in ("WITCH", "JOE")]
        ['test_characters', 'test_scenes']
        >>> set_of(SpeechFile("", "", "C13", "Hello"))
        'valid'
    """
    if segment.scene in HELD_OUT["valid"]:
        return "valid"
    if segment.scene in HELD_OUT["test"]:
        return "test_characters" if segment.speaker == segment.scene else "test_scenes"
    return "train"


def spoken_form(text: str) -> str:
    """Return a text in lower case, without punctuation but the apostrophe.

    Example:
        >>> spoken_form("Ummm....Hi, left-handed JOE'S here!"), spoken_form("<gulp>")
        ("ummm hi left handed joe's here", '')
    """
    return to_case(_BREAKS.sub(" ", _SOUND.sub(" ", text)), "lc.rm")


def _unpack(game: GameFile, names: list[str], audio: Path) -> None:
    """Write the speech files as they are, all of them or none, unless they are there."""
    mark = audio / ".done"
    sizes = digest([[name, len(game.read(f"{name}.SB"))] for name in names])
    if mark.is_file() and mark.read_text(encoding="utf-8") == sizes:
        return
    with without_leftovers(audio.parent), scratch_directory(audio.parent) as scratch:
        made = scratch / audio.name
        made.mkdir()
        for name in names:
            (made / f"{name}.mp3").write_bytes(game.read(f"{name}.SB"))
        flush_all(made)  # before the mark, which vouches for them
        write_text(made / mark.name, sizes)
        replace_directory(made, audio)


def _make_sets(
    segments: list[SpeechFile], audio: Path, lengths: dict[str, float | str], path: Path
) -> list[CorpusSet]:
    sets = {name: CorpusSet(name, others={"text.tc": {}}) for name in SETS}
    held_out: set[str] = set()
    for name in reversed(SETS):
        texts, dropped = set(), 0
        for each in (each for each in segments if set_of(each) == name):
            key = f"{each.speaker or each.scene}-{each.name}"
            recording = audio / f"{each.name}.mp3"
            text = spoken_form(each.text)
            problem = _problem(text, lengths[str(recording)])
            if problem:
                sets[name].reject(key, path, None, f"{each.name}.SB: {problem}")
            elif text in held_out:
                dropped += 1
            else:
                texts.add(text)
                sets[name].wav_scp[key] = str(recording)
                sets[name].text[key] = text
                sets[name].others["text.tc"][key] = each.text
                sets[name].utt2spk[key] = each.speaker or each.scene
        held_out |= texts
        if dropped:
            logging.info("%s: %d left out, their text is in a later set", name, dropped)
    return list(sets.values())


def _problem(text: str, length: float | str) -> str:
    if isinstance(length, str):
        return length
    if not text:
        return "a sound without words"
    if len(text) > _MOST_CHARACTERS_PER_S * length:
        return f"cut off: {length:.2f} s for {len(text)} characters of text"
    return ""
