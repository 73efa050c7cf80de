"""Training as a job: what is submitted, waited for and told, with a queue of small scripts."""

import os
import subprocess
from pathlib import Path

import pytest

from mtla_espnet.files import UserError
from mtla_espnet.jobs import slurm
from mtla_espnet.jobs.log import JobFailed
from mtla_espnet.jobs.marks import Mark, Part
from mtla_espnet.recipe.load import load_recipe
from mtla_espnet.recipe.options import parse_options
from mtla_espnet.runner import training_job

ARGV = [
    *("--train_set", "train", "--valid_set", "dev", "--test_sets", "test", "--token_type", "char"),
    *("--parallel", "slurm.yaml", "--ngpu", "0"),
]
ENGINE = "parallel: {env: slurm, n_workers: 1, options: {cores: 1, memory: 1GB}}\n"
# Each call leaves a line in `calls`; a job is over when it has been asked for as often as `lives`.
SBATCH = """#!/bin/sh
echo sbatch "$@" >> calls
case " $* " in *" --test-only "*) [ ! -e busy ] && [ ! -e refusal ]; exit ;; esac
[ ! -e refusal ] || { cat refusal >&2; exit 1; }
echo 17
echo 17 RUNNING None > queue
"""
SQUEUE = """#!/bin/sh
echo squeue "$@" >> calls
[ ! -e queue ] || sed 's/None/(None)/' queue
[ -e left ] && [ -e queue ] || exit 0
echo "epoch 1/1" >> exp/lm/train.job.log
sh ./left
rm -f left queue
"""
SCANCEL = """#!/bin/sh
echo scancel "$@" >> calls
rm -f queue
"""
SINFO = """#!/bin/sh
case "$*" in *--states*) cat down; exit ;; esac
cat partitions
"""
SCONTROL = """#!/bin/sh
echo "JobId=17 JobState=FAILED Reason=NonZeroExitCode"
"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    programs = tmp_path / "bin"
    programs.mkdir()
    bodies = {"sbatch": SBATCH, "squeue": SQUEUE, "scancel": SCANCEL, "scontrol": SCONTROL}
    bodies["sinfo"] = SINFO
    for name, body in bodies.items():
        (programs / name).write_text(body)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(slurm, "_LOOK_S", 0.01)
    (tmp_path / "exp/lm").mkdir(parents=True)
    (tmp_path / "slurm.yaml").write_text(ENGINE)
    return tmp_path


def part():
    return Part(directory=Path("exp/lm"), options={}, inputs={}, outputs=[])


def train(root, *argv):
    argv = [*ARGV, *argv]
    training_job.train_as_job(load_recipe(parse_options(argv), root), 7, part(), argv)


def check(root, *argv):
    training_job.check_training_job(load_recipe(parse_options([*ARGV, *argv]), root), 7, part())


def done_by_the_job(root):
    """Let the job end, with its stage marked as done, when it is asked for."""
    marked = Part(directory=root / "marked", options={}, inputs={}, outputs=[])
    marked.directory.mkdir()
    mark = Mark(marked, 7, root)
    mark.begin()
    mark.finish()
    (root / "left").write_text("cp marked/.done.7 exp/lm\n")


def calls(root, program):
    lines = (root / "calls").read_text().splitlines()
    return [line for line in lines if line.startswith(program)]


def test_a_job_is_submitted_followed_and_waited_for(root, capsys):
    done_by_the_job(root)
    train(root, "--num_nodes", "2")
    (submitted,) = calls(root, "sbatch")
    assert submitted.startswith("sbatch --parsable --nodes 2 --job-name lm-")
    log = f"{root}/exp/lm/train.job.log"
    assert submitted.endswith(f" --output {log} {root}/exp/lm/job/train.sh")
    out = capsys.readouterr().out
    assert "Slurm job 17: RUNNING" in out
    assert "epoch 1/1\n" in out
    script = (root / "exp/lm/job/train.sh").read_text()
    assert "--num_nodes 2 --stage 7 --stop_stage 7 --parallel '' --force false --ngpu 0" in script
    assert "--requeue --open-mode=append --signal=B:USR1@120" in script
    subprocess.run(["bash", "-n", "exp/lm/job/train.sh"], check=True)


def test_a_run_that_takes_the_place_of_another_waits_for_its_job(root, capsys):
    (root / "queue").write_text("17 PENDING None\n")
    done_by_the_job(root)
    train(root)
    assert not calls(root, "sbatch")
    assert "Slurm job 17 trains in exp/lm already: waiting for it" in capsys.readouterr().out


def test_a_failed_job_is_one_line_with_its_number_log_and_reason(root):
    lines = ["# Slurm job 17, start 1", "Error: asked to end", "# Slurm job 17, start 2"]
    lines += ["Error: no such corpus", "srun: error: n1: task 0: Exited", "error: not requeued"]
    text = "".join(f"{line}\n" for line in lines)
    (root / "left").write_text(f"cat >> exp/lm/train.job.log <<'END'\n{text}END\n")
    with pytest.raises(JobFailed) as raised:
        train(root)
    assert str(raised.value) == (
        "Slurm job 17 ended (FAILED), log is in exp/lm/train.job.log: no such corpus"
    )


def test_a_job_that_wrote_nothing_may_not_see_the_directory(root):
    (root / "left").write_text(": > exp/lm/train.job.log\n")
    with pytest.raises(JobFailed, match=f"do all machines see {root}/exp/lm\\?"):
        train(root)


def test_a_queue_that_refuses_is_told_with_the_words_that_were_asked_for(root):
    (root / "refusal").write_text("sbatch: error: invalid\npartition specified: gpu\n")
    (root / "partitions").touch()
    (root / "down").write_text("1\n")
    for act in (train, check):
        with pytest.raises(UserError) as raised:
            act(root, "--ngpu", "1")
        told = str(raised.value)
        assert told.startswith("the queue refuses sbatch --nodes 1 --gres=gpu:1 --")
        assert told.endswith(": sbatch: error: invalid partition specified: gpu")


def test_a_check_submits_nothing(root):
    check(root)
    assert calls(root, "sbatch") == [
        "sbatch --nodes 1 --test-only --output /dev/null --wrap true",
    ]


def test_a_job_that_waits_for_a_node_which_is_down_is_no_mistake(root):
    (root / "busy").touch()
    with pytest.raises(UserError, match="the queue refuses sbatch --nodes 1: it ended with 1$"):
        check(root)
    (root / "down").write_text("1\n")
    (root / "calls").unlink()
    check(root)
    assert "--hold" in calls(root, "sbatch")[1]
    assert calls(root, "scancel") == ["scancel 17"]


@pytest.mark.parametrize(
    ("conf", "partition"),
    [
        ("option gpu=* --gres=gpu:$0\n", "cpu"),
        ("option gpu=* -p old --gres=gpu:$0\n", "old"),
        ("option gpu=* --partition=old,cpu --gres=gpu:$0\n", "old, cpu"),
    ],
)
def test_a_partition_without_gpus_is_told_where_others_have_some(root, conf, partition):
    (root / "partitions").write_text("cpu* (null)\nold (null)\ngpu gpu:a100:4(S:0-1)\n")
    (root / "conf").mkdir()
    (root / "conf/slurm.conf").write_text(conf)
    with pytest.raises(UserError, match=f"partition {partition} has no GPUs; these have: gpu$"):
        check(root, "--ngpu", "2")
    assert not (root / "calls").exists()
    check(root, "--ngpu", "0")
    (root / "conf/slurm.conf").write_text("option gpu=* -pgpu\n")
    check(root, "--ngpu", "2")
    (root / "partitions").write_text("cpu* (null)\n")  # a site that counts no GPUs
    (root / "conf/slurm.conf").write_text(conf)
    check(root, "--ngpu", "2")


def test_a_training_that_is_done_asks_no_queue(root):
    (root / "refusal").write_text("no\n")
    (root / "down").touch()
    (root / "exp/lm/.done.7").touch()
    check(root)
    with pytest.raises(UserError, match="the queue refuses"):
        check(root, "--force", "true")


def test_an_interruption_cancels_the_job(root, monkeypatch, capsys):
    def interrupt(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(slurm.time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(root)
    (line,) = calls(root, "scancel")
    assert line.startswith("scancel --me --name lm-")
    assert "Slurm job 17: cancelled" in capsys.readouterr().out


def test_a_queue_that_fails_for_a_while_is_asked_again(root):
    done_by_the_job(root)
    squeue = root / "bin/squeue"
    squeue.rename(root / "bin/working")
    (root / "bin/working").write_text(SQUEUE)
    squeue.write_text(
        "#!/bin/sh\n[ ! -e queue ] || [ -e failed ] || { touch failed; echo down >&2; exit 1; }\n"
        'exec working "$@"\n'
    )
    squeue.chmod(0o755)
    train(root)
    assert (root / "failed").exists()


def test_a_queue_that_is_gone_ends_the_wait(root, monkeypatch):
    monkeypatch.setattr(slurm, "_MOST_FAILURES", 2)
    (root / "bin/squeue").write_text("#!/bin/sh\n[ ! -e queue ] || { echo down >&2; exit 1; }\n")
    with pytest.raises(UserError, match="squeue: down"):
        train(root)


def test_slurm_must_be_there(root, monkeypatch):
    for path in (root / "bin").iterdir():
        path.unlink()
    monkeypatch.setenv("PATH", str(root / "bin"))
    with pytest.raises(UserError, match="squeue is not on PATH: run this where jobs are submitted"):
        train(root)


def test_a_machine_has_one_gpu_where_nothing_is_said(root):
    options = parse_options([word for word in ARGV if word not in ("--ngpu", "0")])
    recipe = load_recipe(options, root)
    assert training_job.describe_job(recipe, part()).startswith("sbatch --nodes 1 --gres=gpu:1 ")
    assert "--ngpu 1)" in training_job._script(recipe, 7, part(), [])


def test_force_removes_what_was_trained_once_and_not_at_each_life(root):
    done_by_the_job(root)
    for name in ("checkpoint.pth", "midway.pth", ".done.7"):
        (root / "exp/lm" / name).touch()
    train(root, "--force", "true")
    assert {path.name for path in (root / "exp/lm").glob("*.pth")} == set()
    script = (root / "exp/lm/job/train.sh").read_text()
    assert script.count("--force false") == 1


def test_force_refuses_while_a_job_trains(root):
    (root / "queue").write_text("17 RUNNING None\n")
    with pytest.raises(UserError, match="Slurm job 17 trains in exp/lm: scancel it"):
        train(root, "--force", "true")
