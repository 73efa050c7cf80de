"""Stages 3, 10 and 12 on a Slurm: the bytes that forks write, whatever is lost on the way."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from mtla_espnet.data.kaldi.datadir import write_data_dir
from quick_training import QUICK_TRAINING

pytestmark = pytest.mark.cluster
CHECKOUT = Path(__file__).resolve().parents[2]
STOPPING = Path(__file__).with_name("stopping_run.py")
PATIENCE_S = 600
FEW = {"train": 410, "valid": 6, "test": 24}  # three blocks, and some batches of 2
TRAIN = QUICK_TRAINING | {
    "frontend_conf": {"n_fft": 400, "win_length": 400, "hop_length": 160, "center": False},
    "encoder": "conv1d_conformer",
    "encoder_conf": {
        "output_size": 16,
        "attention_heads": 2,
        "linear_units": 16,
        "num_blocks": 1,
        "conv_kernel_sizes": [3, 3],
        "conv_strides": [2, 2],
        "cnn_module_kernel": 3,
    },
    "decoder": "decoder_only",
    "decoder_conf": {
        "attention": "mtla",
        "attention_heads": 2,
        "linear_units": 16,
        "num_blocks": 1,
    },
    "model_conf": {"ctc_weight": 0.3},
    "optim": "adam",
    "batch_size": 20,
}
ARGV = [
    *("--lang", "en", "--token_type", "char", "--use_lm", "false", "--nj", "2", "--ngpu", "0"),
    *("--asr_config", "conf/train.yaml", "--inference_config", "conf/decode.yaml"),
    *("--train_set", "train", "--valid_set", "valid", "--test_sets", "test"),
    *("--inference_nj", "2", "--batch_size", "2"),
]
ON_CLUSTER = [*ARGV, "--stage", "3", "--stop_stage", "12", "--skip_stages", "4 5 6 7 8 9 11"]
# What stands for the run itself, not for its results.
RUN = re.compile(r"^\.|\.log$|^block\.json$|^efficiency\.json$|^run\.sh$")


@pytest.fixture(scope="module")
def forks(tmp_path_factory):
    """A recipe whose stages 3 to 12 ran in forks."""
    root = tmp_path_factory.mktemp("forks")
    rng = np.random.default_rng(0)
    for name, number in FEW.items():
        waves = {}
        for i in range(number):
            waves[f"{name}{i:04}"] = path = root / "raw" / f"{name}{i:04}.wav"
            path.parent.mkdir(exist_ok=True)
            soundfile.write(path, rng.normal(0, 0.1, int(rng.integers(4000, 8000))), 16000)
        text = {key: " ".join(rng.choice(["A", "BE", "SEA"], 2)) for key in waves}
        write_data_dir(root / "data" / name, waves, text, {key: key for key in waves})
    (root / "conf").mkdir()
    (root / "conf/train.yaml").write_text(yaml.safe_dump(TRAIN))
    (root / "conf/decode.yaml").write_text("beam_size: 2\nmaxlenratio: 0.2\n")
    argv = [*ARGV, "--stage", "3", "--stop_stage", "12"]
    subprocess.run(
        [sys.executable, "-m", "mtla_espnet", "recipe", "asr", *argv], cwd=root, check=True
    )
    return root


def results(root):
    """Return file -> digest of all that the three stages leave."""
    places = [root / "dump", *root.glob("exp/asr_stats*"), *root.glob("exp/*/decode*/test")]
    assert len(places) == 3
    files = [path for place in places for path in place.rglob("*") if path.is_file()]
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if not RUN.search(path.name) and "logdir" not in path.parts
    }


class Recipe:
    """A copy of a recipe, without what stages 3, 10 and 12 left; it runs on a Slurm."""

    def __init__(self, slurm, forks, tmp_path, n_workers):
        self.slurm, self.root, self.place = slurm, tmp_path / "r", tmp_path / "stopped"
        self.place.mkdir()
        shutil.copytree(forks, self.root, symlinks=True)
        for made in (
            *self.root.glob("dump/raw/**/format.*"),
            *self.root.glob("dump/raw/**/.done.3"),
            *self.root.glob("exp/asr_stats*"),
            *self.root.glob("exp/*/decode*"),
        ):
            shutil.rmtree(made) if made.is_dir() else made.unlink()
        options = {"cores": 1, "memory": "2GB", "interface": "lo", "death_timeout": 15}
        config = {"env": "slurm", "n_workers": n_workers, "options": options}
        (self.root / "conf/slurm.yaml").write_text(yaml.safe_dump({"parallel": config}))

    def start(self, *program):
        argv = [*ON_CLUSTER, "--parallel", "conf/slurm.yaml"]
        with open(self.root / "console.log", "a") as console:
            return subprocess.Popen(
                [sys.executable, *program, *argv],
                cwd=self.root,
                env=self.slurm.environment,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )

    def console(self):
        return (self.root / "console.log").read_text()

    def wait_until(self, condition, driver=None):
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, self.console()[-3000:]
            assert driver is None or driver.poll() is None, self.console()[-3000:]
            time.sleep(0.1)

    def end(self, driver):
        assert driver.wait(PATIENCE_S) == 0, self.console()[-3000:]
        self.wait_until(lambda: self.slurm.jobs() == [])


@pytest.mark.parametrize("n_workers", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_three_stages_write_what_forks_do(slurm, forks, tmp_path, n_workers):
    recipe = Recipe(slurm, forks, tmp_path, n_workers)
    recipe.end(recipe.start("-m", "mtla_espnet", "recipe", "asr"))
    assert results(recipe.root) == results(forks)
    (cost,) = recipe.root.glob("exp/*/decode*/test/efficiency.json")
    assert json.loads(cost.read_text())["workers"] <= n_workers


TWICE = """
import sys
from mtla_espnet.cli import main
from mtla_espnet.jobs.fan_out import jobs_run_by
from mtla_espnet.jobs.parallel import run_jobs
from mtla_espnet.runner import runner

