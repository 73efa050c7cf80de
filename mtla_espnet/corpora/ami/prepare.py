"""AMI: 100 hours of meetings with several microphones, English (CC BY 4.0).

Choices, and why:
- The partition is the full-corpus ASR one of Kaldi and ESPnet, and so are cutting, text and
  ids (`utterances`), so that error rates can be compared.
- The annotations are read from NXT's XML as distributed, without Java or an export.
- ids round times to centiseconds; some of Kaldi's are one earlier, and `--times kaldi` gives
  those, so that results can be compared utterance by utterance.
- `sdm1` is the first microphone of the first array; two meetings have no array recordings.
- `mdm8` is eight microphones after beamforming, which nothing here does: give a tree of
  `<meeting>_MDM8.wav`, such as BeamformIt makes for Kaldi's recipe.

Raw layout (annotations: in `annotations`):

    <AMI>/annotations/{words,segments,corpusResources}/
    <AMI>/ES2099a/audio/ES2099a.Headset-0.wav
    <AMI>/ES2099a/audio/ES2099a.Array1-01.wav
"""

import argparse
import functools
import logging
from pathlib import Path
from typing import NamedTuple

from mtla_espnet.config import nearest
from mtla_espnet.corpora.ami.annotations import Speaker, read_meetings, read_segments_of
from mtla_espnet.corpora.ami.utterances import TIMES, UtterancePiece, cut_segment
from mtla_espnet.corpora.shared.corpus_set import CorpusSet, leave_out_rejected, write_sets
from mtla_espnet.corpora.shared.raw_files import add_shared_arguments, durations, require
from mtla_espnet.data.kaldi.datadir import Segment
from mtla_espnet.files import UserError
from mtla_espnet.jobs.parallel import run_jobs

MICS = ("ihm", "sdm1", "mdm8")

# The full-corpus ASR partition: series of meetings -> the letters of its meetings.
_TRAIN = """
EN2001abde EN2003a EN2004a EN2005a EN2006ab EN2009bcd
ES2002abcd ES2003abcd ES2005abcd ES2006abcd ES2007abcd ES2008abcd ES2009abcd ES2010abcd
ES2012abcd ES2013abcd ES2014abcd ES2015abcd ES2016abcd
IB4005 IN1001 IN1002 IN1005 IN1007 IN1008 IN1009 IN1012 IN1013 IN1014 IN1016
IS1000abcd IS1001abcd IS1002bcd IS1003abcd IS1004abcd IS1005abc IS1006abcd IS1007abcd
TS3005abcd TS3006abcd TS3007abcd TS3008abcd TS3009abcd TS3010abcd TS3011abcd TS3012abcd
"""
_DEV = "ES2011abcd IB4001 IB4002 IB4003 IB4004 IB4010 IB4011 IS1008abcd TS3004abcd"
_EVAL = "EN2002abcd ES2004abcd IS1009abcd TS3003abcd"


def _meetings(series_list: str) -> list[str]:
    names = ((word[:6], word[6:]) for word in series_list.split())
    return [series + letter for series, letters in names for letter in letters or ("",)]


PARTITION = {"train": _meetings(_TRAIN), "dev": _meetings(_DEV), "eval": _meetings(_EVAL)}
WITHOUT_ARRAY = ("IS1003b", "IS1007d")


class _MeetingUtterance(NamedTuple):
    id: str
    speaker: str
    recording: str
    piece: UtterancePiece
    place: tuple[str, int]


