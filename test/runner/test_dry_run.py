"""`--dry_run true`: says what would be done, and does nothing."""

import shutil
from pathlib import Path

import pytest

from mtla_espnet.runner.runner import run_recipe

CHECKOUT = Path(__file__).resolve().parents[2]
ARGV = [
    *("--train_set", "train", "--valid_set", "dev", "--test_sets", "test", "--use_lm", "false"),
    *("--token_type", "char", "--ngpu", "0", "--asr_config", "conf/train_asr_tiny.yaml"),
    *("--dry_run", "true"),
]


@pytest.fixture
def root(tmp_path):
    shutil.copytree(CHECKOUT / "egs2/mini_an4/asr1/conf", tmp_path / "conf")
    (tmp_path / "local").mkdir()
    (tmp_path / "local/data.sh").write_text("#!/bin/sh\nexit 1\n")
    return tmp_path


def said(root, capsys, *argv):
    before = sorted(root.rglob("*"))
    run_recipe([*ARGV, *argv], root)
    assert sorted(root.rglob("*")) == before
    return capsys.readouterr().out.replace(f"{root}/", "")


def test_each_stage_tells_what_it_reads_writes_and_runs(root, capsys):
    out = said(root, capsys, "--speed_perturb_factors", "0.9 1.0", "--skip_packing", "false")
    for line in (
        "  data: runs (not done yet)",
        "    reads   local/data.sh",
        "    writes  data/train/{wav.scp,text,utt2spk,spk2utt}",
        "    runs    ./local/data.sh",
        "  data/train_sp [train_sp]: waits for its inputs",
        "    reads   data/train_sp0.9/{wav.scp,text,utt2spk,spk2utt,utt2uniq} "
        "(missing: stage 2 makes it)",
        "    runs    mtla_espnet.stages.s03_format in this process",
        "    reads   dump/raw/lm_train.txt (missing: stage 4 makes it)",
        "    writes  exp/asr_train_asr_tiny_raw_char_sp/"
        "{config.yaml,checkpoint.pth,valid.acc.ave.pth}",
    ):
        assert f"{line}\n" in out
    for command in ("asr_train --collect_stats true", "asr_train --use_", "pack asr"):
        assert f"    runs    {command}" in out
    assert "stats.JOB" in out
    assert "Stage 6: skipped (--use_lm false)" in out
    assert out.endswith("--dry_run true: nothing was run\n")
    assert "Successfully finished" not in out


def test_local_score_is_named(root, capsys):
    (root / "local/score.sh").touch()
    out = said(root, capsys, "--stage", "13", "--local_score_opts", "--fast true")
    assert "    runs    ./local/score.sh --fast true exp/asr_train_asr_tiny_raw_char\n" in out


def test_what_is_done_is_said(root, capsys):
    script = root / "local/data.sh"
    lines = [f"mkdir -p data/{name} && cd data/{name}" for name in ("train", "dev", "test")]
    tables = "for f in wav.scp text utt2spk spk2utt; do echo 's s' >$f; done; cd ../.."
    script.write_text("#!/bin/sh\n" + "".join(f"{line}; {tables}\n" for line in lines))
    script.chmod(0o755)
    run_recipe([*ARGV, "--dry_run", "false", "--stop_stage", "1"], root)
    capsys.readouterr()
    first = ("--stop_stage", "1")
    assert "  data: done already\n" in said(root, capsys, *first)
    assert "  data: runs (--force)\n" in said(root, capsys, *first, "--force", "true")
    script.write_text(script.read_text() + "true\n")
    assert "  data: runs (input.local/data.sh changed)\n" in said(root, capsys, *first)


def test_a_mistake_is_still_found(root, capsys):
    from mtla_espnet.files import UserError

    with pytest.raises(UserError, match="unknown key 'optin'"):
        run_recipe([*ARGV, "--asr_args", "--optin adam"], root)


def test_a_training_names_the_job_that_it_would_submit(root, capsys, monkeypatch):
    monkeypatch.setenv("PATH", "")  # no Slurm is asked
    (root / "slurm.yaml").write_text("parallel: {env: slurm, options: {cores: 1, memory: 1GB}}\n")
    (root / "conf/slurm.conf").write_text("option gpu=* -p gpu --gres=gpu:$0\n")
    argv = ["--stage", "11", "--stop_stage", "11", "--ngpu", "2", "--num_nodes", "3"]
    argv += ["--parallel", f"{root}/slurm.yaml"]
    out = said(root, capsys, *argv)
    (line,) = [line for line in out.splitlines() if line.startswith("    submits ")]
    exp = "exp/asr_train_asr_tiny_raw_char"
    assert line.startswith("    submits sbatch --nodes 3 -p gpu --gres=gpu:2 --job-name asr_train_")
    assert line.endswith(f" --output {exp}/train.job.log {exp}/job/train.sh")
    assert "    runs    asr_train" not in out
    out = said(root, capsys, *argv, "--num_nodes", "1", "--submit_training", "false")
    assert "    submits" not in out
    assert "    runs    asr_train" in out
