"""Stage 12 from flac to text on a GPU: seconds of audio a second, and where time goes.

An hour of generated audio in flac files of some 6 s; a model of random weights and the AMI
recipe's size over Fbank (12 and 9 layers, MTLA s=2); beam 20; a token each 0.2 s, since the end
of sentence is suppressed. Each way is a process of its own that decodes the set three times by
`mtla_espnet.inference.decode.decode`, as stage 12 does:

cold  from the start of the process to the end of the first decode, with no kernel compiled before
warm  the decode alone, the better of the second and the third

    python bench/stage12.py [--old DIR] [--ctc_weights 0 0.3] [--dtypes bfloat16] [--hours 1]

`--old DIR` compares with another version of the package, which lies in DIR.
"""

import argparse
import concurrent.futures
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RATE_HZ, VOCABULARY = 16000, 500
TASK, CONFIG = "asr", "egs2/ami/asr1/conf/train_asr.yaml"
SEARCH = {"beam_size": 20, "maxlenratio": 0.2}
BATCH_S = 765  # seconds of audio in a batch, padding included


def write_recording(job: tuple[Path, int, int]) -> None:
    """Write so many samples of noise that is louder at low frequencies, as speech is."""
    import numpy as np
    import soundfile

    path, seed, length = job
    white = np.random.default_rng(seed).normal(0, 0.02, length + 200)
    soundfile.write(path, np.convolve(white, 0.96 ** np.arange(200), "valid")[:length], RATE_HZ)


def make_set(directory: Path, hours: float) -> None:
    """Write a formatted set."""
    import numpy as np

    from mtla_espnet.data.kaldi.tables import write_table

    directory.mkdir(parents=True)
    random = np.random.default_rng(0)
    lengths, total = {}, 0
    while total < hours * 3600 * RATE_HZ:
        length = int(RATE_HZ * np.clip(6 * np.exp(0.5 * random.normal()), 1, 30))
        lengths[f"utt{len(lengths):05}"] = length
        total += length
    jobs = [(directory / f"{key}.flac", i, n) for i, (key, n) in enumerate(lengths.items())]
    with concurrent.futures.ProcessPoolExecutor() as pool:
        list(pool.map(write_recording, jobs, chunksize=16))
    write_table(directory / "wav.scp", {key: directory / f"{key}.flac" for key in lengths})
    write_table(directory / "utt2num_samples", lengths)


def make_model(directory: Path) -> None:
    """Write `config.yaml` and `model.pth` of random weights."""
    import torch
    import yaml

    from mtla_espnet.tasks.register import register

    register()
    from espnet2.tasks.asr import ASRTask

    tokens = ["<blank>", "<unk>", *(f"t{i}" for i in range(VOCABULARY - 3)), "<sos/eos>"]
    config = vars(ASRTask.get_parser().parse_args([])) | yaml.safe_load((ROOT / CONFIG).read_text())
    config |= {"token_list": tokens, "token_type": "word", "freeze_param": []}
    config |= {"frontend": "fbank", "frontend_conf": {}, "preencoder": None, "specaug": None}
    config["encoder_conf"] |= {"conv_kernel_sizes": [5, 5], "conv_strides": [2, 2]}
    torch.manual_seed(0)
    model = ASRTask.build_model(argparse.Namespace(**config))
    model.decoder.output_layer.bias.data[-1] = -1e4
    directory.mkdir()
    torch.save(model.state_dict(), directory / "model.pth")
    (directory / "config.yaml").write_text(yaml.safe_dump(yaml.safe_load(yaml.safe_dump(config))))


