"""The command line as a user calls it: exit codes, one-line errors, what it loads."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

CHECKOUT = Path(__file__).resolve().parents[1]


def call(*argv, cwd=CHECKOUT, program=(sys.executable, "-m", "mtla_espnet"), path=None):
    """Call a program; `path` is a directory of modules that come before the installed ones."""
    modules = os.pathsep.join(map(str, filter(None, (CHECKOUT, path))))
    environment = {**os.environ, "PYTHONPATH": modules, "python": sys.executable}
    return subprocess.run(
        [*program, *argv], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture
def no_espnet(tmp_path):
    """A directory whose `espnet2` cannot be imported: what runs with it has not waited for it."""
    package = tmp_path / "modules/espnet2/__init__.py"
    package.parent.mkdir(parents=True)
    package.write_text("raise RuntimeError('ESPnet was imported')\n")
    return package.parent.parent


@pytest.fixture
def recipe(tmp_path):
    """The directory of a recipe of its own, which shares the checkout's scripts."""
    directory = tmp_path / "egs2/corpus/asr1"
    (directory / "local").mkdir(parents=True)
    (directory / "conf").mkdir()
    for name in ("egs2/TEMPLATE", "conf"):
        (tmp_path / name).symlink_to(CHECKOUT / name)
    example = CHECKOUT / "egs2/mini_an4/asr1"
    for path in (*example.glob("*.sh"), example / "local/data.sh", *example.glob("conf/*.yaml")):
        target = directory / path.relative_to(example)
        target.write_bytes(path.read_bytes())
        target.chmod(path.stat().st_mode)
    return directory


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (["--help"], "transcribe"),
        (["recipe", "--help"], "usage"),
        (["recipe", "asr", "--help"], "--inference_config"),
        (["recipe", "sum", "--help"], "--inference_mt_model"),
        (["report", "--help"], "recipe_dir"),
        (["transcribe", "--help"], "--model"),
        (["prepare", "--help"], "smarthome"),
        (["feats", "--help"], "fbank-zip"),
        (["data", "--help"], "from-fairseq"),
    ],
)
def test_help_loads_neither_torch_nor_espnet(argv, word):
    program = (
        "import sys\nfrom mtla_espnet.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print({'torch', 'espnet2'} & sys.modules.keys())"
    )
    done = call(*argv, program=(sys.executable, "-c", program))
    assert done.returncode == 0
    assert word in done.stdout
    assert done.stdout.splitlines()[-1] == "set()"


