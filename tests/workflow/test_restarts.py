"""What people type while a daskserver's parts die and come back: it waits, and nothing fails."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, Security

from seamless_dask.connection import STARTING
from seamless_dask.locks import is_locked

BIN = Path(sys.executable).parent
KILLS = 2


def until(happened: Callable[[], Any]) -> Any:
    pause = threading.Event()
    for _ in range(3000):
        if found := happened():
            return found
        pause.wait(0.02)
    raise AssertionError("it did not happen")


class Place:
    """A home, a cache, and a directory to work in."""

    def __init__(self, directory: Path) -> None:
        self.work, self.cache = directory / "work", directory / "cache"
        self.work.mkdir()
        self.daskserver = self.cache / "daskserver" / "default"
        own = {name: value for name, value in os.environ.items() if not name.startswith("SEAMLESS_")}
        self.environment = own | {"SEAMLESS_CACHE": str(self.cache), "HOME": str(directory)}
        self.user = self.environment | {"SEAMLESS_DASKSERVER": str(self.daskserver / "connection.json")}

    def start(self) -> subprocess.CompletedProcess[str]:
        return self._type(self.environment, "seamless-daskserver", "start", "--workers", "1")

    def stop(self) -> None:
        self._type(self.environment, "seamless-daskserver", "stop")

    def __call__(self, command: str, *words: str) -> subprocess.CompletedProcess[str]:
        return self._type(self.user, command, *words)

    def _type(self, environment: dict[str, str], command: str, *words: str) -> Any:
        return subprocess.run(
            [BIN / command, *words],
            cwd=self.work,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=110,
        )

    def pid(self, name: str) -> int | None:
        try:
            return int(json.loads((self.daskserver / name).read_text())["pid"])
        except (OSError, ValueError, KeyError):
            return None


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.stop()


def test_commands_wait_for_a_hashserver_that_is_killed(place: Place) -> None:
    assert place.start().returncode == 0
    over, failed, done = threading.Event(), [], []

    def shell(number: int) -> None:
        count = 0
        while not over.is_set():
            count += 1
            ran = place("seamless-run", f"echo {number} {count % 3}")
            done.append(ran)
            if ran.returncode or ran.stdout != f"{number} {count % 3}\n":
                failed.append(ran)

    shells = [threading.Thread(target=shell, args=(number,)) for number in range(2)]
    for thread in shells:
        thread.start()
    until(lambda: len(done) > 2)
    for _ in range(KILLS):
        before = until(lambda: place.pid("hashserver.json"))
        os.kill(before, signal.SIGKILL)
        until(lambda before=before: place.pid("hashserver.json") not in (None, before))
        known = len(done)
        until(lambda known=known: len(done) > known + 2)
    over.set()
    for thread in shells:
        thread.join()
    assert not failed


def test_commands_wait_for_a_daskserver_that_is_being_started_again(place: Place) -> None:
    assert place.start().returncode == 0
    assert place("seamless-run", "echo known").stdout == "known\n"
    facts = json.loads((place.daskserver / "connection.json").read_text())
    os.kill(facts["pid"], signal.SIGKILL)
    until(lambda: not is_locked(str(place.daskserver / "lock")))
    starting = threading.Thread(target=place.start)
    starting.start()
    # from here on there is no connection file until it is up
    until(
        lambda: (
            is_locked(str(place.daskserver / STARTING))
            and not (place.daskserver / "connection.json").exists()
        )
    )
    found = place("seamless-run", "echo known")
    starting.join()
    assert (found.returncode, found.stdout) == (0, "known\n"), found.stderr


def test_the_page_is_told_and_counts_what_command_lines_found_by_themselves(place: Place) -> None:
    assert place.start().returncode == 0
    for _ in range(3):
        assert place("seamless-run", "echo counted").returncode == 0
    status = json.loads(place("seamless-daskserver", "status", "--json").stdout)
    address, token_file = status["page"], Path(status["token_file"])
    assert (
        f"page        {address} (asks for the token in {token_file})"
        in place("seamless-daskserver", "status").stdout
    )
    token = token_file.read_text().split()[1]
    context = ssl.create_default_context(cafile=str(place.daskserver / "tls" / "ca.pem"))
    asked = urllib.request.Request(f"{address}/data.json", headers={"Authorization": f"Bearer {token}"})

    def found() -> bool:
        with urllib.request.urlopen(asked, context=context) as answer:
            return bool(json.load(answer)["counts"]["direct"] == 2)

    until(found)


def test_a_link_to_the_dashboard_opens_though_the_client_does_not_know_of_tls(place: Place) -> None:
    assert place.start().returncode == 0
    facts = json.loads((place.daskserver / "connection.json").read_text())
    with Client(facts["scheduler"], security=_security(facts)) as client:
        link = client.dashboard_link
    assert link.startswith("http://")
    host, path = link.removeprefix("http://").split("/", 1)
    with closing(http.client.HTTPConnection(host, timeout=60)) as connection:
        connection.request("GET", f"/{path}")
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Location"]) == (307, f"https://{host}/{path}")
    for wrong in (
        b"GET http://evil/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        b"\r\n\r\n",
    ):
        with socket.create_connection(tuple(host.split(":")), timeout=60) as plain:
            plain.sendall(wrong)
            assert plain.makefile("rb").read().startswith(b"HTTP/1.1 400 ")


def test_a_plain_function_that_has_a_transformation_made_leaves_no_directory(place: Place) -> None:
    temporary = place.work.parent / "temporary"
    temporary.mkdir()
    place.environment["TMPDIR"] = str(temporary)
    assert place.start().returncode == 0
    facts = json.loads((place.daskserver / "connection.json").read_text())

    def plain() -> str:
        from seamless_dask import Directory, bash, direct

        found = bash("cat one/a.txt; cp one/a.txt two", inputs={"one": Directory(folder)}, results=["two"])
        text: str = found.compute().read_text() + direct(str.upper)("called")
        return text

    folder = place.work / "one"
    folder.mkdir()
    (folder / "a.txt").write_text("inside\n")
    with Client(facts["scheduler"], security=_security(facts)) as client:
        assert client.submit(plain).result() == "inside\nCALLED"
    place.stop()
    assert list(temporary.rglob("*seamless*")) == []


def _security(facts: dict[str, Any]) -> Security:
    return Security(
        require_encryption=True,
        tls_ca_file=facts["ca_file"],
        tls_client_cert=facts["cert_file"],
        tls_client_key=facts["key_file"],
    )


def test_without_a_daskserver_nobody_waits(place: Place) -> None:
    found = place("seamless-run", "echo nobody")
    assert found.returncode == 2
    assert "is not there; seamless-daskserver start writes one" in found.stderr


def test_a_host_without_a_network_is_no_reason_for_warnings(tmp_path: Path) -> None:
    probe = ["unshare", "--map-root-user", "--net", "ip", "link", "set", "lo", "up"]
    if subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("needs a network namespace: unshare and ip")
    place = Place(tmp_path)
    script = f"""
    ip link set lo up
    PATH={BIN}:$PATH
    seamless-daskserver start --workers 1
    SEAMLESS_DASKSERVER={place.daskserver}/connection.json seamless-run 'echo ran'
    seamless-daskserver stop
    """
    done = subprocess.run(
        ["unshare", "--map-root-user", "--net", "bash", "-ec", script],
        cwd=place.work,
        env=place.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    assert "ran\n" in done.stdout
    logs = "".join(path.read_text() for path in (place.daskserver / "logs").iterdir())
    assert "Warning" not in logs + done.stderr
