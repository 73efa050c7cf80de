"""Jobs of a stage."""

import os
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.files import UserError
from mtla_espnet.jobs.log import JobFailed, job_log
from mtla_espnet.jobs.numbered import run_numbered_jobs, split_by_length, split_keys


@given(st.lists(st.text()), st.integers(1, 40))
def test_parts_are_all_keys_in_order_and_of_like_size(keys, n_parts):
    parts = split_keys(keys, n_parts)
    assert len(parts) == n_parts
    assert [key for part in parts for key in part] == keys
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(("n_jobs", "words"), [(1, "job failed"), (3, "1 / 3 failed")])
def test_a_failed_job_is_counted_and_its_log_named(tmp_path, n_jobs, words):
    def job(number):
        with job_log(tmp_path / f"x.{number}.log", "x"):
            if number == n_jobs:
                raise KeyError("lost")
        return number

    name = "x.1.log" if n_jobs == 1 else "x.*.log"
    with pytest.raises(JobFailed) as caught:
        run_numbered_jobs(job, n_jobs, tmp_path / "x.*.log", None)
    assert str(caught.value) == f"run.pl: {words}, log is in {tmp_path / name}"
    assert "KeyError: 'lost'" in caught.value.log.read_text()


def test_a_job_that_the_system_kills_is_one_line(tmp_path):
    def job(number):
        if number == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(JobFailed) as caught:
        run_numbered_jobs(job, 3, tmp_path / "x.*.log", None)
    assert str(caught.value).startswith(
        f"run.pl: 1 / 3 failed, log is in {tmp_path}/x.*.log: job 2 of 3 was killed by SIGKILL "
        "(out of memory?): the same command goes on"
    )


def test_a_users_mistake_passes(tmp_path):
    def job(number):
        with job_log(tmp_path / f"x.{number}.log", "x"):
            raise UserError("bad")

    with pytest.raises(UserError, match="^bad$"):
        run_numbered_jobs(job, 2, tmp_path / "x.*.log", None)


def test_each_job_has_its_log(tmp_path):
    def job(number):
        with job_log(tmp_path / f"x.{number}.log", "x"):
            print("number", number)
        return number

    assert run_numbered_jobs(job, 3, tmp_path / "x.*.log", None) == [1, 2, 3]
    for number in (1, 2, 3):
        assert f"\nnumber {number}\n" in (tmp_path / f"x.{number}.log").read_text()


@given(st.dictionaries(st.text(min_size=1), st.integers(0, 1000), min_size=1), st.data())
def test_parts_are_balanced_by_length(lengths, data):
    n_parts = data.draw(st.integers(1, len(lengths)))
    parts = split_by_length(lengths, n_parts)
    assert len(parts) == n_parts
    assert sorted(key for part in parts for key in part) == sorted(lengths)
    order = list(lengths)
    assert all(part == sorted(part, key=order.index) for part in parts)
    totals = [sum(lengths[key] for key in part) for part in parts]
    # Graham's bound: what a part has more than the mean is less than its shortest utterance.
    mean = sum(totals) / n_parts
    for part, total in zip(parts, totals, strict=True):
        assert not part or total - min(lengths[key] for key in part) <= mean
