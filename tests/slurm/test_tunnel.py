"""What is behind a connection file on the login node, reached from a laptop over ssh."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from .lab.host import Host, wait_until
from .lab.laboratory import Lab
from .page import block

SERVER = """
import json, os, subprocess, sys, time
from seamless_dask import connection
from seamless_dask.services.daskserver import credentials
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
facts = connection.ConnectionFile(
    "default", os.uname().nodename, os.getpid(), time.time(), url, url.replace("https", "tls"), url,
    "/root/buffers", made.token_file, made.token_file, made.ca_file, *made[1:],
)
connection.write("connection.json", facts)
print("ready", flush=True)
time.sleep(10000)
"""
PLACE = "/root/.cache/seamless/daskserver/default"
CONNECT = ("seamless-daskserver", "connect", "root@login")
TUNNEL = "seamless_dask.services.tunnel.tunnel"

NOISE = """
printf 'Welcome, it is %s' "$(date +%N)"
echo and something else >&2
"""
"""What a start-up file of the account says, in front of all else."""

HABITS = """
Host gate
  HostName 10.79.0.1
  IdentityFile /none
  IdentitiesOnly yes
Host login
  RemoteCommand echo no
  RequestTTY force
  LocalForward 18080 localhost:18080
  ForwardAgent yes
  ControlMaster auto
  ControlPersist yes
"""
"""What the user of the laptop is used to, at a terminal."""


class Server:
    """A hashserver that stands for all three services, and the connection file that names it."""

    def __init__(self, host: Host) -> None:
        self.host = host

    def start(self) -> None:
        self.host.file("/root/server.py").write_text(SERVER)
        words = ["bash", "-c", f"exec {self.host.lab.python} server.py 127.0.0.1 2> server.log"]
        self._process = self.host.popen(words, stdout=-1)
        assert self._process.stdout
        assert self._process.stdout.readline() == "ready\n", self.host.file("/root/server.log").read_text()

    def kill(self) -> None:
        """End it, and leave the connection file."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()
        self.host.started.remove(self._process)
        (self.place / "ready.json").unlink()

    def stop(self) -> None:
        self.kill()
        (self.place / "connection.json").unlink()

    @property
    def place(self) -> Path:
        return self.host.file(PLACE)


@pytest.fixture(scope="module")
def server(lab: Lab) -> Iterator[Server]:
    configuration, profile = lab.laptop.file("/root/.ssh/config"), lab.login.file("/root/.bashrc")
    before = configuration.read_text()
    configuration.write_text(HABITS + before)
    profile.write_text(NOISE)
    running = Server(lab.login)
    running.start()
    yield running
    running.stop()
    configuration.write_text(before)
    profile.unlink()


@pytest.fixture
def laptop(lab: Lab) -> Iterator[Host]:
    """It is left as it was."""
    yield lab.laptop
    lab.laptop.sh("seamless-daskserver stop")
    assert lab.laptop.processes("ssh ") == []
    assert lab.laptop.processes("seamless") == []
    assert lab.laptop.sh("ss -Htln") == ""


@pytest.fixture
def connected(server: Server, laptop: Host) -> Host:
    laptop.run(CONNECT)
    return laptop


def connection(laptop: Host) -> Any:
    return json.loads(laptop.file(f"{PLACE}/connection.json").read_text())


def reach(laptop: Host, check: bool = True) -> bool:
    """Whether the services answer, with the certificate and the token of the local connection file."""
    facts = connection(laptop)
    laptop.sh(
        f"umask 077; token=$(sed -n 's/^read-write //p' {facts['token_file']});"
        f"echo Authorization: Bearer $token > header"
    )
    words = ["curl", "-sSf", "--max-time", "5", "--cacert", facts["ca_file"], "-H", "@/root/header"]
    urls = [facts[name].replace("tls", "https") for name in ("jobserver", "hashserver", "scheduler")]
    urls.append(urls[0].replace("127.0.0.1", "localhost"))
    return all(laptop.run([*words, f"{url}/counts"], check=check).returncode == 0 for url in urls)


def test_services_are_reached_by_one_connection(connected: Host) -> None:
    assert reach(connected)
    facts = connection(connected)
    ports = {facts[name].rpartition(":")[2] for name in ("scheduler", "jobserver", "hashserver")}
    listening = [line.split()[3] for line in connected.sh("ss -Htln").splitlines()]
    assert sorted(listening) == sorted(f"127.0.0.1:{port}" for port in ports)
    assert len(listening) == 3
    assert len(connected.sh("ss -Htn state established dst 10.79.0.1").splitlines()) == 1
    for path in (facts["token_file"], facts["key_file"], f"{PLACE}/connection.json"):
        assert connected.file(path).stat().st_mode & 0o777 == 0o600


