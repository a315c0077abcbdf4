from __future__ import annotations

import asyncio
import os
import socket
import ssl
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from hashserver.checksum import hash_bytes
from hashserver.client.store import connect
from seamless_dask.errors import UsageError
from seamless_dask.services.daskserver import control, health

from .conftest import Daskserver, lives

STRANGER = """
import os, socket, ssl, sys
"localhost".encode("idna")  # loaded while this may still read Python's own files
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
directory, port = sys.argv[1], int(sys.argv[2])
for name in ("", "connection.json", "token", "tls/key.pem", "logs/daskserver.log", "journal.db"):
    try:
        open(os.path.join(directory, name)) if name else os.listdir(directory)
    except PermissionError:
        continue
    sys.exit(f"could read {name!r}")
context = ssl._create_unverified_context()
with context.wrap_socket(socket.create_connection(("127.0.0.1", port))) as sock:
    sock.sendall(b"GET /status HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n")
    print(sock.recv(1000).split()[1].decode())
"""


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.fixture(scope="module")
def running() -> Iterator[Daskserver]:
    """One that the tests only look at, in a directory that others may enter but for its own mode."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        server = Daskserver(Path(name) / "cache")
        server.start()
        yield server
        server.stop()


def test_workers_come_when_there_is_work(running: Daskserver) -> None:
    assert running.status()["scheduler"]["workers"] == 0
    with running.client() as client:
        assert client.submit(os.getpid, pure=False).result() in {
            process.pid for process in running.processes()
        }


def test_everything_in_its_directory_is_for_its_owner_alone(running: Daskserver) -> None:
    files = [
        path for path in running.directory.rglob("*") if path.is_file() and "dask-scratch" not in str(path)
    ]
    assert {path.name for path in files} >= {"connection.json", "token", "key.pem", "settings.json", "lock"}
    assert {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in files} == {0}
    directories = [running.cache, running.directory.parent, running.directory, running.directory / "tls"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in directories} == {0o700}


def test_no_secret_is_seen_in_arguments_environment_or_logs(running: Daskserver) -> None:
    token = (running.directory / "token").read_text().split()
    key = (running.directory / "tls" / "key.pem").read_text().splitlines()[1]
    secrets = {word for word in token if len(word) > 20} | {key}
    seen = [" ".join(process.cmdline()) + str(process.environ()) for process in running.processes()]
    seen += [path.read_text() for path in (running.directory / "logs").iterdir()]
    assert len(secrets) == 3
    assert not [secret for secret in secrets for text in seen if secret in text]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_of_this_host_gets_nowhere(running: Daskserver) -> None:
    port = running.connection.jobserver.rpartition(":")[2]
    words = [sys.executable, "-c", STRANGER, str(running.directory), port]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()[:1]) == (0, "4"), done


@pytest.mark.parametrize(
    "path", ["/status", "/info/main/workers.html", "/json/index.html", "/metrics", "/jobs"]
)
def test_without_the_token_no_page_opens(running: Daskserver, path: str) -> None:
    assert running.request(path, None)[0] in (302, 303, 401, 403)
    assert running.request(path, "0" * 64)[0] in (302, 303, 401, 403)
    assert running.request(path)[0] == 200


def ask(port: int, tls: bool, path: str = "/") -> bytes:
    """Return what a port says to a request without a token or a certificate."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as plain:
            if not tls:
                return talk(plain, path)
            with ssl._create_unverified_context().wrap_socket(plain) as sock:
                return talk(sock, path)
    except OSError:
        return b""


def talk(sock: socket.socket, path: str) -> bytes:
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    return sock.recv(1000)


@pytest.mark.parametrize("tls", [True, False])
def test_no_port_says_anything_to_a_stranger(running: Daskserver, tls: bool) -> None:
    """Neither those of the scheduler nor those of hashserver, worker and nanny."""
    with running.client() as client:
        client.submit(os.getpid, pure=False).result()
        ports = running.ports()
        assert len(ports) >= 6
        said = {port: ask(port, tls).split() for port in ports}
    answers = {port: words[1] for port, words in said.items() if words}
    assert set(answers.values()) <= {b"302", b"303", b"307", b"401", b"403", b"404"}


def test_workers_show_nothing_over_http(running: Daskserver) -> None:
    with running.client() as client:
        worker = psutil.Process(client.submit(os.getpid, pure=False).result())
        sockets = [found for found in worker.net_connections("inet") if found.status == psutil.CONN_LISTEN]
        assert sockets
        pages = (
            "/info/main/workers.html",
            "/metrics",
            "/health",
            "/status",
            "/sitemap.json",
            "/json/counts.json",
        )
        said = {page: ask(found.laddr.port, False, page).split() for page in pages for found in sockets}
    assert {words[1] for words in said.values() if words} <= {b"404"}


def test_start_again_reports_the_one_that_runs(running: Daskserver) -> None:
    pid = running.connection.pid
    assert "is running already" in running("start").stderr
    assert running.connection.pid == pid


