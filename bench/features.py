#!/usr/bin/env python3
r"""Routes from audio to a model: disk, preparation, loading, and how equal the features are.

Speech is made of the utterances of a data directory: four of them joined, with fresh noise,
until there are enough hours. Every route then prepares the same files by stage 3's functions,
and ESPnet's dataset with a DataLoader of two workers reads them back in a random order, ours
and ESPnet's loader types alike. Peers: sox and ffmpeg, a process a file as in ESPnet's
recipes, and torchaudio's Kaldi features.

usage: bench/features.py --data egs2/smarthome/asr1/data/train --work /tmp/routes \
           [--hours 5] [--sox sox] [--ffmpeg ffmpeg] [--flac flac]
"""

import argparse
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import torch
import torchaudio
from espnet2.train.dataset import ESPnetDataset

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import mtla_espnet.tasks  # noqa: F401  (registers the type of data)
from mtla_espnet.data.audio.format import format_audio
from mtla_espnet.data.audio.reader import read_audio
from mtla_espnet.data.audio.reading_options import ReadingOptions
from mtla_espnet.data.features.format import format_features
from mtla_espnet.data.features.reader import FeatureTable
from mtla_espnet.data.kaldi.datadir import write_data_dir
from mtla_espnet.data.kaldi.tables import read_table, write_table
from mtla_espnet.frontend.fbank import fbank, fbank_extractor, fbank_of

RATE_HZ = 16000
JOINED = 4
WORKERS = 2
BATCH = 16
COMPARED = 300  # utterances whose features are compared, and files of the per-core comparison
_FFMPEG = ("-v", "error", "-y", "-threads", "1")


def make_speech(source: Path, work: Path, hours: float) -> tuple[Path, float]:
    """Write wav files and a data directory; return it and the hours that it has."""
    data = work / "data"
    paths = list(read_table(source / "wav.scp").values())
    generator = np.random.default_rng(0)
    entries, seconds = {}, 0.0
    (work / "wav").mkdir(parents=True)
    while seconds < hours * 3600:
        chosen = generator.choice(len(paths), JOINED, replace=False)
        speech = np.concatenate([read_audio(paths[number])[0] for number in chosen])
        speech += generator.normal(0, 0.003, len(speech)).astype(np.float32)
        key = f"u{len(entries):06d}"
        entries[key] = work / "wav" / f"{key}.wav"
        soundfile.write(entries[key], speech.clip(-1, 1), RATE_HZ, subtype="PCM_16")
        seconds += len(speech) / RATE_HZ
    write_data_dir(data, entries, dict.fromkeys(entries, "X"), {key: key for key in entries})
    return data, seconds / 3600


class Cost(NamedTuple):
    """Seconds of wall, and of all cores with those of child processes."""

    wall_s: float
    core_s: float


def timed(function: Callable) -> Cost:
    """Return what a call takes. Cores' seconds hardly depend on what else runs."""
    begin, before = time.perf_counter(), core_seconds()
    function()
    return Cost(time.perf_counter() - begin, core_seconds() - before)


def core_seconds() -> float:
    """Return the time of all cores of this process and its ended children."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def size_bytes(directory: Path) -> int:
    """Return what the files below a directory take."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def prepare_routes(data: Path, work: Path) -> dict[str, dict]:
    """Prepare every route with two processes; return route -> what it took and left."""
    extractor = fbank_extractor()
    routes = {}
    for name in ("flac", "wav", "flac.ark", "wav.ark"):
        routes[f"raw {name}"] = (format_audio, (RATE_HZ, name), {})
    for name, feats_type, options in (
        ("extracted ark", "extracted", {}),
        ("extracted ark, compressed", "extracted", {"compress": True}),
        ("fairseq_zip", "fairseq_zip", {}),
    ):
        routes[name] = (format_features, (feats_type, extractor, RATE_HZ), options)
    results = {}
    for name, (function, arguments, options) in routes.items():
        out = work / name.replace(" ", "_").replace(",", "")
        cost = timed(
            lambda f=function, out=out, a=arguments, o=options: f(
                data, out, *a, ReadingOptions(nj=WORKERS, progress=False), **o
            )
        )
        results[name] = {"dir": out, "prepare": cost, "bytes": size_bytes(out / "data")}
    return results