def test_the_version_is_told_with_those_that_a_report_needs(no_espnet):
    done = call("--version", path=no_espnet)
    assert done.returncode == 0 and done.stderr == ""
    told = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert told == {name: version(name) for name in ("mtla-espnet", "espnet", "torch")}


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["frobnicate"], 2, "invalid choice: 'frobnicate'"),
        (["prepare", "nocorpus"], 2, "invalid choice: 'nocorpus'"),
        (["recipe"], 2, ""),
        (["recipe", "tts"], 2, "error: recipe: unknown task 'tts'; there are asr, st, slu, sum"),
        (["report", "/nowhere"], 1, "error: /nowhere/exp: no such directory"),
    ],
)
def test_wrong_verbs(argv, code, message):
    done = call(*argv)
    assert done.returncode == code
    assert message in done.stderr


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["--x"], 1, "run.sh: invalid option --x"),
        (["here"], 2, "run.sh: unexpected argument 'here'"),
        (["--force", "yes"], 2, "run.sh: --force must be true or false, not 'yes'"),
        (["--train_set", ""], 2, "Error: --train_set is required"),
        (["--feats_type", "raw_copy"], 2, "run.sh: --feats_type raw_copy: not supported"),
        (["--nlsyms_txt", "no.txt"], 2, "Error: --nlsyms_txt no.txt: no such file"),
        (["--asr_config", "conf/no.yaml"], 1, "Error: conf/no.yaml: no such file"),
        (["--inference_args", "--beam_sizes 2"], 1, "unknown key 'beam_sizes' (nearest: 'beam_"),
        (["--attention", "mttla"], 2, "Error: --attention mttla: no such file"),
        (
            ["--asr_args", "--encoder_conf num_block=2"],
            1,
            "'encoder_conf.num_block' (nearest: 'num",
        ),
        (["--asr_args", "--decoder_conf attention=mhha"], 1, "attention: 'mhha' is unknown"),
        (["--asr_args", "--decoder_conf attention_heads=5"], 1, "do not divide the model size"),
        (["--asr_args", "--decoder_conf attention_conf.down_rate=0"], 1, "down_rate"),
        (["--asr_args", "--decoder_conf attention_conf.qk_rope_head_dim=3"], 1, "qk_rope_head_dim"),
        (["--asr_args", "--decoder_conf attention_conf.down=2"], 1, "unknown option 'down'"),
        (["--asr_args", "--max_epoch"], 2, "Error: --asr_args: --max_epoch needs a value"),
        (["--asr_args", "--max_epoch two"], 1, "max_epoch must be a whole number, not 'two'"),
        (["--asr_args", "--batch_type zz"], 1, "--asr_args: batch_type: unknown 'zz' (legal: cat"),
        (["--asr_tag", "x" * 250], 2, "choose a short one by --asr_tag"),
        (["--stage", "3"], 1, "data/train/wav.scp is missing: run stage 1 first (--stage 1)"),
        (["--stage", "11"], 1, "is missing: run stage 10 first (--stage 10)"),
        (["--stage", "12"], 1, "is missing: run stage 3 first (--stage 3)"),
        (["--stage", "13"], 1, "is missing: run stage 12 first (--stage 12)"),
        (["--skip_stages", "1,2"], 2, "Error: --skip_stages must be numbers"),
        (["--python", "/no/python"], 2, "error: --python /no/python: no such program"),
    ],
)
def test_mistakes_in_a_recipes_call_are_one_line(recipe, no_espnet, argv, code, message):
    done = call(*argv, cwd=recipe, program=("./run.sh",), path=no_espnet)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_unset_corpus_is_said(recipe):
    (recipe / "db.sh").write_text("MINI_AN4=\n")
    done = call("--stop_stage", "1", cwd=recipe, program=("./run.sh",))
    assert done.returncode == 1
    assert "Fill the value of 'MINI_AN4' of db.sh" in done.stderr
    assert done.stderr.endswith("Error: local/data.sh failed with exit code 1\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_to_run_sh_ends_the_recipe_and_its_script(recipe, number):
    script = recipe / "local/data.sh"
    script.write_text("#!/bin/sh\necho $PPID $$ > ids\nwhile :; do sleep 0.1; done\n")
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "python": sys.executable}
    with subprocess.Popen(
        ["./run.sh", "--stop_stage", "1"], cwd=recipe, env=environment, stderr=subprocess.PIPE
    ) as process:
        deadline = time.monotonic() + 60
        while not (recipe / "ids").exists() or not (recipe / "ids").read_text().strip():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        parent, script_pid = map(int, (recipe / "ids").read_text().split())
        assert parent == process.pid
        process.send_signal(number)
        process.wait()
        assert process.returncode == (130 if number == signal.SIGTERM else -number)
        while Path(f"/proc/{script_pid}").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_backend_that_is_not_there_is_said(recipe):
    (recipe / "cmd.sh").write_text("cmd_backend=jhu\n. ../../TEMPLATE/asr1/cmd.sh\n")
    done = call(cwd=recipe, program=("./run.sh",))
    assert done.returncode == 1
    assert done.stderr == (
        "error: cmd_backend=jhu is not supported: use local, slurm, sge or ssh\n"
    )


