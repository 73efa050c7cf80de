"""Data directories: what one holds, and whether it is sound.

A data directory describes one set: `utt2spk` and `spk2utt`, `text`, `wav.scp`, and
`segments` where utterances are parts of longer recordings.
"""

import logging
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from mtla_espnet.data.kaldi.pipes import is_command
from mtla_espnet.data.kaldi.tables import invisible_in, read_table, spk2utt_from, write_table
from mtla_espnet.files import UserError

# Words that language models and Kaldi's tools use for themselves.
ILLEGAL_WORDS = {"<s>", "</s>", "#0"}
# No recording is longer: four months.
LONGEST_S = 1e7
_ODD_SPACE = re.compile(r"[^\S \t]")


class Segment(NamedTuple):
    """The part of a recording that an utterance is."""

    recording: str
    start_s: float
    end_s: float


def read_segments(path: str | os.PathLike) -> dict[str, Segment]:
    """Read `segments`: lines `<utterance> <recording> <start> <end>`, times in seconds.

    Raises:
        UserError: as `read_table`, or a line is not four fields with 0 <= start < end <= 1e7.
    """
    segments = {}
    for number, (utterance, value) in enumerate(read_table(path).items(), 1):
        try:
            recording, start, end = value.split()
            segment = Segment(recording, float(start), float(end))
        except ValueError:
            segment = None
        if segment is None or not 0 <= segment.start_s < segment.end_s <= LONGEST_S:
            raise UserError(
                f"{path}:{number}: badly formatted segments file: {utterance!r} needs "
                f"`<recording> <start> <end>` with 0 <= start < end, not {value!r}"
            )
        segments[utterance] = segment
    return segments


def write_data_dir(
    path: str | os.PathLike,
    wav_scp: Mapping[str, object],
    text: Mapping[str, str],
    utt2spk: Mapping[str, str],
    segments: Mapping[str, Segment] | None = None,
) -> None:
    """Write `wav.scp`, `text`, `utt2spk`, `spk2utt`, and `segments` if given.

    Files that are there are replaced, so a second run gives the same; `wav.scp` goes first
    and comes last, so an interrupted call leaves nothing that looks whole.

    Args:
        path: the directory.
        wav_scp: recording -> audio; without `segments`, recordings are utterances.
        text: utterance -> words.
        utt2spk: utterance -> speaker.
        segments: utterance -> part of a recording, written to the millisecond.
    """
    path = Path(path)
    (path / "wav.scp").unlink(missing_ok=True)
    write_table(path / "text", text)
    write_table(path / "utt2spk", utt2spk)
    write_table(path / "spk2utt", spk2utt_from(utt2spk))
    if segments is None:
        (path / "segments").unlink(missing_ok=True)
    else:
        parts = {
            utterance: f"{part.recording} {part.start_s:.3f} {part.end_s:.3f}"
            for utterance, part in segments.items()
        }
        write_table(path / "segments", parts)
    write_table(path / "wav.scp", wav_scp)


def validate_data_dir(
    path: str | os.PathLike,
    audio: bool = True,
    text: bool = True,
    allow_pipes: bool = False,
    texts: Iterable[str] = (),
    features: bool = False,
) -> None:
    """Check a data directory; log one line when it is good.

    Args:
        path: the directory.
        audio: it must have `wav.scp` (and `segments` must fit, if there).
        text: it must have `text`.
        allow_pipes: `wav.scp` may have commands.
        texts: names of other tables of text that it must have.
        features: it must have `feats.scp`.

    Raises:
        UserError: a file is missing, empty, unsorted or malformed, or two files do
            not speak of the same ids; the message names the file and the line or id.
    """
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"{path}: no such directory")
    utt2spk = _read_filled(path / "utt2spk")
    _check_speaker_order(path / "utt2spk", utt2spk)
    _check_spk2utt(path, utt2spk)
    for name in dict.fromkeys([*(["text"] if text else []), *texts]):
        check_text(path / name, utt2spk, "utt2spk")
    if audio:
        _check_audio(path, utt2spk, allow_pipes)
    if features:
        entries = _read_filled(path / "feats.scp")
        _check_same_ids(path, "utt2spk", utt2spk, "features", entries)
    if len(set(utt2spk.values())) == 1:
        logging.warning("%s: all utterances are of one speaker", path / "utt2spk")
    logging.info("Successfully validated data-directory %s", path)


