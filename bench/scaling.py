"""How the time and the memory of stages 1 to 5 and 10 grow with the number of utterances.

    nice python bench/scaling.py --utterances 1000 10000 100000
    nice python bench/scaling.py --utterances 1000000 10000000 --stages 4 5

Makes a table of utterances, whose audio is 0.12 s of silence in 100 files, and runs the stages on
it, one call a stage. Where stage 3 is not among the stages, its lists are written without audio.
Time is what all processes of a call had of the processors, memory the most that one of them held
(resident, with pages that it shares). The exponents are those of the best fitting powers, after
what a call costs with next to nothing is taken off.
"""

import argparse
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
import yaml

FILES, SAMPLES, RATE_HZ = 100, 1920, 16000
FEWEST = 100  # utterances, for what a call costs by itself
SHARES = {"valid": 0.01, "test": 0.01}
STAGES = (1, 2, 3, 4, 5, 10)
MODEL = {
    "encoder": "conv1d_conformer",
    "encoder_conf": {"output_size": 16, "attention_heads": 2, "linear_units": 16, "num_blocks": 1},
    "decoder": "decoder_only",
    "decoder_conf": {"attention_heads": 2, "linear_units": 16, "num_blocks": 1},
}


def words(rng: random.Random, vocabulary: list[str]) -> str:
    """Return a sentence of 8 words, frequent and rare ones."""
    n = len(vocabulary)
    return " ".join(vocabulary[int(n ** rng.random()) - 1] for _ in range(8))


def sets_of(n_utterances: int) -> dict[str, int]:
    """Return set -> number of its utterances."""
    return {"train": n_utterances} | {
        name: max(10, round(share * n_utterances)) for name, share in SHARES.items()
    }


def write_table(root: Path, n_utterances: int) -> None:
    """Write `corpus.tsv`, as `mtla-espnet prepare table` reads it, and the audio."""
    rng = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    vocabulary = ["".join(rng.choices(letters, k=rng.randint(2, 9))) for _ in range(20000)]
    (root / "wav").mkdir(parents=True)
    for number in range(FILES):
        soundfile.write(root / f"wav/{number}.wav", np.zeros(SAMPLES, np.int16), RATE_HZ)
    with open(root / "corpus.tsv", "w", encoding="utf-8") as stream:
        stream.write("id\tspeaker\tsplit\taudio\ttext\n")
        for name, number in sets_of(n_utterances).items():
            for i in range(number):
                key = f"{name}{i // 100:06}"
                audio = f"{root}/wav/{i % FILES}.wav"
                text = words(rng, vocabulary)
                stream.write(f"{key}-{i % 100:02}\t{key}\t{name}\t{audio}\t{text}\n")


def write_lists(root: Path) -> None:
    """Write what stage 3 would, but for the audio itself, which stages 4 and 5 do not read."""
    tables: dict[str, dict] = {}
    with open(root / "corpus.tsv", encoding="utf-8") as rows:
        next(rows)
        for row in rows:
            utterance, speaker, name, audio, text = row.rstrip("\n").split("\t")
            if name not in tables:
                place = root / "dump/raw/org" / name
                if name == "test":
                    place = root / "dump/raw/test"
                place.mkdir(parents=True)
                files = ("wav.scp", "text", "utt2spk", "utt2num_samples", "spk2utt")
                tables[name] = {each: open(place / each, "w") for each in files}  # noqa: SIM115
                for file, value in (("audio_format", "flac"), ("feats_type", "raw")):
                    (place / file).write_text(f"{value}\n")
                tables[name]["speaker"] = ""
            table = tables[name]
            for file, value in (
                ("wav.scp", audio),
                ("text", text),
                ("utt2spk", speaker),
                ("utt2num_samples", SAMPLES),
            ):
                table[file].write(f"{utterance} {value}\n")
            if speaker != table["speaker"]:
                table["spk2utt"].write(f"\n{speaker}" if table["speaker"] else speaker)
                table["speaker"] = speaker
            table["spk2utt"].write(f" {utterance}")
    for table in tables.values():
        table["spk2utt"].write("\n")
        for stream in table.values():
            if not isinstance(stream, str):
                stream.close()


