"""Training on one and on two GPUs of one machine: speed, memory, loss, resume, a killed worker.

    python bench/train_ddp.py WORK_DIR [--parts smarthome kill paper] [--device cpu] [--small]

Two models, trained by ESPnet's trainer as users train: the smarthome ASR recipe (2.2 M
parameters) by its own stage 11, and a model of the paper's size on generated features by
`python -m mtla_espnet -m espnet2.bin.asr_train`. ESPnet splits each batch over the GPUs, so
the same configuration has the same global batch on one and on two (`same`); with two GPUs a
run with a global batch twice as large follows (`double`). Times are those of the training
phase from the second epoch on, by ESPnet's reporter. ESPnet spawns the processes; the
model of the paper's size is also started by torchrun. smarthome trains in float32, the other
in bf16 (`--use_amp true`). The peak of memory is the most that nvidia-smi saw on a GPU (CUDA's
own and NCCL's included), beside the most that PyTorch held in the first process. `--device cpu`
does the same with gloo, started by torchrun; with `--small` it is a test of this script, not a
measurement.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import re
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import torch

CHECKOUT = Path(__file__).resolve().parents[1]
PARTS = ("smarthome", "kill", "paper")
FEATURES, FRAMES_A_SECOND = 80, 100
_LOSS = re.compile(r"(\d+)epoch:train:(\d+)-\d+batch: .*?\bloss=([\d.]+)")
_ITERATION = re.compile(r"epoch:train:.*?\biter_time=([-\d.e]+), .*train_time=([-\d.e]+)")


@dataclasses.dataclass(frozen=True)
class Result:
    """What one training did.

    Args:
        name: of the run.
        updates_a_second: from the second epoch on.
        audio_s_a_second: seconds of audio (frames / 100) trained on in a second.
        waiting: share of a step that waits for data, in the first process.
        used_mib: most memory in use on each GPU.
        held_gib: most that PyTorch held in the first process.
        losses: of each block of updates that the log tells.
        valid_losses: of each epoch.
    """

    name: str
    updates_a_second: float
    audio_s_a_second: float
    waiting: float
    used_mib: list[int]
    held_gib: float
    losses: list[float]
    valid_losses: list[float]


class Memory:
    """The most memory in use on each GPU while it is entered, polled from nvidia-smi."""

    def __init__(self):
        self.peaks: list[int] = []
        self._over = threading.Event()

    def __enter__(self):
        if torch.cuda.is_available():
            self._thread = threading.Thread(target=self._poll, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        if torch.cuda.is_available():
            self._thread.join()

    def _poll(self):
        command = shlex.split("nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits")
        while not self._over.wait(0.2):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            used = [int(word) for word in done.stdout.split()]
            self.peaks = [max(pair) for pair in zip(used, self.peaks or used, strict=True)]


class Launcher:
    """Starts ESPnet's training on some devices, by the recipe or by its program.

    Args:
        device: cuda (ESPnet spawns a process a GPU) or cpu (torchrun starts them).
    """

    def __init__(self, device: str):
        self.device = device

    def command(self, words: list[str], devices: int) -> list[str]:
        """Return the command that trains on so many devices."""
        if self.device == "cuda":
            return [sys.executable, "-m", *words, "--ngpu", str(devices)]
        torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(devices)]
        prefix = [sys.executable, "-m", *torchrun, "-m"] if devices > 1 else [sys.executable, "-m"]
        return [*prefix, *words, "--ngpu", "0"]

    def program(self, argv: list[str], devices: int, torchrun: bool) -> list[str]:
        """Return the command of ESPnet's program; `torchrun` starts the processes, or ESPnet."""
        words = ["mtla_espnet", "-m", "espnet2.bin.asr_train", *argv]
        if self.device == "cuda" and torchrun:
            start = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(devices)]
            words = [*start, "-m", *words, "--ngpu", "1", "--multiprocessing_distributed", "false"]
            return [sys.executable, "-m", *words]
        command = self.command(words, devices)
        if self.device == "cuda":
            return [*command, "--multiprocessing_distributed", str(devices > 1).lower()]
        command += ["--multiprocessing_distributed", "false"]
        return [*command, "--dist_backend", "gloo"] if devices > 1 else command