class _Meeting(NamedTuple):
    utterances: list[_MeetingUtterance]
    # (segment, file, line) of those without any time
    untimed: list[tuple[str, str, int]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this corpus."""
    add_shared_arguments(parser)
    parser.add_argument("--mic", default="ihm", help=f"microphones: {', '.join(MICS)}")
    parser.add_argument(
        "--beamformed", type=Path, help="directory of <meeting>_MDM8.wav, for --mic mdm8"
    )
    parser.add_argument(
        "--times", default="rounded", help=f"centiseconds of ids and segments: {' or '.join(TIMES)}"
    )
    parser.add_argument(
        "--meetings", default="", help='prepare these alone, as in "ES2002a ES2011a EN2002a"'
    )


def prepare(args: argparse.Namespace) -> None:
    """Write `<mic>_train`, `<mic>_dev` and `<mic>_eval`.

    Raises:
        UserError: a wrong option, a root without annotations or meetings, XML that does not
            parse, or too much audio that is missing or corrupt.
    """
    _check_options(args)
    annotations = require(args.downloads / "annotations", "AMI")
    speakers = read_meetings(annotations)
    chosen = _chosen_meetings(args, speakers, annotations)
    read = functools.partial(_read_meeting, annotations, args.mic, args.times, speakers)
    meetings = run_jobs(
        read, [name for names in chosen.values() for name in names], max(1, args.nj), "annotations"
    )
    by_name = dict(
        zip((name for names in chosen.values() for name in names), meetings, strict=True)
    )
    sets = [
        _make_set(args, part, {name: by_name[name] for name in names})
        for part, names in chosen.items()
    ]
    leave_out_rejected(args.output, sets, args.max_rejected)
    write_sets(args.output, sets)


def _check_options(args: argparse.Namespace) -> None:
    if args.mic not in MICS:
        raise UserError(f"--mic must be one of {', '.join(MICS)}, not {args.mic!r}", exit_code=2)
    if args.times not in TIMES:
        raise UserError(f"--times must be {' or '.join(TIMES)}, not {args.times!r}", exit_code=2)
    if args.mic == "mdm8" and args.beamformed is None:
        raise UserError(
            "--mic mdm8 needs beamformed audio, which nothing here makes: name the directory of "
            "<meeting>_MDM8.wav by --beamformed (Kaldi's recipe makes it with BeamformIt)"
        )
    if args.beamformed is not None:
        require(args.beamformed, "--beamformed")


def _chosen_meetings(
    args: argparse.Namespace, speakers: dict[str, list[Speaker]], annotations: Path
) -> dict[str, list[str]]:
    """Return set -> its meetings: those of `--meetings`, or all, which must be annotated."""
    wanted = args.meetings.replace(",", " ").split()
    everything = [name for names in PARTITION.values() for name in names]
    for name in wanted:
        if name not in everything:
            raise UserError(f"--meetings: no such meeting {name!r} {nearest(name, everything)}", 2)
    chosen = {
        part: [name for name in names if not wanted or name in wanted]
        for part, names in PARTITION.items()
    }
    missing = [name for names in chosen.values() for name in names if name not in speakers]
    if missing:
        raise UserError(
            f"{annotations / 'corpusResources' / 'meetings.xml'}: {len(missing)} of the "
            f"{len(wanted or everything)} meetings are not there: {', '.join(missing[:3])}"
            f"{', ...' if len(missing) > 3 else ''} (--meetings prepares a part)"
        )
    if args.mic != "ihm":
        chosen = {
            part: [name for name in names if name not in WITHOUT_ARRAY]
            for part, names in chosen.items()
        }
    return chosen


def _read_meeting(
    annotations: Path, mic: str, times: str, speakers: dict[str, list[Speaker]], meeting: str
) -> _Meeting:
    utterances, untimed = [], []
    for speaker in speakers[meeting]:
        channel = f"H0{speaker.channel}" if mic == "ihm" else mic[:3].upper()
        recording = f"AMI_{meeting}_{channel}"
        path = annotations / "segments" / f"{meeting}.{speaker.letter}.segments.xml"
        for segment in read_segments_of(annotations, meeting, speaker.letter):
            place = (str(path), segment.line)
            pieces = cut_segment(segment.tokens, times) if segment.tokens else []
            if pieces is None:
                untimed.append((segment.id, *place))
                continue
            for piece in pieces:
                name = f"{recording}_{speaker.name}"
                key = f"{name}_{piece.start_cs:07d}_{piece.end_cs:07d}"
                utterances.append(_MeetingUtterance(key, name, recording, piece, place))
    return _Meeting(utterances, untimed)


def _make_set(args: argparse.Namespace, part: str, meetings: dict[str, _Meeting]) -> CorpusSet:
    result = CorpusSet(f"{args.mic}_{part}")
    places: dict[str, tuple[str, int]] = {}
    dropped = {"without text": 0, "without duration": 0, "there twice": 0}
    for name, meeting in meetings.items():
        for segment, file, line in meeting.untimed:
            result.reject(segment, file, line, "no word of the segment has a time")
        for each in meeting.utterances:
            if not each.piece.text:
                dropped["without text"] += 1
            elif each.piece.start_cs >= each.piece.end_cs:
                dropped["without duration"] += 1
            elif result.text.get(each.id) == each.piece.text:
                dropped["there twice"] += 1
            elif each.id in result.text:
                result.reject(f"{each.id}", *each.place, "the id is there with another text")
            else:
                result.text[each.id] = each.piece.text
                result.utt2spk[each.id] = each.speaker
                result.segments[each.id] = Segment(
                    each.recording, each.piece.start_cs / 100, each.piece.end_cs / 100
                )
                result.wav_scp[each.recording] = str(_audio(args, name, each.recording))
                places[each.id] = each.place
    counts = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
    logging.info("%s: pieces of segments dropped: %s", result.name, counts)
    lengths = durations(result.wav_scp.values(), args.nj, None)
    result.reject_bad_audio(places, lengths)
    return result


def _audio(args: argparse.Namespace, meeting: str, recording: str) -> Path:
    if args.mic == "mdm8":
        flat = args.beamformed / f"{meeting}_MDM8.wav"
        return flat if flat.is_file() else args.beamformed / meeting / f"{meeting}_MDM8.wav"
    headset = f"{meeting}.Headset-{recording[-1]}.wav"
    name = headset if args.mic == "ihm" else f"{meeting}.Array1-01.wav"
    return args.downloads / meeting / "audio" / name
