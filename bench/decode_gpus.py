"""Stage 12 on several GPUs of one machine against one: speed-up, same bytes, a killed process.

The recipe's own stage 12 decodes generated recordings (flac, some 6 s each) with a model of random
weights and the AMI recipe's size, beam 20, bf16 (`stage12.py` makes both). Seconds are
those of the whole command, imports included, and of decoding alone, a mean over the processes.

    python bench/decode_gpus.py [--processes 1 2 4] [--ctc_weights 0 0.3] [--hours 2] [--kill]

`--processes` may be more than there are GPUs: they share them. `--kill` ends one process of the
last number by SIGKILL once it has decoded a batch, and says what that costs.
"""

import argparse
import filecmp
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from stage12 import BATCH_S, CONFIG, RATE_HZ, ROOT, SEARCH, TASK, make_model, make_set
from train_ddp import children_of

_TABLES = ("text", "token", "token_int", "score")


def prepare(root: Path, hours: float) -> None:
    """Write a recipe's directories as stages 1 to 11 leave them, as far as stage 12 reads them."""
    import yaml

    make_set(root / "dump/raw/test", hours)
    lengths = (root / "dump/raw/test/utt2num_samples").read_text().split()[::2]
    for table, value in (("text", "t0"), ("utt2spk", None)):
        lines = (f"{key} {value or key}\n" for key in lengths)
        (root / "dump/raw/test" / table).write_text("".join(lines))
    for table, value in (("feats_type", "raw"), ("audio_format", "flac")):
        (root / "dump/raw/test" / table).write_text(f"{value}\n")
    make_model(root / "model")
    (root / "exp/asr_model").mkdir(parents=True)
    config = yaml.safe_load((root / "model/config.yaml").read_text())
    (root / "model/config.yaml").rename(root / "exp/asr_model/config.yaml")
    (root / "model/model.pth").rename(root / "exp/asr_model/valid.acc.ave.pth")
    tokens = root / "data/token_list/word"
    tokens.mkdir(parents=True)
    (tokens / "tokens.txt").write_text("".join(f"{token}\n" for token in config["token_list"]))
    shutil.copy(ROOT / CONFIG, root / "train.yaml")


def command(root: Path, tag: str, processes: int, weight: float, device: str) -> list[str]:
    """Return the call of stage 12."""
    search = {**SEARCH, "ctc_weight": weight, "dtype": "auto"}
    (root / f"decode_{weight}.yaml").write_text(json.dumps(search))
    words = f"""-m mtla_espnet recipe {TASK} --stage 12 --stop_stage 12 --use_lm false
        --token_type word --asr_config train.yaml --asr_exp exp/asr_model
        --inference_config decode_{weight}.yaml
        --train_set train --valid_set valid --test_sets test --inference_tag {tag}
        --inference_nj {processes} --gpu_inference {str(device == "cuda").lower()}
        --inference_asr_model valid.acc.ave.pth --batch_size 1000
        --batch_length {BATCH_S * RATE_HZ}"""
    return [sys.executable, *words.split()]


def run(root: Path, tag: str, processes: int, weight: float, device: str, kill: bool) -> dict:
    """Decode; return seconds and what `efficiency.json` says.

    Raises:
        RuntimeError: it failed, or there was nothing to kill.
    """
    begin = time.monotonic()
    log = root / f"{tag}.out"
    with log.open("w") as out:
        decode = subprocess.Popen(
            command(root, tag, processes, weight, device),
            cwd=root,
            stdout=out,
            stderr=out,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"},
        )
        killed = kill and kill_one(root / "exp/asr_model" / tag / "test/logdir", decode)
    if decode.wait():
        raise RuntimeError(f"{tag} ended with {decode.returncode}:\n{log.read_text()[-3000:]}")
    if kill and not killed:
        raise RuntimeError(f"{tag}: it was over before a process could be killed")
    seconds = time.monotonic() - begin
    directory = root / "exp/asr_model" / tag / "test"
    return {"seconds": seconds, **json.loads((directory / "efficiency.json").read_text())}


def kill_one(logdir: Path, decode: subprocess.Popen) -> bool:
    """Kill a process that has written a line of its journal; tell whether there was one."""
    while decode.poll() is None:
        time.sleep(0.02)
        if any(path.stat().st_size for path in logdir.glob("journals/*")):
            workers = children_of(decode.pid)
            if workers:
                os.kill(workers[-1], signal.SIGKILL)
                return True
    return False


def same_bytes(root: Path, one: str, other: str) -> str:
    """Tell whether the tables of two decodes are the same files, and how many texts differ."""
    first, second = (root / "exp/asr_model" / tag / "test" for tag in (one, other))
    different = [
        name for name in _TABLES if not filecmp.cmp(first / name, second / name, shallow=False)
    ]
    if not different:
        return "same"
    texts = [(directory / "text").read_text().splitlines() for directory in (first, second)]
    changed = sum(a != b for a, b in zip(*texts, strict=True))
    return f"other {', '.join(different)}; {changed} of {len(texts[0])} texts differ"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--ctc_weights", nargs="+", type=float, default=[0.0, 0.3])
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--kill", action="store_true")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        prepare(root, args.hours)
        print("| CTC | processes | command s | times | decode s | times | bytes |")
        print("|--:|:--|--:|--:|--:|--:|:--|")
        # the first one fills the caches of kernels and of the disk
        run(root, "warm", args.processes[0], max(args.ctc_weights), args.device, False)
        for weight in args.ctc_weights:
            runs = [(number, False) for number in args.processes]
            runs += [(args.processes[-1], True)] * args.kill
            first = base = None
            for number, kill in runs:
                tag = f"ctc{weight}_{number}{'_killed' * kill}"
                found = run(root, tag, number, weight, args.device, kill)
                seconds, decode_s = found["seconds"], found["total_s"] / number
                first, base = first or tag, base or (seconds, decode_s)
                print(
                    f"| {weight} | {number}{', one killed' * kill} | {seconds:.1f} "
                    f"| {base[0] / seconds:.2f} | {decode_s:.2f} | {base[1] / decode_s:.2f} "
                    f"| {same_bytes(root, first, tag)} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