def load_once(table: Path, kind: str, samples: int) -> None:
    """Load a table once by two workers, in a random order."""
    keys = list(read_table(table))
    random.Random(0).shuffle(keys)
    dataset = ESPnetDataset([(str(table), "speech", kind)], float_dtype="float32")
    batches = [keys[start : start + BATCH] for start in range(0, len(keys), BATCH)]
    loader = torch.utils.data.DataLoader(
        dataset, batch_sampler=batches, num_workers=WORKERS, collate_fn=lengths
    )
    total = sum(sum(found) for found in loader)
    assert total == samples or kind != "sound", (total, samples)


def lengths(batch: list) -> list[int]:
    """Collate to lengths: what is measured is reading, not sending between processes."""
    return [len(data["speech"]) for _, data in batch]


def write_npy(data: Path, work: Path) -> Path:
    """Write each utterance's features to a file, ESPnet's type npy; return the table."""
    table = {}
    for key, path in read_table(data / "wav.scp").items():
        table[key] = work / "npy" / f"{key}.npy"
        table[key].parent.mkdir(exist_ok=True)
        np.save(table[key], fbank_of(read_audio(path)[0], RATE_HZ))
    write_table(work / "npy.scp", table)
    return work / "npy.scp"


def kaldi(samples: np.ndarray) -> np.ndarray:
    """Return torchaudio's features of samples in [-1, 1)."""
    wave = torch.from_numpy(samples)[None] * 32768
    return torchaudio.compliance.kaldi.fbank(wave, num_mel_bins=80, dither=0.0).numpy()


def differences(data: Path, results: dict[str, dict]) -> None:
    """Add the greatest difference of each route's features to torchaudio's on the source."""
    entries = dict(list(read_table(data / "wav.scp").items())[:COMPARED])
    references = {key: kaldi(read_audio(path)[0]) for key, path in entries.items()}
    for result in results.values():
        out, worst = result["dir"], 0.0
        if (out / "feats.scp").exists():
            table = FeatureTable(out / "feats.scp")
            found = {key: table[key] for key in entries}
        else:
            wavs = read_table(out / "wav.scp")
            found = {key: fbank_of(read_audio(wavs[key])[0], RATE_HZ) for key in entries}
        for key, reference in references.items():
            assert found[key].shape == reference.shape, key
            worst = max(worst, float(np.abs(found[key] - reference).max()))
        result["difference"] = worst


def fbank_speeds(data: Path) -> dict[str, float]:
    """Return hours a core second of features: ours alone, ours in batches, torchaudio."""
    waves = [read_audio(path)[0] for path in list(read_table(data / "wav.scp").values())[:COMPARED]]
    waves.sort(key=len)
    hours = sum(map(len, waves)) / RATE_HZ / 3600
    batches = []
    for start in range(0, len(waves), BATCH):
        chosen = [torch.from_numpy(wave) for wave in waves[start : start + BATCH]]
        sizes = torch.tensor([len(wave) for wave in chosen])
        batches.append((torch.nn.utils.rnn.pad_sequence(chosen, batch_first=True), sizes))

    def ours_in_batches() -> None:
        with torch.inference_mode():
            for batch, sizes in batches:
                fbank(batch, sizes, RATE_HZ)

    return {
        "fbank, batches of 16": hours / least(ours_in_batches),
        "fbank, one by one": hours / least(lambda: [fbank_of(wave, RATE_HZ) for wave in waves]),
        "torchaudio.compliance.kaldi.fbank": hours / least(lambda: [kaldi(w) for w in waves]),
    }


def least(function: Callable, times: int = 3) -> float:
    """Return the least core seconds of several calls."""
    return min(timed(function).core_s for _ in range(times))


