"""Kill -9, Ctrl-C, SIGTERM or a full disk in each stage, then the same command: the same bytes.

But for times. A run is a child that is forked with ESPnet loaded, so that a signal hits the stage
and not the import. Only the run itself is hit: jobs that a killed one leaves behind must not harm
the next.
"""

import hashlib
import os
import random
import re
import resource
import shutil
import signal
import sys
import time
import traceback
import zipfile
from pathlib import Path

import pytest

from mtla_espnet import cli
from mtla_espnet.stages.s09_ngram import PROGRAMS

CHECKOUT = Path(__file__).resolve().parents[2]
ARGV = [
    *("--lang", "en", "--token_type", "bpe", "--nbpe", "21", "--nj", "2", "--inference_nj", "2"),
    *("--ngpu", "0", "--train_set", "train", "--valid_set", "valid", "--test_sets", "valid test"),
    *("--speed_perturb_factors", "0.9 1.0", "--lm_config", "conf/train_lm.yaml"),
    *("--asr_config", "conf/train_asr.yaml", "--inference_config", "conf/decode_asr.yaml"),
    *("--skip_packing", "false"),
]
TRAIN = """
frontend_conf: {n_fft: 400, win_length: 400, hop_length: 160, center: false}
encoder: conv1d_conformer
encoder_conf: {output_size: 16, attention_heads: 2, linear_units: 16, num_blocks: 1,
               conv_kernel_sizes: [3, 3], conv_strides: [2, 2], cnn_module_kernel: 3}
decoder: decoder_only
decoder_conf: {attention: mtla, attention_heads: 2, linear_units: 16, num_blocks: 1}
model_conf: {ctc_weight: 0.3}
specaug: specaug
specaug_conf: {apply_freq_mask: true, freq_mask_width_range: [0, 10], num_freq_mask: 1,
               apply_time_mask: true, time_mask_width_range: [0, 10], num_time_mask: 1}
optim: adam
optim_conf: {lr: 1.0e-3}
batch_type: unsorted
batch_size: 1
max_epoch: 4
keep_nbest_models: 2
best_model_criterion: [[valid, acc, max]]
num_att_plot: 0
num_workers: 0
"""
LM = """
lm_conf: {unit: 8, nlayers: 1}
batch_type: unsorted
batch_size: 1
max_epoch: 4
keep_nbest_models: 2
best_model_criterion: [[valid, loss, min]]
num_workers: 0
"""
INTERRUPTED = 130
STAGES = (1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14)
if all(map(shutil.which, PROGRAMS)):
    STAGES = tuple(sorted((*STAGES, 9)))
# Each twice a stage.
SIGNALS = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM) * 2
# Times, and what is only there while something runs.
TIMES = re.compile(
    r"\.log$|^\.(lock|done|begun)|^events\.out|^training\.json$|^efficiency\.json$"
    r"|^block\.json$|time.*\.png$|^RESULTS\.md$|^run\.sh$|^checkpoint\.pth$|\.zip$"
)

pytestmark = [pytest.mark.espnet, pytest.mark.slow]


def make_recipe(root):
    shutil.copytree(CHECKOUT / "egs2/mini_an4/asr1/conf", root / "conf")
    (root / "conf/train_asr.yaml").write_text(TRAIN)
    (root / "conf/train_lm.yaml").write_text(LM)
    (root / "local").mkdir()
    script = root / "local/data.sh"
    script.write_text(f"#!/bin/sh\nexec {sys.executable} -m mtla_espnet prepare mini_an4\n")
    script.chmod(0o755)
    return root


def of_stage(number):
    """Return the options that run one stage."""
    ngram = ("--use_ngram", "true") if number == 9 else ()
    return ("--stage", str(number), "--stop_stage", str(number), *ngram)


def start(root, *argv, limit=None):
    """Fork a run whose files may have `limit` bytes; return the ids of it and of its console.

    What it prints is in console.log.
    """
    reader, writer = os.pipe()
    copier = os.fork()
    if not copier:  # the console itself is not limited
        os.close(writer)
        with open(root / "console.log", "ab", buffering=0) as log:
            while data := os.read(reader, 65536):
                log.write(data)
        os._exit(0)
    os.close(reader)
    pid = os.fork()
    if pid:
        os.close(writer)
        return pid, copier
    code = 1
    try:
        os.setsid()
        os.chdir(root)
        os.dup2(writer, 1)
        os.dup2(writer, 2)
        sys.stdout = sys.stderr = open(writer, "w", buffering=1)  # noqa: SIM115
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as cli.main will
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        code = cli.main(["recipe", "asr", *ARGV, *argv])
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def ended(pid, copier):
    """Wait for a run; return its exit code."""
    _, status = os.waitpid(pid, 0)
    os.waitpid(copier, 0)
    return os.waitstatus_to_exitcode(status)


