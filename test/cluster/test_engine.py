"""Jobs on a Slurm: the results of forks, whatever is lost on the way."""

import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mtla_espnet.files import UserError
from mtla_espnet.jobs.cluster_config import ClusterConfig, read_cluster_config
from mtla_espnet.jobs.parallel import JobKilled, run_jobs

pytestmark = pytest.mark.cluster
CHECKOUT = Path(__file__).resolve().parents[2]
PATIENCE_S = 240


@pytest.fixture
def engine(slurm, tmp_path, monkeypatch, request):
    """Make an engine of some workers; its jobs are gone afterwards."""
    import cloudpickle  # here: only those who run these tests need it

    from mtla_espnet.jobs.cluster import ClusterEngine

    # Workers cannot import this file.
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    request.addfinalizer(lambda: cloudpickle.unregister_pickle_by_value(module))
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)
    made = []

    def make(n_workers, start_timeout_s=PATIENCE_S, **options):
        options = {"cores": 1, "memory": "1GB", "interface": "lo"} | options
        config = ClusterConfig(tmp_path / "c.yaml", "slurm", n_workers, options, start_timeout_s)
        made.append(ClusterEngine(config, tmp_path / "exp"))
        return made[-1]

    yield make
    for each in made:
        each.close()
    wait_until(lambda: slurm.jobs() == [])


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def square(number):
    return number * number


def lossy(begun, lose, number=5):
    """A job that, once, waits until its worker is lost."""

    def job(argument):
        if argument == number:
            try:
                os.close(os.open(begun, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return argument * argument
            lose()
            time.sleep(PATIENCE_S)
        return argument * argument

    return job


@pytest.mark.parametrize("n_workers", [1, 3])
def test_results_are_those_of_forks_in_order(engine, capsys, n_workers):
    local = run_jobs(square, range(30), 2)
    assert engine(n_workers).run_jobs(square, range(30), None) == local
    said = capsys.readouterr().out
    assert f"{n_workers} slurm job{'s' if n_workers > 1 else ''} with" in said
    assert "slurm: submitted " in said


def test_a_users_mistake_comes_back_as_it_is(engine, tmp_path):
    def job(number):
        if number == 2:
            raise UserError("a.scp:2: wrong", 2)
        return number

    made = engine(1)
    with pytest.raises(UserError, match=r"^a\.scp:2: wrong$") as error:
        made.run_jobs(job, range(4), None)
    assert error.value.exit_code == 2
    with pytest.raises(RuntimeError, match=r"(?s)^job 1 of 1 failed:.*ZeroDivisionError"):
        made.run_jobs(lambda number: 1 / number, [0], None)
    assert made.run_jobs(square, [3], None) == [9]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["kill", "scancel"])
def test_a_lost_worker_costs_nothing_but_its_shard(engine, tmp_path, how):
    def lose():
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        subprocess.run(["scancel", os.environ["SLURM_JOB_ID"]], check=True)

    job = lossy(str(tmp_path / "begun"), lose)
    assert engine(2).run_jobs(job, range(12), None) == [n * n for n in range(12)]


@pytest.mark.slow
def test_of_200_shards_none_is_lost_or_done_twice_where_each_tenth_kills_its_worker(
    engine, tmp_path, record_property
):
    def job(number, mortal):
        with open(tmp_path / f"begun.{number}", "a") as stream:
            stream.write("x")
        first = os.stat(tmp_path / f"begun.{number}").st_size == 1
        if mortal and first and number % 10 == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.05)
        with open(tmp_path / f"done.{number}", "a") as stream:
            stream.write("x")
        return number * number

    expected, seconds = [number * number for number in range(200)], []
    for mortal in (False, True):
        made = engine(3)
        assert made.run_jobs(square, [1], None) == [1]  # its workers have started
        begin = time.monotonic()
        found = made.run_jobs(functools.partial(job, mortal=mortal), range(200), None)
        seconds.append(time.monotonic() - begin)
        made.close()
        assert found == expected
        done = {number: (tmp_path / f"done.{number}").read_text() for number in range(200)}
        assert set(done.values()) == {"x"}
        begun = sum((tmp_path / f"begun.{number}").stat().st_size for number in range(200))
        assert begun == 200 + 20 * mortal
        for path in (*tmp_path.glob("done.*"), *tmp_path.glob("begun.*")):
            path.unlink()
    record_property("seconds without and with 20 deaths", seconds)
    print(f"200 shards: {seconds[0]:.1f} s; with 20 deaths of workers: {seconds[1]:.1f} s")