def test_stop_leaves_no_process_no_port_and_no_file(daskserver: Daskserver) -> None:
    daskserver.start()
    with daskserver.client() as client:
        client.submit(os.getpid).result()
        ports, processes = daskserver.ports(), daskserver.processes()
        assert len(processes) >= 3
    daskserver.stop()
    assert not [process for process in processes if lives(process)]
    assert not [port for port in ports if ask(port, tls=False) != b""]
    assert not daskserver.file.exists()
    assert not list(daskserver.directory.glob("dask-scratch-space/*"))
    assert daskserver("stop").stderr.endswith("no daskserver is running\n")


def test_without_tls_it_warns(daskserver: Daskserver) -> None:
    done = daskserver("start", "--insecure", "--workers", "0:1")
    daskserver.processes()
    assert "may run code as this account" in done.stderr
    facts = daskserver.connection
    assert (facts.insecure, facts.ca_file) == (True, None)
    assert facts.scheduler.startswith("tcp://")
    with daskserver.client() as client:
        assert client.submit(os.getpid).result()
    assert daskserver.request("/status", None)[0] in (302, 303, 401, 403)


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
def test_over_ipv6(daskserver: Daskserver) -> None:
    facts = daskserver.start("--host", "::1")
    assert facts.scheduler.startswith("tls://[::1]:")
    with daskserver.client() as client:
        assert client.submit(os.getpid).result()
    assert daskserver.request("/status")[0] == 200


def test_a_hashserver_that_was_named_is_not_started(running: Daskserver, daskserver: Daskserver) -> None:
    named = running.connection
    assert named.ca_file
    words = ["--hashserver", named.hashserver, "--token-file", named.token_file, "--ca-file", named.ca_file]
    facts = daskserver.start(*words)
    assert (facts.hashserver, facts.hashserver_token_file) == (named.hashserver, named.token_file)
    assert facts.token_file != named.token_file
    assert daskserver.status()["hashserver"] == {"url": named.hashserver, "own": False}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--insecure", "--host", "{network}"], "for loopback only"),
        (["--host", "192.0.2.1"], "192.0.2.1"),
        (["--store", "/dev/null/store"], "/dev/null"),
        (["--hashserver", "https://127.0.0.1:1"], "--token-file"),
        (["--host", "no.such.host.invalid"], "cannot listen at no.such.host.invalid"),
        (["--name", "../x"], "plain word"),
    ],
)
def test_one_that_cannot_start_says_why_in_one_line(
    daskserver: Daskserver, words: list[str], said: str
) -> None:
    from distributed.utils import get_ip

    network = "0.0.0.0" if get_ip().startswith("127.") else get_ip()
    words = [word.format(network=network) for word in words]
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from seamless_cli.commands.daskserver import main; import sys; sys.exit(main())",
            "start",
            *words,
        ],
        env=daskserver.environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode in (1, 2)
    (line,) = done.stderr.splitlines()[-1:]
    assert said in line
    assert "Traceback" not in done.stderr
    assert not daskserver.file.exists()


def test_a_daskserver_of_another_host_is_told(daskserver: Daskserver) -> None:
    from seamless_dask import connection

    directory = control.private_place(str(daskserver.cache), "default")
    facts = connection.ConnectionFile(
        name="default", host="elsewhere", pid=1, started=0.0, jobserver="https://127.0.0.1:1",
        scheduler="tls://127.0.0.1:2", hashserver="https://127.0.0.1:3", store="/s", token_file="/t",
        hashserver_token_file="/t",
    )  # fmt: skip
    connection.write(str(daskserver.file), facts)
    with pytest.raises(UsageError, match="runs on elsewhere"):
        control.find(directory)
    daskserver.file.unlink()


class Clock:
    """A scheduler that has had nothing to do since the epoch."""

    idle_since = 1.0


def test_what_the_scheduler_does_not_know_of_counts_as_activity() -> None:
    answers = [True, True, False]

    def busy() -> bool:
        return answers.pop(0) if len(answers) > 1 else answers[0]

    asyncio.run(asyncio.wait_for(health.until_idle(0.05, busy, None, Clock()), 30))  # type: ignore[arg-type]
    assert answers == [False]


def test_use_of_the_hashserver_is_noticed(running: Daskserver) -> None:
    from hashserver.auth import read_token_file
    from hashserver.client.transport import Transport

    facts = running.connection
    token = read_token_file(facts.token_file)[0].secret
    with closing(Transport(facts.hashserver, token, facts.ca_file)) as transport:
        traffic = health.Traffic(transport)
        asyncio.run(traffic.changed())
        assert asyncio.run(traffic.changed()) is False
        with connect(facts.hashserver, facts.token_file, facts.ca_file) as store:
            store.has([hash_bytes(b"")])
        assert asyncio.run(traffic.changed()) is True