def make_recipe(root: Path, n_utterances: int, lists: bool) -> None:
    """Make a recipe whose corpus has so many utterances.

    Args:
        root: of the recipe.
        n_utterances: of the training set.
        lists: begin after stage 3.
    """
    write_table(root, n_utterances)
    (root / "local").mkdir()
    script = root / "local/data.sh"
    script.write_text(
        f"#!/bin/sh\nexec {sys.executable} -m mtla_espnet prepare table {root}/corpus.tsv\n"
    )
    script.chmod(0o755)
    (root / "conf").mkdir()
    (root / "conf/train.yaml").write_text(yaml.safe_dump(MODEL))
    if lists:
        write_lists(root)


def run_stage(root: Path, stage: int, nj: int) -> tuple[float, float, float]:
    """Run one stage; return the seconds it took, those of the processors, and GB of memory."""
    argv = [
        *("--stage", str(stage), "--stop_stage", str(stage), "--nj", str(nj), "--ngpu", "0"),
        *("--train_set", "train", "--valid_set", "valid", "--test_sets", "test", "--lang", "en"),
        *("--token_type", "bpe", "--nbpe", "500", "--use_lm", "false"),
        *("--asr_config", "conf/train.yaml", "--inference_config", ""),
    ]
    if stage == 2:
        argv += ["--speed_perturb_factors", "0.9 1.0"]
    begin = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "mtla_espnet", "recipe", "asr", *argv],
        cwd=root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    error = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"stage {stage} failed: {error[-2000:]}")
    passed_s = time.monotonic() - begin
    return passed_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e6


def exponent(sizes: list[int], values: list[float], least: float) -> float:
    """Return the exponent of the power of the size that fits best; nan where it cannot be told."""
    pairs = zip(sizes, values, strict=True)
    points = [(math.log(n), math.log(v - least)) for n, v in pairs if v > 1.1 * least]
    if len(points) < 2:
        return math.nan
    return float(np.polyfit(*np.array(points).T, 1)[0])


def main() -> None:
    """Print a row for each stage and size, then the exponents."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--utterances", type=int, nargs="+", default=[1000, 10000])
    parser.add_argument("--stages", type=int, nargs="+", default=STAGES, choices=STAGES)
    parser.add_argument("--nj", type=int, default=2)
    parser.add_argument("--directory", type=Path, help="where to work; it needs room")
    arguments = parser.parse_args()
    found: dict[int, dict[int, tuple]] = {}
    print("| stage | utterances | s | s of processors | GB |\n|--:|--:|--:|--:|--:|", flush=True)
    for n_utterances in [FEWEST, *arguments.utterances]:
        root = Path(tempfile.mkdtemp(dir=arguments.directory, prefix="scaling"))
        try:
            make_recipe(root, n_utterances, lists=3 not in arguments.stages)
            for stage in sorted(arguments.stages):
                measured = run_stage(root, stage, arguments.nj)
                found.setdefault(stage, {})[n_utterances] = measured
                passed_s, busy_s, memory_gb = measured
                row = f"| {stage} | {n_utterances:,} | {passed_s:.1f} | {busy_s:.1f} |"
                print(f"{row} {memory_gb:.2f} |", flush=True)
        finally:
            shutil.rmtree(root)
    print("\n| stage | exponent of time | of memory |\n|--:|--:|--:|")
    for stage, rows in found.items():
        least = rows.pop(FEWEST)
        busy = exponent(list(rows), [row[1] for row in rows.values()], least[1])
        memory = exponent(list(rows), [row[2] for row in rows.values()], least[2])
        print(f"| {stage} | {busy:.2f} | {memory:.2f} |")


if __name__ == "__main__":
    main()
