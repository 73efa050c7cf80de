"""Tux Paint stamps: 3 hours of descriptions read by people, nine languages and more (GPL-2).

Choices, and why:
- Languages with at least 300 recordings, or those of `--lang`. A language is a speaker: each
  is read by one person or a few, whom nothing names.
- The sets are split by stamp, by a hash of its path, so that a picture is in one set in all
  languages; 10 % test, 5 % validation. A text of test is neither trained on nor validated on,
  a text of validation is not trained on (`--unseen translation`: nor are stamps with the same
  English text). So nearly every word of test is new.
- `text` begins with a language token, `<fr>`, which stands for no sound: name it in
  `--nlsyms_txt`. The rest is in lower case without punctuation (`text.lc.rm.mul` has the same
  without the token, `text.tc.mul` what was distributed, `text.<case>.en` the English text).
- A recording with more than 30 characters of text a second is cut off or reads another text:
  nobody speaks so fast. Half of Catalan's recordings of sign language are of 0.3 s. Such
  recordings are rejected, of every set, and so are those whose text is missing.

- `lm_text`, beside the sets, has the texts of all training stamps in all these languages, read
  or not, but those of validation and test: language models may train on it.

Raw layout, as Debian's `tuxpaint-stamps-default` brings it:

    <TUXPAINT>/usr/share/tuxpaint/stamps/animals/birds/duck_desc_fr.ogg   (44.1 kHz, Vorbis)
    <TUXPAINT>/usr/share/tuxpaint/stamps/animals/birds/duck_desc.ogg      English
    <TUXPAINT>/usr/share/tuxpaint/stamps/animals/birds/duck.txt           UTF-8:
        A duck.
        fr.utf8=Un canard.
"""

import argparse
import hashlib
import logging
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mtla_espnet.corpora.shared.corpus_set import CorpusSet, leave_out_rejected, write_sets
from mtla_espnet.corpora.shared.debian_archive import (
    DebianPackage,
    add_download_argument,
    unpack_package,
)
from mtla_espnet.corpora.shared.raw_files import add_shared_arguments, durations
from mtla_espnet.data.kaldi.tables import write_table
from mtla_espnet.data.text.spaces import plain_spaces
from mtla_espnet.data.text.text_case import CASES, to_case
from mtla_espnet.files import UserError, read_text

PACKAGE = DebianPackage(
    "tuxpaint-stamps-default",
    "2022.06.04-1",
    "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
    megabytes=161,
)
_IN_PACKAGE = Path("usr/share/tuxpaint/stamps")
SETS = ("train", "valid", "test")
# Of 100 stamps; the rest are for training.
_TEST_STAMPS, _VALID_STAMPS = 10, 5
_FEWEST_RECORDINGS = 300
_MOST_CHARACTERS_PER_S = 30.0
# Whole recordings of Catalan's symbols are cut off (0.3 s each).
_MAX_REJECTED = 25.0
# duck_desc_fr.ogg, duck_desc.ogg (English), and one duck_desc_da.ogg.ogg
_RECORDING = re.compile(r"(?P<stamp>.+)_desc(?:_(?P<lang>[A-Za-z_]+))?(?P<end>\.ogg(?:\.ogg)*)")
_TRANSLATION = re.compile(r"(?P<lang>[\w@]+)\.utf8\s*=(?P<text>.*)")
# Between words, though `to_case` drops it without a blank.
_BREAKS = str.maketrans({"—": " ", "–": " ", "…": " ", "·": "", "’": "'"})