def child(work: Path, name: str, options: dict, device: str, profile: bool) -> None:
    """Decode three times; print a JSON object."""
    from mtla_espnet.inference.decode import decode

    def run(number: int) -> float:
        begin = time.perf_counter()
        cost, failed = decode(
            task=TASK,
            train_config=work / "model/config.yaml",
            model_file=work / "model/model.pth",
            token_list=None,
            inference_config=SEARCH | options,
            data_dir=work / "set",
            keys=None,
            output_dir=work / name / str(number),
            batch_size=1000,
            batch_length=BATCH_S * RATE_HZ,
            max_memory_bytes=None,
            ngpu=int(device == "cuda"),
            progress=False,
        )
        assert not failed
        costs.append(cost)
        return time.perf_counter() - begin

    costs: list[dict] = []
    run(0)
    with open("/proc/self/stat") as stat:  # when this process began
        ticks = int(stat.read().rpartition(")")[2].split()[19])
    with open("/proc/uptime") as uptime:
        cold_s = float(uptime.read().split()[0]) - ticks / os.sysconf("SC_CLK_TCK")
    run(1)
    run(2)
    best = min(costs[1:], key=lambda cost: cost["total_s"])
    print(json.dumps({"cold_s": cold_s, "first_decode_s": costs[0]["total_s"], **best}))
    if profile:
        sys.path.insert(0, str(ROOT / "bench"))
        from kernel_time import kernel_ms, kernels

        found = kernels(lambda: run(3))
        print(f"kernels: {kernel_ms(found):.0f} ms", file=sys.stderr)
        for event in found[:15]:
            ms = event.self_device_time_total / 1e3
            print(f"{ms:8.1f} ms {event.count:6d} x {event.key[:90]}", file=sys.stderr)


def measure(work: Path, name: str, package: Path, options: dict, args) -> dict:
    """Run a child with an empty cache of kernels; return what it printed."""
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"TRITON_CACHE_DIR": cache}
        places = [str(package), os.environ.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, places))
        words = [sys.executable, __file__, "--child", name, "--work", str(work)]
        words += ["--options", json.dumps(options), "--device", args.device]
        words += ["--profile"] * (args.profile and package == ROOT)
        run = subprocess.run(words, env=environment, cwd=package, stdout=subprocess.PIPE, text=True)
    if run.returncode:
        sys.exit(f"{name}: failed")
    return json.loads(run.stdout.splitlines()[-1])


def same_texts(one: Path, other: Path) -> str:
    """Tell how many lines of the best hypotheses are the same."""
    a, b = ((path / "2/1best_recog/token").read_text().splitlines() for path in (one, other))
    return f"{sum(x == y for x, y in zip(a, b, strict=True))} of {len(a)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--old", type=Path, help="directory of another version of the package")
    parser.add_argument("--ctc_weights", nargs="+", type=float, default=[0.0, 0.3])
    parser.add_argument("--dtypes", nargs="+", default=["bfloat16"])
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--profile", action="store_true", help="of our kernels, on stderr")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--output", type=Path, help="write all numbers here, JSON")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--options", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.work, args.child, args.options, args.device, args.profile)
        return
    sys.path.insert(0, str(ROOT))
    packages = {"new": ROOT} | ({"old": args.old.resolve()} if args.old else {})
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        make_set(work / "set", args.hours)
        make_model(work / "model")
        print(
            "version dtype     ctc  cold s  first s  warm s   RTFx  encoder  search  rest  GiB same"
        )
        for dtype in args.dtypes:
            for weight in args.ctc_weights:
                for version, package in packages.items():
                    options = {"dtype": dtype, "ctc_weight": weight}
                    name = f"{version}_{dtype}_{weight}"
                    found = measure(work, name, package, options, args)
                    total_s, rest_s = found["total_s"], found["total_s"]
                    rest_s -= found["encoder_s"] + found["search_s"]
                    gib = (found["peak_memory_bytes"] or 0) / 2**30
                    same = same_texts(work / f"new_{dtype}_{weight}", work / name)
                    print(
                        f"{version:7} {dtype:9} {weight:.1f} {found['cold_s']:7.1f} "
                        f"{found['first_decode_s']:8.2f} {total_s:7.3f} "
                        f"{found['audio_s'] / total_s:6.0f} {found['encoder_s']:8.3f} "
                        f"{found['search_s']:7.3f} {rest_s:5.2f} {gib:4.1f}  {same}",
                        flush=True,
                    )
                    rows.append({"version": version, **options, **found})
    if args.output:
        args.output.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