@pytest.mark.slow
def test_a_shard_that_kills_its_workers_is_named(engine, tmp_path, capsys):
    def job(number):
        if number == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    with pytest.raises(JobKilled) as error:
        engine(2).run_jobs(job, range(8), None)
    told = str(error.value)
    assert told.startswith("shard 4 of 8 was lost with its worker 4 times (last: job ")
    assert f"log {tmp_path}/exp/cluster_logs/dask-worker-" in told
    assert "shard 4 of 8 was lost with its worker (job " in capsys.readouterr().out


@pytest.mark.slow
def test_a_full_queue_ends_with_how_to_look(engine, slurm, tmp_path):
    slurm.call("sbatch", "--nodes=3", "--exclusive", "--output=/dev/null", "--wrap=sleep 1000")
    wait_until(lambda: "RUNNING" in slurm.call("squeue", "--noheader", "--format=%T"))
    try:
        with pytest.raises(UserError) as error:
            engine(1, start_timeout_s=5).run_jobs(square, [1], None)
    finally:
        slurm.call("scancel", "--user", str(os.getuid()))
    assert str(error.value).startswith(
        f"{tmp_path}/c.yaml: no worker has started after 5 s (parallel.start_timeout): look at "
        "the queue by `squeue --me`; submitted: "
    )


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"queue": "none"}, "Invalid partition name specified"),
        ({"job_extra_directives": ["--gres=gpu:9"]}, "Requested node configuration is not"),
    ],
)
def test_what_the_queue_refuses_is_told_before_it_is_submitted(engine, slurm, options, reason):
    with pytest.raises(UserError, match=f"c.yaml: the queue refuses the job: .*{reason}"):
        engine(1, **options).run_jobs(square, [1], None)
    assert slurm.jobs() == []


def test_an_unknown_option_is_told_by_its_nearest(engine):
    with pytest.raises(UserError, match=r"unknown key 'parallel\.options\.que' \(nearest: 'queue"):
        engine(1, que="cpu")


def test_keys_lie_in_a_directory_of_the_user_alone(engine, tmp_path):
    made = engine(1)
    place = tmp_path / "exp"

    def modes(_):
        private = [path for path in place.glob(".scratch*")]
        return [path.stat().st_mode & 0o777 for path in private]

    assert made.run_jobs(modes, [0], None) == [[0o700]]
    made.close()
    assert [path.name for path in place.iterdir()] == ["cluster_logs"]


def start_driver(slurm, tmp_path, death_timeout_s):
    """Start a process with two jobs, which wait for a file `go`; return it when both run."""
    path = tmp_path / "c.yaml"
    path.write_text(
        "parallel: {env: slurm, n_workers: 2, options: {cores: 1, memory: 1GB, interface: lo, "
        f"death_timeout: {death_timeout_s}}}}}\n"
    )
    assert read_cluster_config(path).n_workers == 2
    program = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "signal.signal(signal.SIGTERM, signal.default_int_handler)\n"  # as cli.main does
        "from pathlib import Path\n"
        "from mtla_espnet.files import write_text\n"
        "from mtla_espnet.jobs.cluster_config import jobs_run_by_file\n"
        "from mtla_espnet.jobs.fan_out import fan_out\n"
        "from mtla_espnet.jobs.lock import directory_lock\n"
        "place = Path(sys.argv[1])\n"
        "def job(number):\n"
        "    (place / f'begun.{number}').touch()\n"
        "    while not (place / 'go').exists():\n"
        "        time.sleep(0.1)\n"
        "    write_text(place / f'result.{number}', 'late')\n"
        "with directory_lock(place), jobs_run_by_file(place / 'c.yaml', place):\n"
        "    fan_out(job, range(2), 2)\n"
    )
    driver = subprocess.Popen(
        [sys.executable, "-c", program, tmp_path], env=slurm.environment, cwd=CHECKOUT
    )
    wait_until(lambda: all((tmp_path / f"begun.{n}").exists() for n in range(2)))
    return driver


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_cancels_the_jobs(slurm, tmp_path, number):
    driver = start_driver(slurm, tmp_path, 100 * PATIENCE_S)  # they do not end by themselves
    driver.send_signal(number)
    assert driver.wait(PATIENCE_S) != 0
    wait_until(lambda: slurm.jobs() == [])
    assert not list(tmp_path.glob("result.*")) and not list(tmp_path.glob(".scratch*"))


@pytest.mark.slow
def test_a_driver_that_is_killed_leaves_no_job(slurm, tmp_path):
    driver = start_driver(slurm, tmp_path, 10)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    (tmp_path / ".lock").write_text("")  # as the next run finds and leaves it
    (tmp_path / "go").touch()
    wait_until(lambda: slurm.jobs() == [])
    assert not list(tmp_path.glob("result.*"))