class Recording(NamedTuple):
    """A spoken description.

    Args:
        id: of the utterance.
        lang: language spoken.
        stamp: path of the picture below the root, without ending.
        audio: the sound file.
        description: the file of texts.
        text: what is spoken, as distributed; empty where it is missing.
        english: the same in English.
        problem: why it cannot be used; empty if it can.
    """

    id: str
    lang: str
    stamp: str
    audio: Path
    description: Path
    text: str
    english: str
    problem: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this corpus."""
    add_shared_arguments(parser)
    parser.set_defaults(max_rejected=_MAX_REJECTED)
    parser.add_argument(
        "--lang", default="", help='languages, as in "es fr"; default: those with 300 recordings'
    )
    parser.add_argument(
        "--unseen",
        default="text",
        choices=("text", "translation"),
        help="what of a test utterance training must not have: its text, or its English text too",
    )
    add_download_argument(parser, PACKAGE)


def prepare(args: argparse.Namespace) -> None:
    """Write `train`, `valid` and `test`.

    Raises:
        UserError: the recordings are not there, a language has none, or too many are rejected.
    """
    root = find_stamps(args.downloads, args.download)
    recordings = list(read_recordings(root))
    if not recordings:
        raise UserError(f"{root}: no <stamp>_desc_<language>.ogg below it: set TUXPAINT in db.sh")
    languages = _choose_languages(args.lang.replace(",", " ").split(), recordings)
    chosen = [each for each in recordings if each.lang in languages]
    lengths = durations((each.audio for each in chosen), args.nj, None)
    sets = _make_sets(chosen, lengths, args.unseen == "translation")
    leave_out_rejected(args.output, sets, args.max_rejected)
    write_sets(args.output, sets)
    held_out = {text for each in sets if each.name != "train" for text in each.text.values()}
    write_table(args.output / "lm_text", _training_texts(recordings, languages, held_out))
    for each in sets:
        hours = sum(float(lengths[path]) for path in each.wav_scp.values()) / 3600
        counts = Counter(each.utt2spk.values())
        spread = ", ".join(f"{lang} {counts[lang]}" for lang in sorted(counts))
        logging.info("%s: %.2f h: %s", args.output / each.name, hours, spread)


def find_stamps(root: Path, download: bool) -> Path:
    """Return the directory of the stamps: in a package's tree, or `root` itself.

    Args:
        root: what `TUXPAINT` names.
        download: fetch the package where nothing is there.

    Raises:
        UserError: it is not there and may not, or cannot, be fetched.
    """
    fetched = root / PACKAGE.name
    for tree in (root, fetched):
        if (tree / _IN_PACKAGE).is_dir():
            return tree / _IN_PACKAGE
    if next(root.glob("*/**/*_desc*.ogg"), None):
        return root
    if not download:
        raise UserError(
            f"{root}: has no stamps: fetch them by --local_data_opts --download (apt-get download "
            f"{PACKAGE.name}, {PACKAGE.megabytes} MB), or unpack that package and name its tree by "
            "TUXPAINT in db.sh"
        )
    unpack_package(PACKAGE, fetched)
    if not (fetched / _IN_PACKAGE).is_dir():
        raise UserError(f"{fetched}: the package has no {_IN_PACKAGE}")
    return fetched / _IN_PACKAGE


def read_recordings(root: Path) -> Iterator[Recording]:
    """Yield every description below `root`, sorted by path, also those that cannot be used."""
    for audio in sorted(root.rglob("*_desc*.ogg")):
        match = _RECORDING.fullmatch(audio.name)
        if match is None:
            continue
        stamp = str(audio.parent.relative_to(root) / match["stamp"])
        lang = match["lang"] or "en"
        description = audio.with_name(f"{match['stamp']}.txt")
        problem = ""
        texts: dict[str, str] = {}
        try:
            texts = read_description(description)
        except UserError as error:
            problem = str(error)
        text = texts.get(lang, "")
        if match["end"] != ".ogg":
            problem = f"{audio}: misnamed: not <stamp>_desc_<language>.ogg"
        elif not problem and not spoken_form(text):
            problem = f"{description}: has no text in {lang!r}"
        key = _utterance_id(lang, stamp) + match["end"].removeprefix(".ogg")
        yield Recording(key, lang, stamp, audio, description, text, texts.get("en", ""), problem)


def read_description(path: Path) -> dict[str, str]:
    """Read the file of a stamp: language -> text; what is no line of a language is ignored.

    Raises:
        UserError: it is not there, or is not UTF-8.
    """
    first, *others = read_text(path).removeprefix("\ufeff").split("\n")
    texts = {"en": plain_spaces(first)}
    for line in others:
        match = _TRANSLATION.fullmatch(line.strip())
        if match is not None:
            texts[match["lang"]] = plain_spaces(match["text"])
    return texts


def spoken_form(text: str) -> str:
    """Return a text in lower case, without punctuation but the apostrophe.

    Example:
        >>> spoken_form("Tux—the Linux mascot!")
        'tux the linux mascot'
    """
    return to_case(text.translate(_BREAKS), "lc.rm")


def set_of(stamp: str) -> str:
    """Return the set of a stamp, by its path alone.

    Example:
        >>> {set_of(f"animals/{i}") for i in range(200)} == set(SETS)
        True
    """
    place = int.from_bytes(hashlib.sha256(stamp.encode()).digest()[:8], "big") % 100
    if place < _TEST_STAMPS:
        return "test"
    return "valid" if place < _TEST_STAMPS + _VALID_STAMPS else "train"


def _utterance_id(lang: str, stamp: str) -> str:
    name = "".join("_" if c.isspace() else c for c in stamp.replace("/", "."))
    return f"{lang}-{name}"


def _marked(lang: str, text: str) -> str:
    """Return the text that a model writes: the language's token, then the words."""
    return f"<{lang}> {spoken_form(text)}"