def validate_text_dir(path: str | os.PathLike, texts: Iterable[str]) -> None:
    """Check a data directory of text alone; log one line when it is good.

    Args:
        path: the directory.
        texts: names of its tables of text.

    Raises:
        UserError: a table is missing, empty or malformed, or two have not the same ids; the
            message names the file and the line or id.
    """
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"{path}: no such directory")
    first, *others = texts
    table = read_table(path / first)
    for name in (first, *others):
        check_text(path / name, table, first)
    logging.info("Successfully validated data-directory %s", path)


def check_text(path: Path, table: Mapping[str, object], name: str) -> None:
    """Check a table of text, whose lines may be empty.

    Args:
        path: the table.
        table: another one of the directory, with the same ids.
        name: of that.

    Raises:
        UserError: it is malformed, or has other ids; the message names the file and the line or
            id.
    """
    text = _read_filled(path, values=False)
    _check_words(path, text)
    _check_same_ids(path.parent, name, table, path.name, text)


def _read_filled(path: Path, values: bool = True) -> dict[str, str]:
    """Read a table that has entries, and a value in each if `values`."""
    table = read_table(path)
    if not table:
        raise UserError(f"{path}: empty file")
    for number, (key, value) in enumerate(table.items(), 1):
        if values and not value:
            raise UserError(f"{path}:{number}: nothing follows id {key!r}")
    return table


def _check_speaker_order(path: Path, utt2spk: dict[str, str]) -> None:
    previous = ""
    for number, (utterance, speaker) in enumerate(utt2spk.items(), 1):
        if len(speaker.split()) != 1:
            raise UserError(f"{path}:{number}: {utterance!r} needs one speaker, not {speaker!r}")
        if speaker < previous:
            raise UserError(
                f"{path}:{number}: utt2spk is not in sorted order when sorted first on speaker-id "
                "(fix this by making speaker-ids prefixes of utt-ids)"
            )
        previous = speaker


def _check_spk2utt(path: Path, utt2spk: dict[str, str]) -> None:
    expected = spk2utt_from(utt2spk)
    spk2utt = _read_filled(path / "spk2utt")
    for speaker in sorted(expected.keys() | spk2utt.keys()):
        if expected.get(speaker, "").split() != spk2utt.get(speaker, "").split():
            raise UserError(
                f"{path}: spk2utt and utt2spk do not seem to match: "
                f"they give speaker {speaker!r} other utterances"
            )


def _check_words(path: Path, transcripts: dict[str, str]) -> None:
    for number, (utterance, words) in enumerate(transcripts.items(), 1):
        odd = _ODD_SPACE.search(words)
        if odd is not None:
            raise UserError(
                f"{path}:{number}: text of {utterance!r} has the space character "
                f"U+{ord(odd[0]):04X}: use plain spaces"
            )
        if invisible_in(words):
            raise UserError(
                f"{path}:{number}: text of {utterance!r} {invisible_in(words)}: remove it "
                "(`data check --fix` does)"
            )
        illegal = ILLEGAL_WORDS.intersection(words.split())
        if illegal:
            raise UserError(
                f"{path}:{number}: text contains illegal symbol {min(illegal)!r} in {utterance!r}"
            )


def _check_audio(path: Path, utt2spk: dict[str, str], allow_pipes: bool) -> None:
    recordings = _read_filled(path / "wav.scp")
    for number, (recording, source) in enumerate(recordings.items(), 1):
        where = f"{path / 'wav.scp'}:{number}: {recording!r}"
        if is_command(source) and not allow_pipes:
            raise UserError(
                f"{where} is a command, and commands are not run: name an audio file, "
                "or allow them by --allow_pipes true"
            )
        if source.startswith("~"):
            raise UserError(f"{where} starts with '~', which is not expanded: write the full path")
    if not (path / "segments").exists():
        _check_same_ids(path, "utt2spk", utt2spk, "wav.scp", recordings)
        return
    segments = read_segments(path / "segments")
    _check_same_ids(path, "utt2spk", utt2spk, "segments", segments)
    for number, (utterance, segment) in enumerate(segments.items(), 1):
        if segment.recording not in recordings:
            raise UserError(
                f"{path / 'segments'}:{number}: {utterance!r} is cut from "
                f"{segment.recording!r}, which wav.scp does not have"
            )


def _check_same_ids(path: Path, name: str, table: dict, other_name: str, other: dict) -> None:
    if table.keys() == other.keys():
        return
    differences = "; ".join(
        f"only in {holder}: {', '.join(sorted(ids)[:3])}{', ...' if len(ids) > 3 else ''}"
        for holder, ids in (
            (name, table.keys() - other.keys()),
            (other_name, other.keys() - table.keys()),
        )
        if ids
    )
    raise UserError(
        f"{path}: utterance lists extracted from {name} and {other_name} differ: {differences} "
        f"(lengths {len(table)} and {len(other)})"
    )