def per_core(data: Path, work: Path, programs: dict[str, str]) -> dict[str, float]:
    """Return hours a core second of wav -> flac, the same files by every program."""
    entries = dict(list(read_table(data / "wav.scp").items())[:COMPARED])
    few = work / "few"
    write_data_dir(few, entries, dict.fromkeys(entries, "X"), {key: key for key in entries})
    hours = sum(soundfile.info(path).duration for path in entries.values()) / 3600
    commands = {
        "sox": lambda source, target: [source, target],
        "ffmpeg": lambda source, target: [
            "-v",
            "error",
            "-y",
            "-threads",
            "1",
            "-i",
            source,
            target,
        ],
        "flac": lambda source, target: ["--silent", "-f", "-o", target, source],
    }

    def run(name: str) -> None:
        target = work / f"flac_{name}"
        target.mkdir(exist_ok=True)
        for key, path in entries.items():
            arguments = commands[name](str(path), str(target / f"{key}.flac"))
            subprocess.run([programs[name], *arguments], check=True)

    ours = work / "flac_ours"
    speeds = {
        "stage 3 (nj 1)": hours
        / least(
            lambda: format_audio(
                few, ours, RATE_HZ, "flac", ReadingOptions(progress=False, fresh=True)
            ),
            2,
        )
    }
    for name, program in programs.items():
        if program and shutil.which(program):
            speeds[name] = hours / least(lambda name=name: run(name), 2)
    return speeds


def table(rows: list[list[str]]) -> str:
    """Write rows, the first the head, as Markdown."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|---" + "|---:" * (len(rows[0]) - 1) + "|", *lines[1:]])


def main() -> None:
    """Measure, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--hours", type=float, default=5.0)
    for name in ("sox", "ffmpeg", "flac"):
        parser.add_argument(f"--{name}", default=name)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    work = arguments.work
    if work.exists():
        sys.exit(f"{work} exists: name a new directory")
    data, hours = make_speech(arguments.data, work, arguments.hours)
    n_files = len(read_table(data / "wav.scp"))
    print(f"{hours:.2f} h in {n_files} files, load {os.getloadavg()[0]:.1f}", flush=True)
    results = prepare_routes(data, work)
    print(f"prepared, load {os.getloadavg()[0]:.1f}", flush=True)
    differences(data, results)
    kinds = {"extracted": "kaldi_ark", "fairseq_zip": "fairseq_zip"}
    samples = sum(soundfile.info(path).frames for path in read_table(data / "wav.scp").values())
    head = ["disk MB", "prepare h/s", "h/core s", "load h/s", "h/core s", "difference", "loader"]
    rows = [["route", *head]]
    npy = write_npy(data, work)
    results["(features, a .npy each)"] = {"dir": None, "bytes": size_bytes(work / "npy")}
    for name, result in results.items():
        out = result["dir"]
        if out is None:
            path, kind = npy, "npy"
        elif (out / "feats.scp").exists():
            path, kind = out / "feats.scp", kinds[name.split()[0]]
        else:
            path, kind = out / "wav.scp", "kaldi_ark" if name.endswith("ark") else "sound"
        costs = [timed(lambda p=path, k=kind: load_once(p, k, samples)) for _ in range(2)]
        loads = [f"{hours / min(each):.2f}" for each in zip(*costs, strict=True)]
        prepared = [f"{hours / seconds:.2f}" for seconds in result.get("prepare", ())]
        differs = f"{result['difference']:.1e}" if "difference" in result else ""
        megabytes = f"{result['bytes'] / 1e6:.0f}"
        rows.append([name, megabytes, *(prepared or ["", ""]), *loads, differs, kind])
    print(table(rows), flush=True)
    programs = {name: getattr(arguments, name) for name in ("sox", "ffmpeg", "flac")}
    for title, speeds in (
        (f"wav -> flac, {COMPARED} files", per_core(data, work, programs)),
        (f"features, {COMPARED} utterances", fbank_speeds(data)),
    ):
        lines = [[title, "h/core s"], *([name, f"{speed:.3f}"] for name, speed in speeds.items())]
        print("\n" + table(lines), flush=True)
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