class Twice:
    n_workers = 2
    def run_jobs(self, function, argument_list, progress):
        found = []
        for argument in argument_list:
            first, second = run_jobs(function, [argument] * 2, 2, fresh=True)
            found.append(first)
        return found
    def close(self):
        pass

runner.jobs_run_by_file = lambda *_: jobs_run_by(Twice())
sys.exit(main(["recipe", "asr", *sys.argv[1:]]))
"""


def test_two_copies_of_each_shard_at_once_are_harmless(slurm, forks, tmp_path):
    recipe = Recipe(slurm, forks, tmp_path, 1)
    recipe.end(recipe.start("-c", TWICE))
    assert results(recipe.root) == results(forks)
    assert not list(recipe.root.rglob(".scratch*"))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["kill", "scancel", "power cut", "driver"])
def test_a_loss_in_the_middle_of_each_stage_changes_nothing(slurm, forks, tmp_path, how):
    recipe = Recipe(slurm, forks, tmp_path, 2)
    program = (str(STOPPING), str(recipe.place))
    driver = recipe.start(*program)
    for name in ("blocks.py", "statistics.py", "journal.py"):
        stopped = recipe.place / f"stopped.{name}"
        recipe.wait_until(stopped.exists, driver)
        job = json.loads(stopped.read_text())
        if how == "kill":
            os.kill(job["pid"], signal.SIGKILL)
        elif how == "scancel":
            slurm.call("scancel", job["job"])
        elif how == "power cut":
            slurm.node(job["node"], "lose")
            slurm.node(job["node"], "return")
        else:
            driver.kill()
            driver.wait()
            driver = recipe.start(*program)
            (recipe.place / f"go.{name}").touch()  # the old copy goes on beside the new run
    recipe.end(driver)
    assert results(recipe.root) == results(forks)
    if how != "driver":
        assert recipe.console().count(" was lost with its worker (job ") >= 3