@pytest.mark.parametrize("own", [False, True])
def test_a_backend_means_its_file(recipe, own):
    (recipe / "cmd.sh").write_text("cmd_backend=slurm\n. ../../TEMPLATE/asr1/cmd.sh\n")
    if own:
        (recipe / "conf/parallel").mkdir()
        (recipe / "conf/parallel/slurm.yaml").write_text(
            "parallel: {env: slurm, n_workers: 2, options: {cores: 1, memory: 1GB}}\n"
        )
    done = call("--dry_run", "true", cwd=recipe, program=("./run.sh",))
    assert done.returncode == 0, done.stderr
    path, n = ("conf/parallel/slurm.yaml", 2) if own else ("../../../conf/parallel/slurm.yaml", 8)
    assert f"    jobs    {n} slurm jobs with {n} workers ({path})\n" in done.stdout


def test_another_python_takes_over(recipe):
    other = recipe / "other"
    other.write_text(f'#!/bin/sh\necho other\nexec {sys.executable} "$@"\n')
    other.chmod(0o755)
    for argv in (["--python", str(other)], [f"--python={other}"]):
        done = call(*argv, "--train_set", "", cwd=recipe, program=("./run.sh",))
        assert done.stdout == "other\n"
        assert done.stderr == "Error: --train_set is required\n"


def test_data_stages_run_and_are_skipped_when_run_again(recipe):
    argv = ["--stop_stage", "5", "--asr_config", "", "--inference_config", ""]
    done = call(*argv, cwd=recipe, program=("./run.sh",))
    assert done.returncode == 0, done.stderr
    assert "train: 4 utterances kept" in done.stdout
    assert (
        done.stdout.splitlines()[-1].split(") ")[1].startswith("Successfully finished. [elapsed=")
    )
    tokens = (recipe / "data/en_token_list/char/tokens.txt").read_text().split("\n")
    assert (tokens[0], tokens[1], tokens[-2]) == ("<blank>", "<unk>", "<sos/eos>")

    again = call(*argv, cwd=recipe, program=("./run.sh",))
    lines = [line.split(":main) ")[1] for line in again.stdout.splitlines()]
    assert [line for line in lines if "skipped" in line] == lines[:-1]
    assert len(lines) == 6

    other = call(*argv, "--max_wav_duration", "2.5", cwd=recipe, program=("./run.sh",))
    assert (
        "Stage 4: Remove short, long and empty utterances [train] (again: option." in other.stdout
    )
    assert "too long" in other.stdout
    assert "Stage 3: Format audio: done already" in other.stdout

    text = recipe / "data/train/text"
    text.write_text("".join(reversed(text.read_text().splitlines(True))))
    bad = call(*argv, "--stage", "3", cwd=recipe, program=("./run.sh",))
    assert bad.returncode == 1
    assert bad.stderr.startswith("Error: data/train/text:2: ")


def test_force_redoes_a_stage(recipe):
    argv = ["--stop_stage", "1", "--asr_config", "", "--inference_config", ""]
    for extra, ran in (([], True), ([], False), (["--force", "true"], True)):
        done = call(*argv, *extra, cwd=recipe, program=("./run.sh",))
        assert done.returncode == 0, done.stderr
        assert ("Stage 1: finished" in done.stdout) is ran


