"""Files of features of whole data directories, for any extractor."""

import argparse
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from mtla_espnet.data.archives.fairseq_zip import (
    ZipPlace,
    merge_zips,
    parse_place,
    read_manifest,
    write_manifest,
)
from mtla_espnet.data.audio.reader import SourcePart, channel_number
from mtla_espnet.data.audio.reading_options import ReadingOptions
from mtla_espnet.data.features.format import (
    Extractor,
    common_dim,
    format_features,
    parts_of,
    write_features,
)
from mtla_espnet.data.kaldi.rejected import DEFAULT_PERCENT, report_rejected
from mtla_espnet.data.kaldi.tables import read_table
from mtla_espnet.files import UserError, write_text
from mtla_espnet.jobs.cluster_config import jobs_run_by_file
from mtla_espnet.jobs.devices import Devices
from mtla_espnet.jobs.fan_out import jobs_run_by
from mtla_espnet.yaml_files import dump_yaml


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what every command that writes features takes."""
    parser.add_argument(
        "data_dirs", type=Path, nargs="+", metavar="data/SET", help="data directories"
    )
    parser.add_argument("out", type=Path, help="where to write")
    parser.add_argument("--fs", type=int, default=16000, help="rate to resample to, in Hz")
    parser.add_argument("--nj", type=int, help="processes; default: one a core")
    parser.add_argument(
        "--parallel", type=Path, help="YAML file of a cluster that computes, see docs/cluster.md"
    )
    parser.add_argument("--channel", default="0", help="channel from 0, or mean")
    parser.add_argument(
        "--allow_pipes", action="store_true", help="run the commands that wav.scp has"
    )
    parser.add_argument(
        "--max_rejected",
        type=float,
        default=DEFAULT_PERCENT,
        help="per cent of a set that may be left out because its audio cannot be used",
    )
    parser.add_argument("--compress", action="store_true", help="ark: a byte a value")
    parser.add_argument("--tgt_text", default="text", help="zip: table of the column tgt_text")
    parser.add_argument("--src_text", default="", help="zip: table of the column src_text")
    parser.add_argument("--min_frames", type=int, default=1, help="zip: shortest in manifests")
    parser.add_argument("--max_frames", type=int, help="zip: longest in manifests")


def write_files(
    arguments: argparse.Namespace, extractor: Extractor, form: str, devices: Sequence[str] = ()
) -> None:
    """Write the features of data directories.

    Args:
        arguments: of the command, as `add_arguments` declares them.
        extractor: what computes them; with `devices` it is pickled.
        form: "zip" or "ark".
        devices: the GPU of each process that computes; empty: it is done in forks, or as
            `--parallel` says.

    Raises:
        UserError: a data directory is bad, or too many utterances are left out.
    """
    _check(arguments)
    elsewhere = jobs_run_by_file(arguments.parallel, arguments.out)
    with jobs_run_by(Devices(devices)) if devices else elsewhere:
        _write(arguments, extractor, form)


def _write(arguments: argparse.Namespace, extractor: Extractor, form: str) -> None:
    if form == "zip":
        _write_zip(arguments, extractor)
        return
    for data_dir in arguments.data_dirs:
        format_features(
            data_dir,
            arguments.out / data_dir.name,
            "extracted",
            extractor,
            arguments.fs,
            _reading(arguments),
            compress=arguments.compress,
        )


def _reading(arguments: argparse.Namespace) -> ReadingOptions:
    return ReadingOptions(
        nj=arguments.nj or os.cpu_count() or 1,
        max_rejected=arguments.max_rejected,
        allow_pipes=arguments.allow_pipes,
        channel=channel_number(arguments.channel),
    )


def _write_zip(arguments: argparse.Namespace, extractor: Extractor) -> None:
    """Write `<extractor>.zip`, a manifest a set, and Fairseq's `config.yaml` if none is there."""
    out, name = arguments.out, f"{extractor.name}.zip"
    sets = {data_dir.name: data_dir for data_dir in arguments.data_dirs}
    _check_zip_is_free(out, name, sets)
    work, reading = out / f".{extractor.name}", _reading(arguments)
    written, shards, seen = {}, [], {}
    for set_name, data_dir in sets.items():
        parts = parts_of(data_dir, reading)
        _check_ids(parts, set_name, seen)
        found, rejections = write_features(
            parts,
            work / set_name,
            "fairseq_zip",
            extractor,
            arguments.fs,
            f"features of {set_name}",
            reading,
            in_place=False,
        )
        dim, odd = common_dim(found, parts)
        left_out = report_rejected(
            work / set_name, [*rejections, *odd], len(parts), reading.max_rejected
        )
        if left_out:
            shutil.copy2(work / set_name / "rejected.tsv", out / f"{set_name}.rejected.tsv")
        else:
            (out / f"{set_name}.rejected.tsv").unlink(missing_ok=True)
        written[set_name] = {key: found[key][1] for key in found if key not in left_out}
        paths = (parse_place(entry).path for entry, *_ in found.values())
        shards += [Path(path) for path in dict.fromkeys(paths)]
    places = merge_zips(shards, out / name)
    for set_name, data_dir in sets.items():
        _write_manifest(arguments, set_name, data_dir, name, places, written[set_name])
    if not (out / "config.yaml").exists():
        config = {"audio_root": str(out.absolute()), "input_channels": 1}
        write_text(out / "config.yaml", dump_yaml(config | {"input_feat_per_channel": dim}))
    shutil.rmtree(work)