def test_of_two_connects_at_once_one_connects(server: Server, laptop: Host) -> None:
    both = [laptop.popen(CONNECT, stdout=-1, stderr=-1) for _ in range(2)]
    said = [process.communicate(timeout=60)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sorted("connected already" in text for text in said) == [False, True]
    assert len(laptop.processes(TUNNEL)) == 1
    other = laptop.run([*CONNECT[:2], "root@elsewhere"], check=False)
    assert other.returncode == 2
    assert "is here already" in other.stderr


def test_stop_leaves_nothing(connected: Host) -> None:
    connected.sh("seamless-daskserver stop")
    assert not {"remote", "connection.json"} & {path.name for path in connected.file(PLACE).iterdir()}
    assert list(connected.file("/tmp/seamless-ssh-0").iterdir()) == []


def test_killed_tunnel_leaves_no_ssh_and_stop_no_secret(connected: Host) -> None:
    before = connection(connected)
    for _ in range(2):
        (tunnel,) = connected.processes(TUNNEL)
        os.kill(tunnel, signal.SIGKILL)
        wait_until(lambda: not connected.processes("ssh "))
        connected.run(CONNECT)
        assert reach(connected)
        assert connection(connected)["jobserver"] == before["jobserver"]
    os.kill(connected.processes(TUNNEL)[0], signal.SIGKILL)
    assert connected.file(f"{PLACE}/remote").exists()
    connected.sh("seamless-daskserver stop")
    assert not connected.file(f"{PLACE}/remote").exists()


@contextmanager
def speechless(login: Host) -> Iterator[None]:
    """Have sshd answer nothing."""
    listening = login.processes("/usr/sbin/sshd")
    for pid in listening:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in listening:
            os.kill(pid, signal.SIGCONT)


def test_killed_connect_leaves_no_ssh(server: Server, laptop: Host) -> None:
    with speechless(server.host):
        process = laptop.popen(CONNECT, stdout=-1, stderr=-1)
        wait_until(lambda: laptop.processes("ssh "))
        (command,) = laptop.processes("bin/seamless-daskserver connect")
        os.kill(command, signal.SIGKILL)
        process.communicate()
        wait_until(lambda: not laptop.processes("ssh ") and not laptop.processes(TUNNEL))


def test_port_that_somebody_has_taken_is_replaced(connected: Host) -> None:
    before = connection(connected)
    connected.sh("seamless-daskserver stop")
    port = before["jobserver"].rpartition(":")[2]
    code = f"import socket, sys; s = socket.create_server(('127.0.0.1', {port})); print(); sys.stdin.read()"
    taken = connected.popen([connected.lab.python, "-uc", code], stdin=-1, stdout=-1)
    assert taken.stdout
    taken.stdout.readline()
    connected.run(CONNECT)
    os.killpg(taken.pid, signal.SIGKILL)
    assert reach(connected)
    after = connection(connected)
    assert after["jobserver"] != before["jobserver"]
    assert after["hashserver"] == before["hashserver"]


def test_daskserver_that_comes_back_elsewhere_is_found(connected: Host, server: Server) -> None:
    before = connection(connected)
    server.stop()
    for path in (server.place / "token", server.place / "tls" / "cert.pem"):
        path.unlink()
    server.start()
    wait_until(lambda: connection(connected) != before)
    assert reach(connected)
    assert connection(connected) == before | {"started": connection(connected)["started"]}


def test_daskserver_that_has_died_is_told(server: Server, laptop: Host) -> None:
    server.kill()
    done = laptop.run(CONNECT, check=False)
    server.start()
    assert done.returncode == 1
    assert "does not answer" in done.stderr
    assert "seamless-daskserver status, there" in done.stderr
    assert done.stderr.count("\n") == 1


def test_host_that_forwards_nothing_is_told(server: Server, laptop: Host) -> None:
    settings = ["-o", "Port=2222", "-o", "AllowTcpForwarding=no", "-o", "LogLevel=QUIET"]
    strict = server.host.popen(
        ["/usr/sbin/sshd", "-D", *settings, "-f", server.host.lab.shared / "sshd_config"]
    )
    wait_until(lambda: ":2222 " in server.host.sh("ss -Htln"))
    done = laptop.run([*CONNECT, "--ssh-option", "Port=2222"], check=False)
    os.killpg(strict.pid, signal.SIGKILL)
    assert done.returncode == 1
    assert "AllowTcpForwarding" in done.stderr


def test_by_way_of_another_host(lab: Lab, laptop: Host) -> None:
    node = Server(lab.nodes[0])
    node.start()
    connect, stop = block("By way of another host", "laptop").splitlines()
    laptop.sh(connect)
    laptop.sh(f"rm -rf {PLACE}; ln -s away {PLACE}")
    assert reach(laptop)
    laptop.sh(stop)
    node.stop()
    laptop.sh(f"rm {PLACE}")


def test_login_that_asks_for_something(server: Server, laptop: Host) -> None:
    laptop.sh("cp .ssh/id_ed25519 locked; ssh-keygen -qp -N phrase -f locked")
    words = "root@login --ssh-option IdentityFile=/root/locked --ssh-option IdentitiesOnly=yes"
    terminal = ["script", "-qec", f"seamless-daskserver connect {words}", "/dev/null"]
    process = laptop.popen(terminal, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout
    seen = ""
    while "passphrase" not in seen:
        seen += process.stdout.read(1)
    out, _ = process.communicate("phrase\n")
    assert process.returncode == 0, seen + out
    assert reach(laptop)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere"], "ssh nowhere: "),
        (["login", "--remote-name", "other"], "no daskserver called other is running on login: seamless-"),
        (["gate"], "ssh gate: root@10.79.0.1: Permission denied (publickey"),
        (["n1", "--jump", "gate"], "ssh n1: root@10.79.0.1: Permission denied (publickey"),
        (
            ["login", "--ssh-option", "HostKeyAlias=new"],
            "Host key verification failed. Log in: seamless-daskserver connect",
        ),
    ],
)
def test_failure_is_told(words: list[str], told: str, server: Server, laptop: Host) -> None:
    done = laptop.run(["seamless-daskserver", "connect", *words], check=False)
    assert done.returncode in (1, 2)
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert laptop.processes("ssh ") == []
