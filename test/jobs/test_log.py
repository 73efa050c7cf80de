"""Log lines and job logs."""

import io
import logging
import os
import re
import sys
import time
import warnings

import pytest

from mtla_espnet.files import UserError
from mtla_espnet.jobs.log import JobFailed, job_log, say, tail
from mtla_espnet.jobs.training_progress import PROGRESS_LOGGER, TrainingProgress


def test_say_has_the_form_of_espnets_recipes(capsys):
    say("Stage 3: Format audio")
    line = capsys.readouterr().out
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d \(asr\.sh:\d+:main\) Stage 3: Format audio\n", line
    )


def test_a_job_log_holds_all_that_the_job_says(tmp_path):
    path = tmp_path / "logs/x.1.log"
    before = logging.getLogger().handlers[:]
    with job_log(path, "program --a 1"):
        print("printed")
        print("to stderr", file=sys.stderr)
        os.write(1, b"below python\n")
        logging.getLogger("x").info("logged")
        logging.basicConfig(level="ERROR", format="other")
    assert logging.getLogger().handlers == before
    lines = path.read_text().splitlines()
    assert lines[0] == "# program --a 1"
    assert re.fullmatch(r"# Started at \w{3} \w{3} .*", lines[1])
    assert lines[2] == "#"
    assert lines[3:6] == ["printed", "to stderr", "below python"]
    assert re.search(r"^\[.*\] .*\(test_log:\d+\) INFO: logged$", lines[6])
    assert re.fullmatch(r"# Accounting: time=\d+ threads=\d+", lines[7])
    assert re.fullmatch(r"# Ended \(code 0\) at .*, elapsed time \d+ seconds", lines[8])


def test_two_jobs_have_their_own_logs_and_appending_keeps_the_first(tmp_path):
    for name in ("a", "b"):
        with job_log(tmp_path / name, name):
            logging.info("in %s", name)
    assert "in a" in (tmp_path / "a").read_text()
    assert "in a" not in (tmp_path / "b").read_text()
    with job_log(tmp_path / "a", "again", append=True):
        pass
    assert (tmp_path / "a").read_text().count("# Ended (code 0)") == 2


def test_a_failed_job_tells_where_its_log_is(tmp_path):
    path = tmp_path / "x.log"
    with pytest.raises(JobFailed, match=f"^run.pl: job failed, log is in {path}$") as caught:
        with job_log(path, "x"):
            raise KeyError("lost")
    assert "KeyError: 'lost'" in path.read_text()
    assert "# Ended (code 1)" in path.read_text()
    one_of_four = caught.value.among(4, tmp_path / "*.log")
    assert str(one_of_four) == f"run.pl: 1 / 4 failed, log is in {tmp_path}/*.log"
    assert one_of_four.log == path


def test_a_users_mistake_in_a_job_passes_as_it_is(tmp_path):
    with pytest.raises(UserError, match="^bad line 3$"), job_log(tmp_path / "x", "x"):
        raise UserError("bad line 3")


def test_an_interrupted_job_has_no_end(tmp_path):
    with pytest.raises(KeyboardInterrupt), job_log(tmp_path / "x", "x"):
        raise KeyboardInterrupt
    assert "# Ended" not in (tmp_path / "x").read_text()


def test_a_job_that_is_not_silent_prints_and_logs_on_the_console_too(tmp_path, capsys, caplog):
    with job_log(tmp_path / "x", "x", silent=False):
        print("seen")
        logging.warning("logged")
    assert capsys.readouterr().out == "seen\n"
    assert "logged" in caplog.text
    assert "logged" in (tmp_path / "x").read_text()


def test_warnings_go_to_the_log(tmp_path, capsys):
    with job_log(tmp_path / "x", "x"):
        warnings.warn("loops are slow", stacklevel=1)
    assert "loops are slow" in (tmp_path / "x").read_text()
    assert "loops" not in capsys.readouterr().err


def test_tail(tmp_path):
    (tmp_path / "x").write_text("".join(f"{i}\n" for i in range(30)))
    assert tail(tmp_path / "x", 2) == "28\n29\n"
    assert tail(tmp_path / "none") == ""


def test_training_progress_prints_a_line_an_epoch():
    console = io.StringIO()
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.INFO)
    try:
        with TrainingProgress(console):
            logging.info("3/4epoch started. Estimated time to finish: 3 seconds")
            logging.info("3epoch:train:1-20batch: iter_time=0.1, loss=9")
            logging.info(
                "3epoch results: [train] iter_time=0.003, loss_ctc=80.1, loss=7.125, acc=0.250, "
                "time=10.2 seconds, total_count=9, [valid] loss=nan, acc=0.5, total_count=3, "
                "[att_plot] time=0 seconds"
            )
        logging.info("4epoch results: [train] loss=1, [valid] loss=1")
    finally:
        root.setLevel(level)
    line, memory = re.subn(r"  [\d.]+ GB", "  x GB", console.getvalue())
    assert memory == 1
    assert line == (
        "  epoch 3/4  train loss 7.125 acc 0.250  valid loss nan acc 0.5  x GB"
        "  0:00 passed, 0:00 left\n"
    )


def test_training_progress_tells_rate_throughput_and_memory_also_in_the_log(caplog):
    console = io.StringIO()
    with caplog.at_level(logging.INFO), TrainingProgress(console, "s of audio", 2 / 8000):
        logging.info("1/2epoch started")
        logging.info(
            "1epoch results: [train] loss=7, optim0_lr0=1.000e-03, inputs=40000, train_time=0.5, "
            "gpu_max_cached_mem_GB=1.5, time=10.2 seconds, [valid] loss=5"
        )
    # Two batches of 40000 samples, 8000 a second, every half a second.
    line = "epoch 1/2  train loss 7  valid loss 5  lr 1.000e-03 20 s of audio/s GPU 1.5 GB  0:00"
    assert console.getvalue().startswith(f"  {line}")
    assert any(record.getMessage().startswith(line) for record in caplog.records)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("total", [3, None])
def test_a_terminal_sees_a_bar_of_batches(total):
    progress = logging.getLogger(PROGRESS_LOGGER)
    for console in (Terminal(), io.StringIO()):
        with TrainingProgress(console) as training:
            training.read("2/9epoch started")
            for batches in (1, 2, 3):
                progress.debug("batch", extra={"batches": batches, "total": total})
                time.sleep(0.15)  # a bar is drawn ten times a second at most
        seen = console.getvalue()
        assert ("epoch 2/9" in seen) == console.isatty()
        assert ("2/3" in seen) == (console.isatty() and total == 3)
        assert not progress.handlers and progress.propagate