def _read_or_nothing(path: Path) -> dict[str, str]:
    try:
        return read_description(path)
    except UserError:
        return {}


def _choose_languages(wanted: list[str], recordings: list[Recording]) -> set[str]:
    counts = Counter(each.lang for each in recordings if not each.problem)
    legal = ", ".join(f"{lang} {counts[lang]}" for lang in sorted(counts))
    for lang in wanted:
        if not counts[lang]:
            raise UserError(f"--lang {lang}: no recordings with a text; there are {legal}", 2)
    chosen = set(wanted) or {lang for lang in counts if counts[lang] >= _FEWEST_RECORDINGS}
    if not chosen:
        raise UserError(
            f"no language has {_FEWEST_RECORDINGS} recordings; choose by --lang: {legal}", 2
        )
    return chosen


def _make_sets(
    recordings: list[Recording], lengths: dict[str, float | str], unseen_english: bool
) -> list[CorpusSet]:
    sets = {name: CorpusSet(name) for name in SETS}
    usable: dict[str, list[Recording]] = {name: [] for name in SETS}
    ids: set[str] = set()
    for each in recordings:
        name = set_of(each.stamp)
        problem = each.problem or _problem_of_audio(each, lengths[str(each.audio)])
        if each.id in ids:
            problem = f"{each.audio}: another recording has this id"
        ids.add(each.id)
        if problem:
            sets[name].reject(each.id, each.description, None, problem)
        else:
            usable[name].append(each)
    held_out: set[str] = set()
    for name in reversed(SETS):
        kept = [each for each in usable[name] if not held_out & _texts(each, unseen_english)]
        _fill(sets[name], kept)
        held_out.update(*(_texts(each, unseen_english) for each in kept))
        dropped = len(usable[name]) - len(kept)
        if dropped:
            logging.info("%s: %d left out, their text is in a later set", name, dropped)
    return list(sets.values())


def _training_texts(
    recordings: list[Recording], languages: set[str], held_out: set[str]
) -> dict[str, str]:
    """Return the texts of training stamps in all languages: id -> text with its token."""
    texts: dict[str, str] = {}
    descriptions = {each.stamp: each.description for each in recordings}
    for stamp, path in descriptions.items():
        if set_of(stamp) != "train" or not path.is_file():
            continue
        for lang, text in _read_or_nothing(path).items():
            marked = _marked(lang, text)
            if lang in languages and spoken_form(text) and marked not in held_out:
                texts[_utterance_id(lang, stamp)] = marked
    return texts


def _problem_of_audio(recording: Recording, length: float | str) -> str:
    if isinstance(length, str):
        return length
    characters = len(spoken_form(recording.text))
    if characters > _MOST_CHARACTERS_PER_S * length:
        return f"{recording.audio}: cut off: {length:.2f} s for {characters} characters of text"
    return ""


def _texts(recording: Recording, with_english: bool) -> set[str]:
    """Return what of a recording other sets must not have."""
    texts = {spoken_form(recording.text)}
    if with_english:
        texts.add(f"en: {spoken_form(recording.english)}")
    return texts


def _fill(corpus_set: CorpusSet, recordings: list[Recording]) -> None:
    forms = [(case, lang) for case in CASES for lang in ("mul", "en")]
    corpus_set.others = {f"text.{case}.{lang}": {} for case, lang in forms}
    for each in recordings:
        corpus_set.wav_scp[each.id] = str(each.audio)
        corpus_set.utt2spk[each.id] = each.lang
        corpus_set.text[each.id] = _marked(each.lang, each.text)
        for case, lang in forms:
            text = each.text if lang == "mul" else each.english
            text = spoken_form(text) if case == "lc.rm" else to_case(text, case)
            corpus_set.others[f"text.{case}.{lang}"][each.id] = text
