"""Fixtures for all tests: every test has a home and a cache of its own."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest

TESTS = Path(__file__).parent
LONGEST_FIRST = (
    "interop",
    "slurm",
    "project",
    "workflow",
    "soak",
    "hashserver/storage/test_silence.py",
    "seamless_dask/scheduler/test_unfit_workers.py",
    "seamless_dask/worker/test_deaths.py",
    "seamless_dask/test_function_extremes.py",
    "reports",
    "hazards",
    "seamless_dask/code/test_mutation.py",
    "hashserver/client/test_silence.py",
    "hashserver/storage",
    "cli/commands/test_daskserver.py",
    "seamless_dask",
)
"""Files and directories: one that takes minutes and is begun last has the other processors wait."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that nobody waits for the last of them."""

    def turn(item: pytest.Item) -> int:
        path = item.path.relative_to(TESTS)
        listed = [str(each) for each in (path, *path.parents) if str(each) in LONGEST_FIRST]
        return LONGEST_FIRST.index(listed[0]) if listed else len(LONGEST_FIRST)

    items.sort(key=turn)


@pytest.fixture(scope="session", autouse=True)
def swept() -> Iterator[None]:
    """In the end, do what the next worker on this host would do for those that tests have killed."""
    yield
    from seamless_dask.execution.workdir import sweep, temporary_directory

    sweep(temporary_directory())


@pytest.fixture(autouse=True)
def no_process_is_kept() -> Iterator[None]:
    """End the processes that are kept for further computations: the next test has other surroundings."""
    yield
    if (processes := sys.modules.get("seamless_dask.jobs.processes")) is not None:
        processes.dismiss(60)


@pytest.fixture(scope="module", autouse=True)
def places_are_forgotten() -> Iterator[None]:
    """Forget where handles were looked for: the servers of one file's tests are gone in the next."""
    yield
    if (handles := sys.modules.get("seamless_dask.graph.handles")) is not None:
        handles._contexts.clear()
        handles._defaults.clear()
        handles.forget_default()


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home directory; nothing of the real one is seen."""
    directory = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(directory))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(directory / ".config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(directory / ".cache"))
    monkeypatch.setenv("SEAMLESS_CACHE", str(directory / "cache"))
    for name in (
        "SEAMLESS_STORE",
        "SEAMLESS_HASHSERVER",
        "SEAMLESS_DATABASE",
        "SEAMLESS_TOKEN_FILE",
        "SEAMLESS_PROFILE",
        "SEAMLESS_DASKSERVER",
        "SEAMLESS_STORAGE_OPTIONS",
    ):
        monkeypatch.delenv(name, raising=False)
    return directory


@contextmanager
def http_server(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Have a server of this host answer by a handler; its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class StartedHashserver(NamedTuple):
    """A running hashserver: where it is, and what opens it."""

    url: str
    token_file: str


@contextmanager
def started_hashserver(directory: Path) -> Iterator[StartedHashserver]:
    """Have a hashserver over ``store`` in a directory."""
    token, ready = directory / "token", directory / "ready"
    token.touch(mode=0o600)
    token.write_text("read-write secret-of-this-test-0123456789\n")
    words = [sys.executable, "-m", "hashserver", "--store", str(directory / "store")]
    words += ["--database", str(directory / "server.db"), "--port", "0", "--token-file", str(token)]
    server = subprocess.Popen([*words, "--ready-file", str(ready)], stderr=subprocess.DEVNULL)
    try:
        while not ready.exists():
            assert server.poll() is None
            with pytest.raises(subprocess.TimeoutExpired):
                server.wait(0.05)
        yield StartedHashserver(json.loads(ready.read_text())["url"], str(token))
    finally:
        server.terminate()
        server.wait()


class Bomb:
    """Makes a directory where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return (os.makedirs, (str(self.mark), 0o777, True))


class HostileScheduler:
    """Answers every message of Dask's protocol with pickles that make a directory where they are opened.

    Parameters
    ----------
    mark
        The directory.
    polite
        The handshake is a good one, and only what follows it is not.
    """

    def __init__(self, mark: Path, polite: bool) -> None:
        self.mark, self._polite = mark, polite
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listening.getsockname()[1]}"
        self.asked = 0
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(30)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                with connection, suppress(OSError):
                    connection.settimeout(30)
                    self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        from distributed.protocol import ToPickle, dumps, to_serialize

        bomb = Bomb(self.mark)
        handshake = {"compression": None, "python": (3, 11, 0), "pickle-protocol": 5}
        evil = {} if self._polite else {"evil": ToPickle(bomb)}
        self._send(connection, dumps(handshake | evil))
        for message in (
            {"status": ToPickle(bomb), "stores": [to_serialize(bomb)], "database": ToPickle(bomb)},
            {"status": "uncaught-error", "exception": ToPickle(bomb), "exception_text": "\x1b[2Jboo"},
        ):
            connection.recv(1 << 16)
            self.asked += 1
            self._send(connection, dumps(message))
        while connection.recv(1 << 16):
            self._send(connection, dumps({"status": ToPickle(bomb)}))

    @staticmethod
    def _send(connection: socket.socket, frames: list[bytes]) -> None:
        head = struct.pack(f"<{len(frames) + 1}Q", len(frames), *map(len, frames))
        body = b"".join(map(bytes, frames))
        connection.sendall(struct.pack("<Q", len(head) + len(body)) + head + body)


@pytest.fixture(params=[True, False], ids=["polite", "at once"])
def hostile(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[HostileScheduler]:
    """What listens where a scheduler is said to be."""
    made = HostileScheduler(tmp_path / "exploded", request.param)
    yield made
    made.close()
    assert not made.mark.exists()
