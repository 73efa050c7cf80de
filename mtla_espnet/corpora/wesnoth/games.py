"""The games' packages, and what is read of them: lines in two languages, some with a recording.

A game's lines are kept, so that it is read once:

    raw/steel_sky/{text.en,text.de,part}     name of the line -> what it says, where it is from
    raw/steel_sky/audio/<name>.flac          where it is spoken by people
"""

import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from mtla_espnet.corpora.shared.debian_archive import DebianPackage, unpack_packages
from mtla_espnet.corpora.wesnoth import drascula
from mtla_espnet.corpora.wesnoth.catalogue import read_pairs
from mtla_espnet.corpora.wesnoth.steel_sky import FILES, INDEX, RATE_HZ, SkyLine, SteelSky
from mtla_espnet.data.kaldi.tables import read_table, write_table
from mtla_espnet.directories import (
    flush_all,
    replace_directory,
    scratch_directory,
    without_leftovers,
)
from mtla_espnet.files import UserError, write_text
from mtla_espnet.jobs.parallel import run_jobs

_VERSION = "1:1.16.9-1"
# What the package wesnoth-1.16-<part> has of the texts, its size in MB and its SHA-256.
_WESNOTH = {
    "data": (147, "1012b964bd412a6770685e3324ae3b61e176caff7846192d1ee63d55cd621e26"),
    "did": (6, "774619f5aaeb7eb4c848e1cc1758795a8c58e96bd270cceecc9d847dbcc769b3"),
    "dm": (6, "1997ad4d91e8de36415db2a3445904288f588a76d75111222d2aace409ace5c6"),
    "dw": (6, "47982e08b2a5d5fd79f400a5453f32c6d7dd56f2ccc10412a9e47dec8a9b3ca4"),
    "ei": (6, "687abe111ee662b7324336ddadc209758f68d2eeb1ccbf630238f27a0e3c6404"),
    "httt": (13, "05b16a3f8f8204278794aae14d8e6a7c95d2b2faef7337c4997c827a146d1bbd"),
    "l": (6, "5383c79046df6121929bc36a8ec3f970ab4cf9c1239ed9b31868201c27f4266d"),
    "low": (9, "2f304551b97b7fb76a2adb5ad8ffcac3e78476bc8ade17532c90714065c9bf9f"),
    "nr": (8, "13edcf1bdd23708f531ba81c67100c5800363a119f10155c7f9e146fe7dced34"),
    "sof": (7, "b6f1ddffdbd1a977f3965dae944e4fb11c147627471f1cfc71c92d1e69efb555"),
    "sota": (7, "fa44304ff53d259f3c5fe13c03cb8166e55e9c307807d1a5663048c396645ba6"),
    "sotbe": (7, "877a2f4a7fd8df54fd3b4561ffbd5fa95d0390d7c7372f3cb66367c8007918cb"),
    "thot": (7, "79d9ec6e43300ea9f41295ccf3fb451e8eeaefc17007123f65d77eb05cb88695"),
    "trow": (20, "b5009e964ac7157a46d50de911e4f56f5bb4389d60b82a513b5f382671d180d7"),
    "tsg": (9, "38b5f564253b8e0d9c093b2b7c58aabfef24f688968d9cbaf42abfc1e76d8288"),
    "ttb": (6, "d0d45693665305191488553ade8dc1d0aa26ab17d4bffae3bf6969db4a766329"),
    "utbs": (14, "81e05717bebbfb6348c0bed2cd6ce2560c4fd9205ed419c2e7bc039b4a70e228"),
}
PACKAGES = [
    *(
        DebianPackage(f"wesnoth-1.16-{part}", _VERSION, sha256, megabytes)
        for part, (megabytes, sha256) in _WESNOTH.items()
    ),
    DebianPackage(
        "beneath-a-steel-sky",
        "0.0372-8",
        "e2a25c880220c26a4dfd42904b878cc655afa1c72895f9c932befbd078622934",
        megabytes=67,
    ),
    DebianPackage(
        "drascula",
        "1.0+ds4-2",
        "ed4af8e2d41ad446e2f3b73533daa1804e2f13f62f596c0b02b8dc39544f22b4",
        megabytes=27,
    ),
    DebianPackage(
        "scummvm",
        "2.7.0+dfsg-1",
        "db6b301cbec31f05387bc7272bdca20a6badadfe5aa29f85a4250630833d3506",
        megabytes=22,
    ),
]
MEGABYTES = sum(each.megabytes for each in PACKAGES) + 13  # flite
# Of a catalogue's name, `wesnoth-httt.mo`: what has no menus and messages of the program.
_PARTS = (
    "anl did dm dw ei help httt l low nr sof sota sotbe tb thot trow tsg tutorial units utbs wc"
).split()
_CATALOGUES = Path("usr/share/games/wesnoth/1.16/locale/de/LC_MESSAGES")
_SKY = Path("usr/share/scummvm/beneath-a-steel-sky")
_DRASCULA = Path("usr/share/scummvm/drascula/en")
_PROGRAM = Path("usr/games/scummvm")
_NEEDED = (
    _CATALOGUES / "wesnoth-help.mo",
    _CATALOGUES / "wesnoth-httt.mo",
    _SKY / INDEX,
    _SKY / FILES,
    _DRASCULA / drascula.NAME,
    _PROGRAM,
)
_AUDIO = ("flac", "mp3", "opus")
_DONE = ".done"
_FORMAT = "1\n"  # raise it when the same packages shall give other lines
_LINES_PER_JOB = 200