def environment() -> dict[str, str]:
    path = [str(CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": "1"}


def measure(name, command, cwd, directory, log, seconds_an_epoch) -> Result:
    """Run a training and read its result from its directory and log.

    Raises:
        RuntimeError: it failed.
    """
    print(f"... {name}", flush=True)
    begin = time.monotonic()
    with Memory() as memory, open(cwd / f"{name}.out", "w") as out:
        done = subprocess.run(
            command, cwd=cwd, env=environment(), stdout=out, stderr=out, check=False
        )
    if done.returncode:
        tail = (cwd / f"{name}.out").read_text()[-3000:]
        raise RuntimeError(f"{name} ended with {done.returncode}:\n{tail}")
    stats = torch.load(directory / "checkpoint.pth", weights_only=True)["reporter"]["stats"]
    later = [epoch for epoch in stats if epoch > 1]
    times = [stats[epoch]["train"]["time"]["__timedelta_seconds__"] for epoch in later]
    counts = [stats[epoch]["train"]["total_count"] for epoch in stats]
    updates = [after - before for before, after in zip(counts, counts[1:], strict=False)]
    text = (log or cwd / f"{name}.out").read_text()
    steps = [(float(wait), float(step)) for wait, step in _ITERATION.findall(text)]
    half = steps[len(steps) // 2 :]
    held = [stats[epoch]["train"].get("gpu_max_cached_mem_GB", 0.0) for epoch in stats]
    result = Result(
        name,
        statistics.median(n / t for n, t in zip(updates, times, strict=True)),
        statistics.median(seconds_an_epoch / t for t in times),
        sum(wait for wait, _ in half) / max(1e-9, sum(step for _, step in half)),
        memory.peaks,
        max(held),
        [float(loss) for _, _, loss in _LOSS.findall(text)],
        [stats[epoch]["valid"]["loss"] for epoch in stats],
    )
    shown = {key: value for key, value in dataclasses.asdict(result).items() if key != "losses"}
    print(f"    {time.monotonic() - begin:.1f} s: {json.dumps(shown)}", flush=True)
    return result


class Smarthome:
    """The smarthome recipe in a copy of its directory, prepared up to its statistics."""

    def __init__(self, work: Path, launcher: Launcher, small: bool):
        self.root = work / "egs2/smarthome/asr1"
        shutil.copytree(CHECKOUT / "egs2/smarthome/asr1/conf", self.root / "conf")
        self.launcher = launcher
        self.log_interval = 2 if small else 10
        self.config = "conf/train_asr_tiny.yaml" if small else "conf/train_asr.yaml"
        jobs = max(1, min(16, len(os.sched_getaffinity(0)) - 1))
        script = (CHECKOUT / "egs2/smarthome/asr1/run.sh").read_text().replace("\\\n", " ")
        (call,) = re.findall(r"^\./asr\.sh (.*)$", script, re.MULTILINE)
        self.options = shlex.split(call)[:-1]  # without "$@"
        size = "--train_utterances 128 --valid_utterances 16 --test_utterances 8".split()
        data = ["mtla_espnet", "prepare", "smarthome", "--nj", str(jobs), *(size if small else [])]
        stages = ["--nj", str(jobs), "--stage", "3", "--stop_stage", "10", "--ngpu", "0"]
        for words in (data, self._words(stages, self.config)):
            done = subprocess.run(
                [sys.executable, "-m", *words],
                cwd=self.root, env=environment(), capture_output=True, text=True, check=False,
            )  # fmt: skip
            if done.returncode:
                raise RuntimeError(f"smarthome: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        samples = (self.root / "dump/raw/train/utt2num_samples").read_text().split()[1::2]
        self.seconds = sum(map(int, samples)) / 16000

    def _words(self, argv, config):
        words = ["mtla_espnet", "recipe", "asr", *self.options]
        return [*words, "--asr_config", config, "--attention", self._attention(), *argv]

    def _attention(self):
        return str(CHECKOUT / "conf/attention/mtla.yaml")

    def command(self, tag: str, devices: int, asr_args: str) -> list[str]:
        """Return the command of stage 11."""
        words = (
            f"--num_workers 4 --log_interval {self.log_interval} --keep_nbest_models 1 {asr_args}"
        )
        argv = ["--stage", "11", "--stop_stage", "11", "--asr_tag", tag, "--asr_args", words]
        return self.launcher.command(self._words(argv, self.config), devices)

    def directory(self, tag: str) -> Path:
        """Return the directory of a training."""
        return self.root / f"exp/asr_{tag}"

    def train(self, tag: str, devices: int, asr_args: str) -> Result:
        """Train in a new directory."""
        command, directory = self.command(tag, devices, asr_args), self.directory(tag)
        log = directory / "train.log"
        return measure(tag, command, self.root, directory, log, self.seconds)


class PaperSize:
    """A model of the paper's size and a training set of generated features.

    Encoder: our Conv1d front end and ESPnet's Transformer, 12 layers, 512/8/2048. Decoder:
    9 decoder-only layers with MTLA s = 2. 8,000 words. Lengths as in read speech: a median
    of 6 s, 2 words a second and more.
    """

    def __init__(self, work: Path, launcher: Launcher, small: bool):
        self.root = work / "paper"
        self.launcher, self.small = launcher, small
        self.bins = 60_000 if small else 80_000 * FEATURES
        draw = np.random.default_rng(0)
        pool = draw.standard_normal(1 << 20, dtype=np.float32)
        tokens = ["<blank>", "<unk>", *(f"w{i}" for i in range(60 if small else 7997)), "<sos/eos>"]
        (self.root / "features").mkdir(parents=True)
        (self.root / "tokens.txt").write_text("".join(f"{token}\n" for token in tokens))
        self.seconds = 0.0
        for mode, frames_wanted in (
            ("train", 3_000 if small else 2_800_000),
            ("valid", 3_000 if small else 30_000),
        ):
            lines = {"feats.scp": [], "text": [], "speech_shape": [], "text_shape": []}
            total = 0
            while total < frames_wanted:
                frames = int(np.clip(np.exp(draw.normal(0, 0.5)) * 600, 100, 3000))
                frames = frames // 10 if small else frames
                name = f"{mode}{len(lines['text']):06d}"
                start = int(draw.integers(0, len(pool) - frames * FEATURES))
                path = self.root / f"features/{name}.npy"
                np.save(path, pool[start : start + frames * FEATURES].reshape(frames, FEATURES))
                count = max(1, frames // (30 if small else 20))
                words = draw.integers(0, len(tokens) - 3, count)
                lines["feats.scp"].append(f"{name} {path}")
                lines["text"].append(f"{name} {' '.join(f'w{word}' for word in words)}")
                lines["speech_shape"].append(f"{name} {frames},{FEATURES}")
                lines["text_shape"].append(f"{name} {count}")
                total += frames
            if mode == "train":
                self.seconds = total / FRAMES_A_SECOND
            for name, content in lines.items():
                text = "".join(f"{line}\n" for line in content)
                (self.root / f"{mode}.{name}").write_text(text)

    def train(
        self, name: str, devices: int, double: bool = False, torchrun: bool = False
    ) -> Result:
        """Train in a new directory, in bf16 where there are GPUs."""
        layers, size, heads = (1, 32, 2) if self.small else (12, 512, 8)
        encoder = {"output_size": size, "attention_heads": heads, "num_blocks": layers}
        encoder["use_sdpa"] = "true"
        decoder = {
            "attention": "mtla",
            "attention_heads": heads,
            "num_blocks": 1 if self.small else 9,
            "linear_units": 4 * size,
        }
        argv = ["--input_size", str(FEATURES), "--token_list", str(self.root / "tokens.txt")]
        argv += ["--token_type", "word", "--encoder", "conv1d_transformer"]
        argv += ["--decoder", "decoder_only", "--optim", "adam", "--optim_conf", "lr=1.0e-4"]
        for option, values in (
            ("encoder_conf", {**encoder, "linear_units": 4 * size}),
            ("decoder_conf", decoder),
            ("model_conf", {"ctc_weight": 0.3, "report_cer": "false", "report_wer": "false"}),
        ):
            for key, value in values.items():
                argv += [f"--{option}", f"{key}={value}"]
        for mode in ("train", "valid"):
            for file, kind in (("feats.scp", "speech,npy"), ("text", "text,text")):
                path = f"{self.root / mode}.{file},{kind}"
                argv += [f"--{mode}_data_path_and_name_and_type", path]
            for file in ("speech_shape", "text_shape"):
                argv += [f"--{mode}_shape_file", f"{self.root / mode}.{file}"]
        bins = self.bins * (2 if double else 1)
        argv += ["--batch_type", "numel", "--batch_bins", str(bins), "--max_epoch", "2"]
        argv += ["--use_amp", str(self.launcher.device == "cuda").lower(), "--num_workers", "8"]
        argv += ["--num_att_plot", "0", "--use_tensorboard", "false", "--use_matplotlib", "false"]
        argv += ["--log_interval", "2" if self.small else "5", "--keep_nbest_models", "1"]
        argv += ["--output_dir", str(self.root / name)]
        command = self.launcher.program(argv, devices, torchrun)
        return measure(name, command, self.root, self.root / name, None, self.seconds)


def children_of(pid: int) -> list[int]:
    """Return the worker processes that a training has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            words = (path.parent / "cmdline").read_bytes()
            if parent == pid and b"resource_tracker" not in words:
                found.append(int(path.parent.name))
    return sorted(found)


def kill_and_resume(smarthome: Smarthome) -> dict:
    """Kill a worker of a training on two devices; go on with one, then with two again."""
    tag, directory = "killed", smarthome.directory("killed")
    print("... a killed worker, and what follows", flush=True)
    with open(smarthome.root / "killed.err", "w") as err:
        training = subprocess.Popen(
            smarthome.command(tag, 2, "--max_epoch 1000"),
            cwd=smarthome.root, env=environment(), stdout=subprocess.DEVNULL, stderr=err,
        )  # fmt: skip
        while not (directory / "checkpoint.pth").exists() and training.poll() is None:
            time.sleep(0.05)
        time.sleep(0.5)
        workers = children_of(training.pid)
        os.kill(workers[-1], signal.SIGKILL)
        begin = time.monotonic()
        code = training.wait(timeout=120)
        seconds = time.monotonic() - begin
    lines = (smarthome.root / "killed.err").read_text().splitlines()
    stats = torch.load(directory / "checkpoint.pth", weights_only=True)["reporter"]["stats"]
    done = len(stats)
    found = {
        "exit code": code,
        "seconds until the end": round(seconds, 1),
        "lines": [line for line in lines if line.startswith("run.pl: ")],
        "workers left": [pid for pid in workers if Path(f"/proc/{pid}").exists()],
        "whole epochs in the checkpoint": done,
    }
    for devices in (1, 2):
        done += 1
        command = smarthome.command(tag, devices, f"--max_epoch {done}")
        end = subprocess.run(
            command, cwd=smarthome.root, env=environment(), capture_output=True, check=False
        )
        stats = torch.load(directory / "checkpoint.pth", weights_only=True)["reporter"]["stats"]
        summary = json.loads((directory / "training.json").read_text())
        found[f"resumed on {devices}"] = {
            "exit code": end.returncode,
            "epochs": len(stats),
            "processes": summary["processes"],
            "train losses": [round(stats[epoch]["train"]["loss"], 3) for epoch in stats],
        }
    return found


def loss_difference(one: Result, other: Result) -> float:
    """Return the mean relative difference of two loss curves, block by block."""
    pairs = zip(one.losses, other.losses, strict=True)
    return statistics.mean(abs(a - b) / a for a, b in pairs)


def table(results: list[tuple[Result, Result, int]]) -> str:
    """Write results beside those of one device; efficiency is speed-up / devices."""
    head = (
        "| run | updates/s | audio s/s | efficiency | waits for data | MiB a GPU | PyTorch GiB |\n"
        "|:--|--:|--:|--:|--:|--:|--:|\n"
    )
    rows = []
    for result, base, devices in results:
        efficiency = result.audio_s_a_second / base.audio_s_a_second / devices
        memory = " / ".join(map(str, result.used_mib[:devices])) or "-"
        rows.append(
            f"| {result.name} | {result.updates_a_second:.2f} | {result.audio_s_a_second:.0f} "
            f"| {efficiency:.2f} | {result.waiting:.0%} | {memory} | {result.held_gib:.2f} |\n"
        )
    return head + "".join(rows)


def train_smarthome(smarthome: Smarthome, small: bool) -> None:
    """Compare one and two devices on smarthome, and what another seed does."""
    epochs = f"--max_epoch {2 if small else 3}"
    one = smarthome.train("smarthome_1", 1, epochs)
    two = smarthome.train("smarthome_2_same", 2, epochs)
    more = f"{epochs} --batch_size {32 if small else 64}"
    double = smarthome.train("smarthome_2_double", 2, more)
    other = smarthome.train("smarthome_1_seed", 1, f"{epochs} --seed 1")
    print(table([(one, one, 1), (two, one, 2), (double, one, 2)]))
    print(f"loss curve, mean relative difference of {len(one.losses)} blocks of updates:")
    print(f"  1 and 2 devices {loss_difference(one, two):.4f}")
    print(f"  two seeds on 1 device {loss_difference(one, other):.4f}", flush=True)


def train_paper(paper: PaperSize) -> None:
    """Compare one and two devices on the model of the paper's size."""
    one = paper.train("paper_1", 1)
    two = paper.train("paper_2_same", 2)
    other = paper.train("paper_2_torchrun", 2, torchrun=True)
    double = paper.train("paper_2_double", 2, double=True)
    print(table([(one, one, 1), (two, one, 2), (other, one, 2), (double, one, 2)]))
    for result in (two, other):
        print(f"loss curve, 1 and 2 devices: {loss_difference(one, result):.4f}", flush=True)


def main() -> None:
    """Run the chosen parts, and print a table after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path, help="new directory for data and models")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny models and little data")
    args = parser.parse_args()
    args.work.mkdir(parents=True)
    work = args.work.resolve()
    launcher = Launcher(args.device)
    if args.device == "cuda":
        names = {torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())}
        print(f"{torch.cuda.device_count()} x {', '.join(names)}, torch {torch.__version__}")
    if "paper" in args.parts:
        paper = PaperSize(work, launcher, args.small)
        print(f"paper: {paper.seconds:.0f} s of features", flush=True)
        train_paper(paper)
    if {"smarthome", "kill"} & set(args.parts):
        smarthome = Smarthome(work, launcher, args.small)
        print(f"smarthome: {smarthome.seconds:.0f} s of audio", flush=True)
        if "smarthome" in args.parts:
            train_smarthome(smarthome, args.small)
        if "kill" in args.parts:
            print(json.dumps(kill_and_resume(smarthome), indent=1), flush=True)


if __name__ == "__main__":
    main()