def run(root, *argv):
    """Run to the end; return the seconds that it took."""
    begin = time.monotonic()
    assert ended(*start(root, *argv)) == 0, (root / "console.log").read_text()[-3000:]
    return time.monotonic() - begin


def interrupted(root, number, delay_s, *argv):
    """Send a signal to a run after some time; return whether it was still running."""
    pid, _ = start(root, *argv)  # jobs that it leaves behind still use the console
    time.sleep(delay_s)
    os.kill(pid, number)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    said = (root / "console.log").read_text()
    ended = -number if number == signal.SIGKILL else INTERRUPTED
    assert code in (0, ended) and "Traceback" not in said, said[-3000:]
    return code != 0


def snapshot(root):
    """Return file -> digest, or the target of a link, but for what holds times."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_dir() or TIMES.search(path.name):
            continue
        content = os.readlink(path) if path.is_symlink() else path.read_bytes()
        data = content if isinstance(content, bytes) else content.encode()
        found[name] = hashlib.sha256(data).hexdigest()[:12]
    for path in root.glob("exp/*/*.zip"):
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if not TIMES.search(Path(info.filename).name) and info.filename != "meta.yaml":
                    found[f"{path.name}:{info.filename}"] = f"{info.CRC:x}"
    return found


def weights(path):
    """Return model and optimizer of a checkpoint, which also holds times."""
    import torch

    states = torch.load(path, map_location="cpu", weights_only=False)
    flat = {f"model.{name}": value for name, value in states["model"].items()}
    for number, state in enumerate(states["optimizers"]):
        for parameter, values in state["state"].items():
            flat |= {f"{number}.{parameter}.{name}": value for name, value in values.items()}
    return flat


def check_same(undisturbed, root):
    """Check that two recipes' files are the same, but for times."""
    expected, found = snapshot(undisturbed), snapshot(root)
    assert found.keys() == expected.keys()
    different = [name for name in found if found[name] != expected[name]]
    assert not different
    for pattern in ("exp/asr_train*", "exp/lm_train*"):
        (one,), (two,) = undisturbed.glob(pattern), root.glob(pattern)
        before, after = weights(one / "checkpoint.pth"), weights(two / "checkpoint.pth")
        assert before.keys() == after.keys()
        assert all(before[name].equal(after[name]) for name in before)


@pytest.fixture(scope="module")
def loaded():
    import mtla_espnet.tasks  # noqa: F401  (once, for all runs)


@pytest.fixture(scope="module")
def whole(loaded, tmp_path_factory):
    """A recipe that ran undisturbed, and the seconds of each stage."""
    root = make_recipe(tmp_path_factory.mktemp("whole"))
    seconds = {number: run(root, *of_stage(number)) for number in STAGES}
    return root, seconds


def test_interrupted_runs_end_with_the_same_bytes(whole, tmp_path):
    undisturbed, seconds = whole
    seed = int(os.environ.get("KILL_SEED", random.SystemRandom().randrange(10**6)))
    choose = random.Random(seed)
    root = make_recipe(tmp_path)
    report = [f"seed {seed}"]
    for number in STAGES:
        argv = of_stage(number)
        # Early first: a training goes on from its last epoch, and shall not be done at once.
        delays = sorted(choose.uniform(0, 0.6 * seconds[number]) for _ in SIGNALS)
        signals = choose.sample(SIGNALS, len(SIGNALS))
        hits = sum(interrupted(root, *each, *argv) for each in zip(signals, delays, strict=True))
        rest = run(root, *argv)
        report.append(f"stage {number}: {seconds[number]:.2f} s, {hits} hits, then {rest:.2f} s")
    print("\n".join(report))
    check_same(undisturbed, root)


LIMITS = (0, 300, 3_000, 30_000, 100_000)  # bytes


def test_a_full_disk_is_one_line_and_costs_nothing(whole, tmp_path):
    undisturbed, _ = whole
    root = make_recipe(tmp_path)
    failures = {}
    for number in STAGES:
        argv = of_stage(number)
        for limit in LIMITS:
            (root / "console.log").unlink(missing_ok=True)
            if code := ended(*start(root, *argv, limit=limit)):
                said = (root / "console.log").read_text()
                failures[number, limit] = code
                assert "Traceback" not in said, said
                last = said.splitlines()[-1]
                problem = r"cannot be written: .*(free some space and run again|Is the disk full\?)"
                assert re.search(problem, last) or "data.sh failed" in last, said
        run(root, *argv)
    assert set(failures.values()) == {1}
    assert {number for number, _ in failures} == set(STAGES)
    check_same(undisturbed, root)