@pytest.mark.espnet
def test_mini_an4_runs_through_all_stages_also_when_killed_on_the_way(recipe, no_espnet):
    argv = ["--asr_config", "conf/train_asr_tiny.yaml", "--attention", "mtla"]
    argv += ["--asr_args", "--max_epoch 8", "--batch_size", "2", "--inference_nj", "2"]
    exp = recipe / "exp/asr_train_asr_tiny_raw_en_char_mtla_max_epoch8"

    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "python": sys.executable}
    killed = subprocess.Popen(
        ["./run.sh", *argv],
        cwd=recipe,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not (exp / "checkpoint.pth").exists():
        assert killed.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    early = call(*argv, "--stage", "12", cwd=recipe, program=("./run.sh",))
    assert early.returncode == 1
    assert "run stage 11 first" in early.stderr

    done = call(*argv, cwd=recipe, program=("./run.sh",))
    assert done.returncode == 0, done.stderr
    assert "Stage 11: Train (again: was interrupted)" in done.stdout
    assert "Stage 10: Collect statistics: done already" in done.stdout
    assert "epoch 8/8  train loss" in done.stderr
    assert json.loads((exp / "training.json").read_text())["epochs"] == 8
    assert yaml.safe_load((exp / "train.yaml").read_text())["decoder_conf"]["attention"] == "mtla"

    stats = recipe / "exp/asr_stats_raw_en_char"
    for mode, count in (("train", 4), ("valid", 1)):
        for name in ("speech_shape", "text_shape", "text_shape.char"):
            assert len((stats / mode / name).read_text().splitlines()) == count
        assert (stats / mode / "feats_stats.npz").is_file()
    n_tokens = len((recipe / "data/en_token_list/char/tokens.txt").read_text().splitlines())
    assert (stats / "valid/text_shape.char").read_text().endswith(f",{n_tokens}\n")

    decoded = exp / "decode_asr_asr_model_valid.acc.ave/test"
    for name in ("text", "token", "token_int", "score"):
        assert len((decoded / name).read_text().splitlines()) == 2
    assert "# Ended (code 0)" in (decoded / "logdir/asr_inference.2.log").read_text()
    assert "| Sum/Avg |" in (decoded / "score_wer/result.txt").read_text()
    assert json.loads((decoded / "efficiency.json").read_text())["attention"] == "mtla"
    assert "### CER" in (exp / "RESULTS.md").read_text()

    again = call(*argv, cwd=recipe, program=("./run.sh",), path=no_espnet)
    lines = [line.split(":main) ")[1] for line in again.stdout.splitlines()]
    assert [line for line in lines if "skipped" in line] == lines[:15]
    assert not [line for line in lines[15:] if line.startswith("Stage")]

    resumed = call(cwd=recipe, program=(exp / "run.sh",))
    assert "Stage 11: Train: done already" in resumed.stdout.splitlines()[0]

    other = call(
        *argv, "--asr_tag", exp.name.removeprefix("asr_"), "--asr_args", "--seed 5 --max_epoch 8",
        cwd=recipe, program=("./run.sh",),
    )  # fmt: skip
    assert other.returncode == 1
    assert "was made with other settings (option.config.seed: unset -> 5)" in other.stderr


@pytest.mark.espnet
def test_a_training_that_fails_shows_its_log(recipe):
    argv = ["--asr_config", "conf/train_asr_tiny.yaml", "--nj", "1"]
    argv += ["--asr_args", "--encoder_conf cnn_module_kernel=4"]
    done = call(*argv, cwd=recipe, program=("./run.sh",))
    assert done.returncode == 1
    log = "exp/asr_stats_raw_en_char/logdir/stats.1.log"
    assert f"run.pl: job failed, log is in {log}\n" in done.stderr
    assert "AssertionError" in done.stderr
    assert not (recipe / "exp/asr_stats_raw_en_char/.done.10").exists()


def test_an_interruption_in_a_finaliser_is_not_lost():
    program = (
        "import os, signal, time, weakref\n"
        "from mtla_espnet import cli\n"
        "class Thing: pass\n"
        "def run(arguments):\n"
        "    thing = Thing()\n"
        "    lost = weakref.ref(thing, lambda _: os.kill(os.getpid(), signal.SIGTERM))\n"
        "    del thing\n"
        "    time.sleep(60)\n"
        "cli._report = run\n"
        "raise SystemExit(cli.main(['report', '.']))\n"
    )
    done = call(program=(sys.executable, "-c", program))
    assert done.returncode == 130
    assert "interrupted" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("name", [b"\xff\xfe", b"two\nlines", "é".encode() * 127])
def test_a_directory_of_any_name_is_printed(tmp_path, name):
    data = tmp_path / os.fsdecode(name)
    data.mkdir()
    (data / "text").write_text("u-1 A\n")
    done = call("data", "check", str(data))
    assert done.returncode == 0 and "Successfully validated" in done.stdout, done.stderr
    (data / "text").write_text("u-1 A\x01\n")
    done = call("data", "check", str(data))
    error = done.stderr.splitlines()[-1]
    assert done.returncode == 1 and error.startswith("error: ") and "U+0001" in error
