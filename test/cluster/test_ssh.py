"""Jobs by ssh, on an sshd of this test alone."""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from mtla_espnet.files import UserError
from mtla_espnet.jobs.cluster_config import jobs_run_by_file
from mtla_espnet.jobs.fan_out import fan_out
from mtla_espnet.jobs.parallel import run_jobs

pytestmark = pytest.mark.cluster
PATIENCE_S = 120


@pytest.fixture
def sshd(tmp_path):
    """Start a server at a free port of the loopback; return options that reach it."""
    program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("needs Debian's package openssh-server")
        pytest.skip("needs Debian's package openssh-server")
    keys = tmp_path / "keys"
    keys.mkdir(mode=0o700)
    for name in ("host", "client"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", keys / name]
        subprocess.run(command, check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (keys / "config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {keys}/host\nPidFile none\n"
        f"AuthorizedKeysFile {keys}/client.pub\nPubkeyAuthentication yes\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nStrictModes no\n"
        "PermitRootLogin prohibit-password\nMaxStartups 20\n"
    )
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # which a server of root asks for
    with open(keys / "log", "w") as log:
        server = subprocess.Popen([program, "-D", "-e", "-f", keys / "config"], stderr=log)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        assert server.poll() is None and time.monotonic() < deadline, (keys / "log").read_text()
        with socket.socket() as trial:
            if trial.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    host_key = (keys / "host.pub").read_text()
    (keys / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}")
    yield {
        "port": port,
        "username": getpass.getuser(),
        "client_keys": [str(keys / "client")],
        "known_hosts": str(keys / "known_hosts"),
    }
    server.terminate()
    server.wait()


@pytest.fixture
def config(sshd, tmp_path):
    path = tmp_path / "ssh.yaml"
    options = {"hosts": ["127.0.0.1"] * 3, "connect_options": sshd}
    section = {"env": "ssh", "n_workers": 2, "start_timeout": PATIENCE_S, "options": options}
    path.write_text(yaml.safe_dump({"parallel": section}))
    return path


def test_jobs_by_ssh_give_what_forks_do_and_nobody_else_reaches_them(config, tmp_path):
    from dask.distributed import Client, get_worker

    def job(number):
        return number * number, get_worker().scheduler.address

    with jobs_run_by_file(config, tmp_path / "exp"):
        found = fan_out(job, range(20), 2)
        assert [square for square, _ in found] == run_jobs(lambda n: n * n, range(20), 2)
        (address,) = {address for _, address in found}
        assert address.startswith("tls://")
        with pytest.raises((OSError, TypeError, RuntimeError)):
            Client(address.replace("tls://", "tcp://"), timeout="5s")
    assert [path.name for path in (tmp_path / "exp").iterdir()] == ["cluster_logs"]


def test_a_key_that_the_server_does_not_know_is_one_line(config, sshd, tmp_path):
    section = yaml.safe_load(config.read_text())
    other = sshd["client_keys"][0].replace("client", "host")
    section["parallel"]["options"]["connect_options"]["client_keys"] = [other]
    config.write_text(yaml.safe_dump(section))
    with jobs_run_by_file(config, tmp_path / "exp"), pytest.raises(UserError) as error:
        fan_out(abs, [1], 1)
    assert str(error.value).startswith(f"{config}: parallel.options: ")
    assert "Permission denied" in str(error.value)


def test_a_worker_that_is_lost_costs_its_shard(config, tmp_path, capsys):
    begun = str(tmp_path / "begun")

    def job(number):
        if number == 3:
            try:
                os.close(os.open(begun, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return number * number
            os.kill(os.getpid(), signal.SIGKILL)
        return number * number

    with jobs_run_by_file(config, tmp_path / "exp"):
        assert fan_out(job, range(8), 2) == [number * number for number in range(8)]
    assert "shard 4 of 8 was lost with its worker" in capsys.readouterr().out
