"""Fan-out: order, failures, and nothing left running."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from mtla_espnet.files import UserError
from mtla_espnet.jobs import parallel
from mtla_espnet.jobs.parallel import JobKilled, run_jobs, run_on_devices


def _fail_at(bad, error):
    def job(number):
        if number == bad:
            raise error
        return number

    return job


@pytest.mark.parametrize("n_workers", [1, 2, 5])
def test_results_keep_the_order_of_the_arguments(n_workers):
    def job(number):
        time.sleep(0.02 * (4 - number))
        return number * number

    assert run_jobs(job, range(4), n_workers) == [0, 1, 4, 9]


def test_no_job_gives_no_result():
    assert run_jobs(len, [], 3) == []


def test_zero_workers_are_refused():
    with pytest.raises(ValueError, match="at least 1, not 0"):
        run_jobs(len, ["a"], 0)


def test_one_worker_stays_in_this_process_unless_fresh():
    assert run_jobs(lambda _: os.getpid(), [0, 1], 1) == [os.getpid()] * 2
    fresh = run_jobs(lambda _: os.getpid(), [0, 1], 1, fresh=True)
    assert len({*fresh, os.getpid()}) == 3


def test_a_child_computes_on_one_thread():
    torch = pytest.importorskip("torch")
    torch.set_num_threads(2)
    torch.randn(256, 256) @ torch.randn(256, 256)

    def job(_):
        return torch.get_num_threads(), float((torch.ones(300, 300) @ torch.ones(300, 300))[0, 0])

    assert run_jobs(job, [0, 1], 2) == [(1, 300.0)] * 2


def test_a_child_sees_no_gpu(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert run_jobs(lambda _: torch.cuda.is_available(), [0, 1], 2) == [False, False]
    assert torch.cuda.is_available()


@pytest.mark.gpu
def test_a_child_can_say_which_cudnn_there_is_after_its_parent_used_the_gpu():
    torch = pytest.importorskip("torch")
    torch.zeros(1, device="cuda")
    version = torch.backends.cudnn.version()
    assert run_jobs(lambda _: torch.backends.cudnn.version(), [0, 1], 2) == [version] * 2


@pytest.mark.parametrize("n_workers", [1, 2])
def test_a_user_error_keeps_its_message_and_exit_code(n_workers):
    job = _fail_at(1, UserError("data/text:3: duplicate id 'a'", exit_code=2))
    with pytest.raises(UserError, match="^data/text:3: duplicate id 'a'$") as caught:
        run_jobs(job, range(3), n_workers)
    assert caught.value.exit_code == 2


def test_another_failure_carries_the_jobs_own_traceback():
    with pytest.raises(RuntimeError, match=r"(?s)job 2 of 3 failed:.*KeyError: 'lost'"):
        run_jobs(_fail_at(1, KeyError("lost")), range(3), 2)


def test_the_first_failure_stops_the_rest(tmp_path):
    def job(number):
        if number == 0:
            raise UserError("no")
        (tmp_path / f"started{number}").write_text(str(os.getpid()))
        time.sleep(60)

    begin = time.monotonic()
    with pytest.raises(UserError, match="^no$"):
        run_jobs(job, range(4), 2)
    assert time.monotonic() - begin < 10
    for started in tmp_path.glob("started*"):
        with pytest.raises(ProcessLookupError):
            os.kill(int(started.read_text()), 0)


def test_a_killed_job_is_reported():
    def job(number):
        if number == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    # One line, wherever jobs are run.
    with pytest.raises(UserError, match=r"^job 2 of 2 was killed by SIGKILL \(out of memory\?\)$"):
        run_jobs(job, range(2), 2)


def test_a_result_that_cannot_be_sent_is_an_error():
    with pytest.raises(RuntimeError, match="(?s)job [12] of 2 failed:.*pickle"):
        run_jobs(lambda _: lambda: None, range(2), 2)


JOB = "open({path!r}, 'w').write(str(__import__('os').getpid())), __import__('time').sleep(300)"


@pytest.mark.parametrize("call", ["run_jobs(eval, jobs, 2)", "run_on_devices(eval, jobs, '01')"])
def test_children_end_when_their_parent_is_killed(tmp_path, call):
    jobs = [JOB.format(path=str(tmp_path / str(number))) for number in range(2)]
    script = textwrap.dedent(f"""
        from mtla_espnet.jobs.parallel import run_jobs, run_on_devices
        jobs = {jobs}
        {call}
    """)
    parent = subprocess.Popen([sys.executable, "-c", script])
    files = [tmp_path / "0", tmp_path / "1"]
    deadline = time.monotonic() + 60
    while not all(file.exists() and file.read_text() for file in files):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    for pid in [int(file.read_text()) for file in files]:
        while True:
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                break
            with open(f"/proc/{pid}/stat") as stat:
                if stat.read().rsplit(")", 1)[1].split()[0] == "Z":
                    break
            assert time.monotonic() < deadline + 20
            time.sleep(0.1)


def test_more_jobs_than_forks_share_them(monkeypatch):
    monkeypatch.setattr(parallel, "_MOST_FORKS", 4)
    found = run_jobs(lambda number: (number, os.getpid()), range(10), 2)
    assert [number for number, _ in found] == list(range(10))
    assert len({pid for _, pid in found}) == 4
    found = run_jobs(lambda number: os.getpid(), range(10), 2, fresh=True)
    assert len(set(found)) == 10


def test_without_a_terminal_progress_is_plain_lines(capfd):
    run_jobs(abs, range(20), n_workers=1, progress="work")
    lines = capfd.readouterr().err.splitlines()
    assert lines == [f"work: {done} of 20" for done in range(2, 21, 2)]


VISIBLE = "CUDA_VISIBLE_DEVICES"


def test_every_process_sees_its_device_alone(monkeypatch):
    monkeypatch.setenv(VISIBLE, "5,6")
    assert run_on_devices(os.getenv, [VISIBLE] * 3, ["5", "6", "5"]) == ["5", "6", "5"]
    assert os.environ[VISIBLE] == "5,6"


def test_another_device_takes_the_job_of_one_that_fails(caplog):
    answer = "__import__('os').environ['CUDA_VISIBLE_DEVICES']"
    die = f"{answer} == '0' and __import__('os').kill(__import__('os').getpid(), 9)"
    fail = f"({answer} == '0' and 1 / 0, {answer})[1]"
    for job in (f"({die}, {answer})[1]", fail):
        assert run_on_devices(eval, [job] * 2, ["0", "1"]) == ["1", "1"]
    assert [record.getMessage()[:27] for record in caplog.records] == [
        "GPU 0 takes no more jobs: j"
    ] * 2


def test_the_last_device_is_not_spared():
    job = "__import__('os').kill(__import__('os').getpid(), 9)"
    with pytest.raises(JobKilled, match="was killed by SIGKILL"):
        run_on_devices(eval, [job] * 2, ["0", "1"])
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        run_on_devices(eval, ["1 / 0"], ["0"])