def _write_manifest(
    arguments: argparse.Namespace,
    set_name: str,
    data_dir: Path,
    zip_name: str,
    places: Mapping[str, ZipPlace],
    n_frames: Mapping[str, int],
) -> None:
    texts = {"tgt_text": read_table(data_dir / arguments.tgt_text)}
    if arguments.src_text:
        texts["src_text"] = read_table(data_dir / arguments.src_text)
    speakers = read_table(data_dir / "utt2spk")
    most = arguments.max_frames or max(n_frames.values(), default=0)
    rows = []
    for key in sorted(n_frames):
        if not arguments.min_frames <= n_frames[key] <= most:
            continue
        for name, table in texts.items():
            if key not in table:
                raise UserError(f"{data_dir / getattr(arguments, name)}: has no line for {key!r}")
        place = places[key]
        rows.append(
            {
                "id": key,
                "audio": f"{zip_name}:{place.offset}:{place.num_bytes}",
                "n_frames": n_frames[key],
                "speaker": speakers[key],
                **{name: table[key] for name, table in texts.items()},
            }
        )
    left = len(n_frames) - len(rows)
    if left:
        logging.info("%s: %d utterances are too short or too long for the manifest", set_name, left)
    more = ["src_text"] if arguments.src_text else []
    write_manifest(arguments.out / f"{set_name}.tsv", rows, more)


def _check(arguments: argparse.Namespace) -> None:
    names = [data_dir.name for data_dir in arguments.data_dirs]
    if len(set(names)) < len(names):
        raise UserError("two data directories have the same name: rename one", exit_code=2)
    for data_dir in arguments.data_dirs:
        if arguments.out.absolute() in (data_dir.absolute(), data_dir.absolute().parent):
            raise UserError(f"{arguments.out}: holds the data directories: write elsewhere", 2)
    channel_number(arguments.channel)


def _check_ids(parts: Sequence[SourcePart], set_name: str, seen: dict[str, str]) -> None:
    for part in parts:
        if part.utterance in seen:
            raise UserError(
                f"{part.file}:{part.line}: {part.utterance!r} is also in {seen[part.utterance]}: "
                "one zip file needs different ids"
            )
        seen[part.utterance] = set_name


def _check_zip_is_free(out: Path, name: str, sets: Mapping[str, Path]) -> None:
    """Refuse to replace a zip file that the manifest of another set points to."""
    if not (out / name).exists():
        return
    for path in sorted(out.glob("*.tsv")):
        if path.stem in sets or path.name.endswith(".rejected.tsv"):
            continue
        if any(row.fields["audio"].startswith(f"{name}:") for row in read_manifest(path)):
            raise UserError(
                f"{out / name}: {path.name} points there: name all sets in one command, or "
                "write elsewhere"
            )
