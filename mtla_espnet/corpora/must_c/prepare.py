"""MuST-C v1: TED talks in English with a translation (CC BY-NC-ND 4.0).

Choices, and why:
- Text is as distributed, with plain spaces, in the three cases `tc`, `lc` and `lc.rm`: the
  paper's numbers are of such text. `--text_form moses` normalises punctuation and tokenises,
  as ESPnet's recipe does, and keeps what was distributed as `text.raw.<language>`.
- `text`, what an ASR model writes, is the English one in `--text_case`.
- ids are ESPnet's, in milliseconds; `--ids fairseq` numbers the segments of a talk by their
  offset (Fairseq's own script sorts the offsets as text, 10.5 before 9.1).
- A segment under 0.2 s is widened to 0.2 s around its middle, as in ESPnet (not with
  Fairseq's ids). Too long ones stay: stage 4 leaves them out of training.
- Segments of one id are left out, all of them: nobody could tell their texts apart.
- `(Applause)` and the like are part of the text.

Raw layout:

    <MUST_C>/en-de/data/{train,dev,tst-COMMON,tst-HE}/wav/ted_901.wav     whole talks
    <MUST_C>/en-de/data/<set>/txt/<set>.yaml                              see `segments`
    <MUST_C>/en-de/data/<set>/txt/<set>.{en,de}     line n is the text of segment n
"""

import argparse
import functools
import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mtla_espnet.corpora.must_c.segments import TalkSegment, read_talk_segments
from mtla_espnet.corpora.shared.corpus_set import CorpusSet, leave_out_rejected, write_sets
from mtla_espnet.corpora.shared.raw_files import (
    add_shared_arguments,
    durations,
    read_lines,
    require,
)
from mtla_espnet.data.kaldi.datadir import Segment
from mtla_espnet.data.text.moses import normalise_punctuation, tokenise
from mtla_espnet.data.text.spaces import plain_spaces
from mtla_espnet.data.text.text_case import CASES, to_case
from mtla_espnet.files import UserError
from mtla_espnet.jobs.parallel import run_jobs

