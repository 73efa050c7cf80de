"""A set of a corpus on its way to a data directory."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mtla_espnet.data.kaldi.datadir import Segment, write_data_dir
from mtla_espnet.data.kaldi.rejected import Rejection, report_rejected
from mtla_espnet.data.kaldi.tables import write_table
from mtla_espnet.files import UserError

# A segment may end this much after its recording (rounded times); stage 3 cuts it short.
_OVERSHOOT_S = 0.5


@dataclass
class CorpusSet:
    """Tables of a set, and what is left out of it.

    Args:
        name: of the data directory.

    Attributes:
        wav_scp: recording -> audio file.
        segments: utterance -> part of a recording; empty: utterances are recordings.
        text, utt2spk: of the utterances.
        others: further tables, by file name.
        rejections: what cannot be used.
    """

    name: str
    wav_scp: dict[str, str] = field(default_factory=dict)
    segments: dict[str, Segment] = field(default_factory=dict)
    text: dict[str, str] = field(default_factory=dict)
    utt2spk: dict[str, str] = field(default_factory=dict)
    others: dict[str, dict[str, str]] = field(default_factory=dict)
    rejections: list[Rejection] = field(default_factory=list)

    def reject(self, utterance: str, file: object, line: int | None, reason: str) -> None:
        """Leave an utterance out."""
        self.rejections.append(Rejection(utterance, str(file), line, reason))

    def reject_bad_audio(self, places: Mapping[str, tuple[str, int | None]], lengths_s) -> None:
        """Leave out the utterances whose audio is missing, corrupt or too short for them.

        Args:
            places: utterance -> the raw file and line that speak of it.
            lengths_s: `raw_files.durations` of the audio in `wav_scp`.
        """
        bad = [path for path in self.wav_scp.values() if isinstance(lengths_s[path], str)]
        share = f" ({len(bad)} of the {len(self.wav_scp)} audio files are bad)"
        for utterance in list(self.text):
            segment = self.segments.get(utterance)
            path = self.wav_scp[segment.recording if segment else utterance]
            length = lengths_s[path]
            if isinstance(length, str):
                self.reject(utterance, *places[utterance], length + share)
            elif segment and (segment.end_s > length + _OVERSHOOT_S or segment.start_s >= length):
                span = f"{segment.start_s:.3f} s to {segment.end_s:.3f} s"
                self.reject(utterance, *places[utterance], f"{span} of {path}: {length:.3f} s long")

    def _drop_rejected(self) -> None:
        """Take what is rejected out of the tables."""
        ids = {rejection.utterance for rejection in self.rejections}
        for table in (self.segments, self.text, self.utt2spk, *self.others.values()):
            for utterance in ids & table.keys():
                del table[utterance]
        if self.segments:
            used = {segment.recording for segment in self.segments.values()}
        else:
            used = self.text.keys()
        self.wav_scp = {key: path for key, path in self.wav_scp.items() if key in used}


def leave_out_rejected(output: Path, sets: Sequence[CorpusSet], max_rejected: float) -> None:
    """List what is rejected of each set and take it out of the tables.

    Args:
        output: directory of the data directories.
        sets: each loses what it rejects.
        max_rejected: percentage of a set that may be rejected.

    Raises:
        UserError: a set is empty, or too much of it is rejected; then no set looks whole.
    """
    try:
        for each in sets:
            ids = each.text.keys() | {rejection.utterance for rejection in each.rejections}
            if not ids:
                raise UserError(f"{output / each.name}: the corpus has no utterance for this set")
            report_rejected(output / each.name, each.rejections, len(ids), max_rejected)
    except UserError:
        for each in sets:
            (output / each.name / "wav.scp").unlink(missing_ok=True)
        raise
    for each in sets:
        each._drop_rejected()


def write_sets(output: Path, sets: Sequence[CorpusSet]) -> None:
    """Write the data directories of sets from which the rejected utterances are out."""
    for each in sets:
        directory = output / each.name
        for name, table in each.others.items():
            write_table(directory / name, table)
        write_data_dir(directory, each.wav_scp, each.text, each.utt2spk, each.segments or None)
        hours = sum(part.end_s - part.start_s for part in each.segments.values()) / 3600
        spoken = f", {hours:.2f} h" if each.segments else ""
        logging.info("%s: %d utterances%s", directory, len(each.text), spoken)