class SpokenLine(NamedTuple):
    """A sentence, or what an actor says at once.

    Args:
        name: of it, unique in its game.
        game: `wesnoth`, `steel_sky` or `drascula`.
        part: campaign, section or character.
        english: as it is written.
        german: the translation.
        audio: its recording; empty where nobody spoke it.
    """

    name: str
    game: str
    part: str
    english: str
    german: str
    audio: str


def find_lines(root: Path, kept: Path, download: bool, nj: int) -> list[SpokenLine]:
    """Return the lines of all games, by game, in the order of their names.

    Args:
        root: what `WESNOTH` names: a tree with the packages' files, or where it is to be.
        kept: directory of what was read before.
        download: fetch the packages where a game is neither there nor kept.
        nj: processes.

    Raises:
        UserError: a game is not there and may not, or cannot, be fetched, or does not parse.
    """
    makers: dict[str, Callable[[Path, Path, int], Iterable[SpokenLine]]] = {
        "wesnoth": _make_wesnoth,
        "steel_sky": _make_steel_sky,
        "drascula": _make_drascula,
    }
    missing = {name: make for name, make in makers.items() if not _is_kept(kept / name)}
    if missing:
        tree = find_tree(root, download)
        with without_leftovers(kept):
            for name, make in missing.items():
                with scratch_directory(kept) as scratch:
                    made = scratch / name
                    (made / "audio").mkdir(parents=True)
                    lines = list(make(tree, made, nj))
                    for table in ("english", "german", "part"):
                        path = made / {"english": "text.en", "german": "text.de"}.get(table, table)
                        write_table(path, {each.name: getattr(each, table) for each in lines})
                    flush_all(made)  # before the mark, which vouches for them
                    write_text(made / _DONE, _FORMAT)
                    replace_directory(made, kept / name)
    return [line for name in makers for line in _read(kept / name)]


def find_tree(root: Path, download: bool) -> Path:
    """Return the tree with the packages' files.

    Raises:
        UserError: files are not there and may not, or cannot, be fetched.
    """
    fetched = root / "games"
    for tree in (root, fetched):
        if all((tree / path).is_file() for path in _NEEDED):
            return tree
    lacking = [str(path) for path in _NEEDED if not (root / path).is_file()]
    if len(lacking) < len(_NEEDED) or not download:
        others = {path.parents[2].name for path in root.glob(str(_other_versions()))}
        version = f" (Wesnoth is there in version {', '.join(sorted(others))})" if others else ""
        raise UserError(
            f"{root}: has no {lacking[0]}{version}: fetch all by --local_data_opts --download into "
            f"an empty directory (apt-get download, {MEGABYTES} MB), or unpack "
            f"{', '.join(each.name for each in PACKAGES)} into one tree and name it by WESNOTH in "
            "db.sh"
        )
    unpack_packages(PACKAGES, fetched)
    return fetched


def _other_versions() -> Path:
    parts = list(_CATALOGUES.parts)
    parts[parts.index("1.16")] = "*"
    return Path(*parts)


def _is_kept(directory: Path) -> bool:
    mark = directory / _DONE
    return mark.is_file() and mark.read_text(encoding="utf-8") == _FORMAT


def _read(directory: Path) -> Iterable[SpokenLine]:
    english, german, part = (
        read_table(directory / name) for name in ("text.en", "text.de", "part")
    )
    for name, text in english.items():
        audio = ""
        for suffix in _AUDIO:
            path = directory / "audio" / f"{name}.{suffix}"
            if path.is_file():
                audio = str(path)
        yield SpokenLine(name, directory.name, part[name], text, german[name], audio)


def _make_wesnoth(tree: Path, made: Path, nj: int) -> Iterable[SpokenLine]:
    del made, nj
    for part in _PARTS:
        path = tree / _CATALOGUES / f"wesnoth-{part}.mo"
        for number, (english, german) in enumerate(read_pairs(path) if path.is_file() else ()):
            yield SpokenLine(f"{part}-{number:05d}", "wesnoth", part, english, german, "")


def _make_steel_sky(tree: Path, made: Path, nj: int) -> Iterable[SpokenLine]:
    game = SteelSky(tree / _SKY)
    lines = game.lines(tree / _PROGRAM)
    blocks = [lines[at : at + _LINES_PER_JOB] for at in range(0, len(lines), _LINES_PER_JOB)]
    write = functools.partial(_write_steel_sky, game, made / "audio")
    run_jobs(write, blocks, max(1, nj), progress="speech of Beneath a Steel Sky")
    for line in lines:
        name, part = f"{line.number:05d}", str(line.section)
        yield SpokenLine(name, "steel_sky", part, line.english, line.german, "")


def _write_steel_sky(game: SteelSky, audio: Path, lines: list[SkyLine]) -> None:
    for line in lines:
        _write(audio / f"{line.number:05d}.flac", game.speech(line.number))


def _make_drascula(tree: Path, made: Path, nj: int) -> Iterable[SpokenLine]:
    del nj
    directory = tree / _DRASCULA
    for name, character, english, german in drascula.read_lines(directory):
        _write(made / f"audio/{name}.flac", drascula.read_speech(directory / f"{name}.ALS"))
        yield SpokenLine(name, "drascula", character, english, german, "")


def _write(path: Path, samples: np.ndarray) -> None:
    """Write a recording, (T,) int8."""
    soundfile.write(path, samples.astype(np.int16) << 8, RATE_HZ, subtype="PCM_S8")
