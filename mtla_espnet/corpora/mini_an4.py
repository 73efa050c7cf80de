"""mini_an4: seven real recordings of AN4 (people spelling, numbers and dates, 16 kHz).

They come inside the espnet wheel, as its own smoke corpus. Choices, and why:
- Of the five listed training files the last is for validation: 4 / 1 / 2 utterances.
  That proves a chain from end to end; an error rate on it means nothing.
- `wav.scp` names the `.sph` files: libsndfile reads them, so no sph2pipe and no pipe.
- The speaker is put before AN4's file name, to make ids sort by speaker.

Raw layout: `an4/etc/an4_{train,test}.{fileids,transcription}`, `an4/wav/<fileid>.sph`.
"""

import argparse
import importlib.metadata
import logging
import re
import tarfile
from pathlib import Path
from typing import NamedTuple

from mtla_espnet.data.kaldi.datadir import write_data_dir
from mtla_espnet.directories import scratch_directory, without_leftovers
from mtla_espnet.files import UserError, read_text

_ARCHIVE = "egs3/mini_an4/esp2_asr/downloads.tar.gz"  # in the espnet wheel
_ROOT = "downloads/an4/"  # in the archive

# YES (an251-fash-b)   or   <s> YES </s> (an251-fash-b)
_TRANSCRIPTION = re.compile(r"(?:<s>\s)?(?P<words>[^<>()]+?)\s(?:</s>\s)?\((?P<file>[^()\s]+)\)")


class Utterance(NamedTuple):
    """One recording of AN4."""

    id: str
    speaker: str
    words: str
    path: Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this corpus."""
    parser.add_argument("--output", type=Path, default=Path("data"), help="data directories")
    parser.add_argument("--downloads", type=Path, default=Path("downloads"), help="raw corpora")


def prepare(args: argparse.Namespace) -> None:
    """Unpack the corpus unless it is there, then write `train`, `valid` and `test`.

    Raises:
        UserError: the installed espnet has no such archive, or the corpus is damaged.
    """
    root = args.downloads / "an4"
    if not root.exists():
        unpack(find_archive(), root)
    training = read_utterances(root, "train")
    sets = {"train": training[:-1], "valid": training[-1:], "test": read_utterances(root, "test")}
    for name, utterances in sets.items():
        write_data_dir(
            args.output / name,
            wav_scp={each.id: each.path for each in utterances},
            text={each.id: each.words for each in utterances},
            utt2spk={each.id: each.speaker for each in utterances},
        )
        logging.info("%s: %d utterances", args.output / name, len(utterances))


def find_archive() -> Path:
    """Return the path of the corpus inside the installed espnet, without importing that.

    Raises:
        UserError: espnet is not installed, or comes without the corpus.
    """
    try:
        path = Path(importlib.metadata.distribution("espnet").locate_file(_ARCHIVE))
    except importlib.metadata.PackageNotFoundError:
        raise UserError("mini_an4 comes with espnet: pip install 'espnet>=202611'") from None
    if not path.is_file():
        raise UserError(f"{path}: no such file: install the wheel of espnet>=202611")
    return path


def unpack(archive: Path, root: Path) -> None:
    """Unpack the `an4` part of `archive` as `root`, whole or not at all.

    Raises:
        UserError: the archive cannot be read, or wants to write outside of `root`.
    """
    with without_leftovers(root.parent), scratch_directory(root.parent) as temporary:
        try:
            with tarfile.open(archive) as tar:
                members = [member for member in tar if member.name.startswith(_ROOT)]
                tar.extractall(temporary, members, filter="data")
        except (tarfile.TarError, EOFError, OSError) as error:
            raise UserError(f"{archive}: cannot be unpacked: {error}") from None
        unpacked = temporary / _ROOT
        if not unpacked.is_dir():
            raise UserError(f"{archive}: has no {_ROOT}")
        unpacked.rename(root)


def read_utterances(root: Path, part: str) -> list[Utterance]:
    """Read the utterances that `etc/an4_<part>.fileids` lists, in its order.

    Raises:
        UserError: a transcription is malformed, or a listed file has no transcription
            or no recording; the message starts with `path:line`.
    """
    transcripts = _read_transcripts(root / "etc" / f"an4_{part}.transcription")
    list_path = root / "etc" / f"an4_{part}.fileids"
    utterances = []
    for number, line in enumerate(_read_lines(list_path), 1):
        speaker, _, name = line.rpartition("/")
        speaker = speaker.rpartition("/")[2]
        path = root / "wav" / f"{line}.sph"
        if not speaker or name not in transcripts:
            raise UserError(f"{list_path}:{number}: {line!r} has no transcription")
        if not path.is_file():
            raise UserError(f"{list_path}:{number}: no such file: {path}")
        utterances.append(Utterance(f"{speaker}-{name}", speaker, transcripts[name], path))
    return utterances


def _read_transcripts(path: Path) -> dict[str, str]:
    transcripts = {}
    for number, line in enumerate(_read_lines(path), 1):
        match = _TRANSCRIPTION.fullmatch(line.strip())
        if match is None:
            raise UserError(f"{path}:{number}: not `WORDS (file)`: {line!r}")
        transcripts[match["file"]] = match["words"]
    return transcripts


def _read_lines(path: Path) -> list[str]:
    return read_text(path).splitlines()
