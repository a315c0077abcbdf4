"""What is behind a connection file on the login node, reached from a laptop over ssh."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SERVER = """
import json, os, subprocess, sys, time
from seamless_dask.services import connection, credentials
address = sys.argv[1]
directory = connection.directory_of(os.path.expanduser("~/.cache/seamless"), "default")
os.makedirs(directory, 0o700, exist_ok=True)
os.chdir(directory)
made = credentials.make(directory, [address])
words = ["hashserver", "--store", "file:///root/buffers", "--database", "/root/seamless.db"]
words += ["--host", address, "--port", "0", "--token-file", made.token_file]
words += ["--tls-cert", made.cert_file, "--tls-key", made.key_file]
subprocess.Popen([*words, "--ready-file", "ready.json"])
while not os.path.exists("ready.json"):
    time.sleep(0.01)
url = json.load(open("ready.json"))["url"]
facts = connection.Connection(
    "default", os.uname().nodename, os.getpid(), time.time(), url, url.replace("https", "tls"), url,
    "/root/buffers", made.token_file, made.token_file, made.ca_file, *made[1:],
)
connection.write("connection.json", facts)
print("ready", flush=True)
time.sleep(10000)
"""
PLACE = "/root/.cache/seamless/daskserver/default"


class Server:
    """A hashserver that stands for all three services, and the connection file that names it."""

    def __init__(self, host: Any, address: str) -> None:
        self.host, self.address = host, address

    def start(self) -> None:
        self.host.file("/root/server.py").write_text(SERVER)
        words = ["bash", "-c", f"exec {self.host.lab.python} server.py {self.address} 2> server.log"]
        self._process = self.host.popen(words, stdout=-1)
        assert self._process.stdout.readline() == "ready\n", self.host.file("/root/server.log").read_text()

    def stop(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()
        self.host.started.remove(self._process)
        for name in ("connection.json", "ready.json"):
            (self.place / name).unlink()

    @property
    def place(self) -> Path:
        return Path(self.host.file(PLACE))


@pytest.fixture
def server(login: Any) -> Iterator[Server]:
    running = Server(login, "127.0.0.1")
    running.start()
    yield running
    running.stop()


@pytest.fixture
def connected(server: Server, laptop: Any) -> Iterator[Any]:
    laptop.sh("seamless-daskserver connect root@login")
    yield laptop
    laptop.sh("seamless-daskserver stop")


def connection(laptop: Any) -> Any:
    return json.loads(laptop.file(f"{PLACE}/connection.json").read_text())


def reach(laptop: Any, check: bool = True) -> bool:
    """Whether the services answer, with the certificate and the token of the local connection file."""
    facts = connection(laptop)
    words = ["curl", "-sSf", "--max-time", "5", "--cacert", facts["ca_file"], "-H", f"@{PLACE}/header"]
    laptop.sh(
        f"umask 077; token=$(sed -n 's/^read-write //p' {facts['token_file']});"
        f"echo Authorization: Bearer $token > {PLACE}/header"
    )
    url = facts["scheduler"].replace("tls", "https")
    return all(
        laptop.run([*words, f"{place}/counts"], check=check).returncode == 0
        for place in (facts["jobserver"], facts["hashserver"], url)
    )


def test_services_are_reached(connected: Any) -> None:
    assert reach(connected)
    facts = connection(connected)
    ports = {facts[name].rpartition(":")[2] for name in ("scheduler", "jobserver", "hashserver")}
    assert len(ports) == 3
    for name in ("token_file", "key_file"):
        assert connected.file(facts[name]).stat().st_mode & 0o777 == 0o600
    assert connected.file(f"{PLACE}/connection.json").stat().st_mode & 0o777 == 0o600
    listening = [line.split()[3] for line in connected.sh("ss -Htln").splitlines()]
    assert len(listening) == 3
    assert all(address.startswith("127.0.0.1:") for address in listening)


def test_everything_goes_through_one_connection(connected: Any) -> None:
    reach(connected)
    assert len(connected.sh("ss -Htn state established dst 10.79.0.1").splitlines()) == 1


def test_second_connect_says_so(connected: Any) -> None:
    again = connected.run(["seamless-daskserver", "connect", "root@login"])
    assert "connected already" in again.stderr
    other = connected.run(["seamless-daskserver", "connect", "root@elsewhere"], check=False)
    assert other.returncode == 2
    assert "is here already" in other.stderr


def test_stop_leaves_nothing(server: Server, laptop: Any) -> None:
    laptop.sh("seamless-daskserver connect root@login")
    laptop.sh("seamless-daskserver stop")
    assert laptop.processes("ssh ") == []
    assert laptop.processes("seamless") == []
    left = {path.name for path in laptop.file(PLACE).iterdir()}
    assert not {"token", "key.pem", "connection.json"} & left
    assert list(laptop.file("/tmp/seamless-ssh-0").iterdir()) == []


def test_killed_tunnel_leaves_no_ssh(connected: Any, slurm: Any) -> None:
    before = connection(connected)
    (tunnel,) = connected.processes("seamless_dask.services.tunnel")
    os.kill(tunnel, signal.SIGKILL)
    slurm.wait_until(lambda: not connected.processes("ssh "))
    connected.sh("seamless-daskserver connect root@login")
    assert reach(connected)
    assert connection(connected)["jobserver"] == before["jobserver"]


def test_lost_network_and_another_address(server: Server, laptop: Any, slurm: Any) -> None:
    laptop.sh("seamless-daskserver connect root@login --ssh-option ServerAliveInterval=1")
    before = connection(laptop)
    laptop.cut()
    slurm.wait_until(
        lambda: "trying again" in laptop.run(["seamless-daskserver", "status"], check=False).stdout
    )
    assert not reach(laptop, check=False)
    laptop.join("10.79.0.77")
    slurm.wait_until(lambda: reach(laptop, check=False), "the way back")
    assert connection(laptop) == before
    laptop.sh("seamless-daskserver stop")


def test_daskserver_that_comes_back_elsewhere_is_found(connected: Any, server: Server, slurm: Any) -> None:
    before = connection(connected)
    server.stop()
    for path in (server.place / "token", server.place / "tls" / "cert.pem"):
        path.unlink()
    server.start()
    slurm.wait_until(lambda: connection(connected) != before)
    assert reach(connected)
    assert connection(connected) == before | {"started": connection(connected)["started"]}


def test_by_way_of_another_host(slurm: Any, laptop: Any) -> None:
    node = Server(slurm.nodes[0], "127.0.0.1")
    node.start()
    laptop.sh(
        "seamless-daskserver connect n1 --jump login --name away --remote-name default"
    )  # as in the docs
    laptop.sh(f"mv {PLACE} {PLACE}.aside 2> /dev/null || true; ln -s away {PLACE}")
    assert reach(laptop)
    laptop.sh("seamless-daskserver stop --name away")
    node.stop()
    laptop.sh(f"rm {PLACE}")


def test_login_that_asks_for_something(server: Server, laptop: Any) -> None:
    laptop.sh("cp .ssh/id_ed25519 locked; ssh-keygen -qp -N phrase -f locked")
    words = "root@login --ssh-option IdentityFile=/root/locked --ssh-option IdentitiesOnly=yes"
    terminal = ["script", "-qec", f"seamless-daskserver connect {words}", "/dev/null"]
    process = laptop.popen(terminal, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    seen = ""
    while "passphrase" not in seen:
        seen += process.stdout.read(1)
    out, _ = process.communicate("phrase\n")
    assert process.returncode == 0, seen + out
    assert reach(laptop)
    laptop.sh("seamless-daskserver stop")
    assert laptop.processes("ssh") == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere"], "ssh nowhere: "),
        (["login"], "no daskserver called default is running on login: seamless-daskserver start, there"),
        (
            ["login", "--ssh-option", "IdentityFile=/none", "--ssh-option", "IdentitiesOnly=yes"],
            "Log in: seamless-daskserver connect, on a terminal",
        ),
    ],
)
def test_failure_is_told(words: list[str], told: str, laptop: Any) -> None:
    done = laptop.run(["seamless-daskserver", "connect", *words], check=False)
    assert done.returncode in (1, 2)
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert laptop.processes("ssh ") == []