SETS = ("train", "dev", "tst-COMMON", "tst-HE")
IDS = ("espnet", "fairseq")
FORMS = ("raw", "moses")
_SOURCE = "en"
_SHORTEST_S = 0.2
_LINES_PER_JOB = 2000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this corpus."""
    add_shared_arguments(parser)
    parser.add_argument("--tgt_lang", default="de", help="language of the translation")
    parser.add_argument("--ids", default="espnet", help=f"utterance ids: {' or '.join(IDS)}")
    parser.add_argument(
        "--text_form",
        default="raw",
        help=f"text as distributed or normalised and tokenised: {' or '.join(FORMS)}",
    )
    parser.add_argument(
        "--text_case", default="lc.rm", help=f"case of `text`, which is English: {', '.join(CASES)}"
    )


def prepare(args: argparse.Namespace) -> None:
    """Write `train.en-<tgt>`, `dev.en-<tgt>`, `tst-COMMON.en-<tgt>` and `tst-HE.en-<tgt>`.

    Raises:
        UserError: a wrong option or root, a list that is not YAML, texts and lists of
            different length, or too much audio that is missing or corrupt.
    """
    for name, legal in (("ids", IDS), ("text_form", FORMS), ("text_case", CASES)):
        value = getattr(args, name)
        if value not in legal:
            raise UserError(f"--{name} must be one of {', '.join(legal)}, not {value!r}", 2)
    data = _pair_directory(args) / "data"
    for name in SETS:
        require(data / name, "MUST_C")
    sets = [_make_set(args, data, name) for name in SETS]
    leave_out_rejected(args.output, sets, args.max_rejected)
    write_sets(args.output, sets)


def _pair_directory(args: argparse.Namespace) -> Path:
    prefix = f"{_SOURCE}-"
    pair = args.downloads / f"{prefix}{args.tgt_lang}"
    there = sorted(path.name.removeprefix(prefix) for path in args.downloads.glob(f"{prefix}*"))
    if there and args.tgt_lang not in there:
        raise UserError(
            f"--tgt_lang {args.tgt_lang}: {args.downloads} has {', '.join(there)}", exit_code=2
        )
    return require(pair, "MUST_C")


def _make_set(args: argparse.Namespace, data: Path, name: str) -> CorpusSet:
    texts_of = data / name / "txt"
    list_path = texts_of / f"{name}.yaml"
    segments = read_talk_segments(list_path, args.nj, f"{name}: segments")
    languages = (_SOURCE, args.tgt_lang)
    raw = {
        language: list(read_lines(texts_of / f"{name}.{language}", "MUST_C"))
        for language in languages
    }
    if len({len(segments), *map(len, raw.values())}) > 1:
        counts = ", ".join(
            f"{name}.{language} {len(raw[language])} lines" for language in languages
        )
        raise UserError(f"{list_path} has {len(segments)} segments, {counts}: they must agree")

    result = CorpusSet(f"{name}.{_SOURCE}-{args.tgt_lang}")
    ids = _espnet_ids(segments) if args.ids == "espnet" else _fairseq_ids(segments)
    twice = {each for each, count in Counter(ids).items() if count > 1}
    places = {}
    for each, segment in zip(ids, segments, strict=True):
        if each in twice:
            result.reject(each, list_path, segment.line, "several segments have this id")
        stem = segment.wav.removesuffix(".wav")
        recording = f"ted_{segment.talk:05d}" if args.ids == "espnet" else stem
        # Sorted by speaker as by id, also where talks have numbers of different length.
        result.utt2spk[each] = recording if args.ids == "espnet" else f"{stem}_"
        result.wav_scp[recording] = str(data / name / "wav" / segment.wav)
        start, end = _span_s(segment, args.ids)
        if start >= end:
            result.reject(each, list_path, segment.line, "the segment lasts 0 s")
        result.segments[each] = Segment(recording, start, end)
        places[each] = (str(list_path), segment.line)
    for language in languages:
        label = f"{name}: text of {language}"
        forms = _in_forms(raw[language], args.text_form, language, args.nj, label)
        for case, lines in forms.items():
            result.others[f"text.{case}.{language}"] = dict(zip(ids, lines, strict=True))
    result.text = dict(result.others[f"text.{args.text_case}.{_SOURCE}"])
    result.reject_bad_audio(places, durations(result.wav_scp.values(), args.nj, None))
    return result


def _span_s(segment: TalkSegment, ids: str) -> tuple[float, float]:
    """Return start and end; with ESPnet's ids widened to 0.2 s, and not before the talk."""
    start, duration = segment.offset_s, segment.duration_s
    if ids == "espnet" and duration < _SHORTEST_S:
        start = max(0.0, start - (_SHORTEST_S - duration) / 2)
        duration = _SHORTEST_S
    return start, start + duration


def _espnet_ids(segments: Sequence[TalkSegment]) -> list[str]:
    spans = (_span_s(segment, "espnet") for segment in segments)
    return [
        f"ted_{segment.talk:05d}_{_milliseconds(start):07d}_{_milliseconds(end):07d}"
        for segment, (start, end) in zip(segments, spans, strict=True)
    ]


def _milliseconds(time_s: float) -> int:
    # To the tenth of a microsecond first, as ESPnet does: halves go up in the decimal sense.
    return int(1000 * round(time_s, 7) + 0.5)


def _fairseq_ids(segments: Sequence[TalkSegment]) -> list[str]:
    order = sorted(range(len(segments)), key=lambda n: (segments[n].talk, segments[n].offset_s))
    ids = [""] * len(segments)
    for _, talk in itertools.groupby(order, key=lambda n: segments[n].talk):
        for index, n in enumerate(talk):
            ids[n] = f"{segments[n].wav.removesuffix('.wav')}_{index}"
    return ids


def _in_forms(
    lines: list[str], form: str, language: str, nj: int, label: str
) -> dict[str, list[str]]:
    """Return case -> the lines in it; with Moses' form, `raw` -> the lines as they were."""
    plain = [plain_spaces(line) for line in lines]
    if form == "raw":
        return {case: [to_case(line, case) for line in plain] for case in CASES}
    convert = functools.partial(_moses_block, language=language)
    blocks = [plain[i : i + _LINES_PER_JOB] for i in range(0, len(plain), _LINES_PER_JOB)]
    done = run_jobs(convert, blocks, max(1, nj), progress=label)
    by_case = {case: [line for block in done for line in block[case]] for case in CASES}
    return {"raw": plain, **by_case}


def _moses_block(lines: list[str], language: str) -> dict[str, list[str]]:
    normal = [normalise_punctuation(line, language) for line in lines]
    return {case: [tokenise(to_case(line, case), language) for line in normal] for case in CASES}
