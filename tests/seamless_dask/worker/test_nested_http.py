"""What answers behind the socket of a command: a real hashserver, and a jobserver that is made up."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hashserver.checksum import hash_bytes
from hashserver.client.transport import Transport
from hashserver.errors import ServiceUnavailable
from seamless_dask.worker.nested.http import MOST_BYTES, CommandApplication, Hashserver

TOKEN = "of-this-run"
KEY = "0" * 64


class Jobs:
    """A jobserver that answers when it is let."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.answers = True
        self.begun, self.given_up = threading.Event(), threading.Event()

    async def ask(self, **arguments: Any) -> dict[str, Any]:
        self.asked.append(arguments)
        self.begun.set()
        try:
            while not self.answers:
                await asyncio.sleep(3600)
        except asyncio.CancelledError:
            self.given_up.set()
            raise
        return {"status": 202, "body": {"said": arguments["method"]}, "waiting": True}


class Behind:
    """The application on a socket of its own, in a thread."""

    def __init__(self, path: Path, server: Hashserver) -> None:
        self.path, self.jobs = str(path), Jobs()
        self.url = f"unix://{path}"
        self._application = CommandApplication(TOKEN, server, self.jobs.ask)
        ready: Future[None] = Future()
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(ready),))
        self._thread.start()
        ready.result(60)

    async def _serve(self, ready: Future[None]) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        protocols = self._application.protocols()

        def connection() -> Any:
            found = protocols()
            found.when_lost(lambda _: None)
            return found

        server = await self._loop.create_unix_server(connection, self.path)
        ready.set_result(None)
        await self._over.wait()
        server.close()
        for one in protocols.connections:
            one.force_close()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    def ask(self, method: str, path: str, body: bytes = b"", **how: Any) -> tuple[int, bytes]:
        with self.way() as way, way.request(method, path, body, **how) as response:
            return response.status, response.read()

    def way(self) -> Any:

        return closing(Transport(self.url, TOKEN))

    def connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(60)
        sock.connect(self.path)
        return sock


Make = Callable[[Hashserver], Behind]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Behind] = []

    def start(server: Hashserver) -> Behind:
        made.append(Behind(tmp_path / "socket", server))
        return made[-1]

    yield start
    for behind in made:
        behind.close()


@pytest.fixture
def behind(make: Make, hashserver: dict[str, Any]) -> Behind:
    secret = Path(hashserver["token_file"]).read_text().split()[1]
    return make(Hashserver(hashserver["hashserver"], secret, None))


@pytest.mark.parametrize("size", [0, 5, 3 << 20])
@pytest.mark.parametrize("asks_first", [False, True])
def test_a_buffer_goes_in_and_comes_out(behind: Behind, size: int, asks_first: bool) -> None:
    data = bytes(size)
    path = f"/{hash_bytes(data)}"
    assert behind.ask("GET", path)[0] == 404
    assert behind.ask("PUT", path, data, expect=asks_first)[0] == 201
    assert behind.ask("GET", path) == (200, data)
    with behind.way() as way, way.request("HEAD", path) as response:
        assert (response.status, response.headers["content-length"]) == (200, str(size))


def test_a_body_without_a_length_goes_in(behind: Behind) -> None:
    data = b"x" * (1 << 20)
    with behind.way() as way:
        upload = way.begin("POST", "/buffers")
        upload.write(data)
        upload.end()
        with upload.finish() as response:
            assert json.loads(response.read())["checksum"] == hash_bytes(data)


def test_a_body_that_the_server_has_is_not_asked_for(behind: Behind) -> None:
    data = b"known"
    path = f"/{hash_bytes(data)}"
    behind.ask("PUT", path, data)
    with behind.connect() as sock:
        head = f"PUT {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
        sock.sendall(f"{head}Content-Length: {len(data)}\r\nExpect: 100-continue\r\n\r\n".encode())
        assert sock.recv(1 << 16).split()[1] == b"200"


def test_what_is_cut_off_on_its_way_is_not_stored(behind: Behind) -> None:
    data = b"x" * (1 << 20)
    path = f"/{hash_bytes(data)}"
    with behind.connect() as sock:
        head = f"PUT {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
        sock.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data[:-1])
    assert behind.ask("GET", path)[0] == 404


@pytest.mark.parametrize(
    "head",
    [
        f"GET /{KEY} HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2",
        f"GET /{KEY} HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
        f"GET /{KEY}\x00 HTTP/1.1",
        f"GET /{KEY} HTTP/1.1\r\nA b: c",
        f"GET /{KEY} HTTP/1.1\r\nX: y\r\n folded",
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(behind: Behind, head: str) -> None:
    with behind.connect() as sock:
        sock.sendall(f"{head}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode())
        assert sock.makefile("rb").readline().split()[1] == b"400"


def test_one_request_for_each_connection(behind: Behind) -> None:
    with behind.connect() as sock:
        request = f"GET /counts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
        sock.sendall(request + request)
        answer = sock.makefile("rb").read()
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in answer.lower()


def test_jobs_are_posted(behind: Behind) -> None:
    assert behind.ask("POST", "/jobs", b"[1]") == (202, b'{"said": "POST"}')
    assert behind.jobs.asked == [{"method": "POST", "body": b"[1]"}]
    status, _ = behind.ask("POST", "/jobs", bytes(MOST_BYTES + 1))
    assert status == 413
    assert len(behind.jobs.asked) == 1


def test_who_hangs_up_waits_no_more(behind: Behind) -> None:
    behind.jobs.answers = False
    with behind.connect() as sock:
        head = (
            f"GET /jobs/{KEY}?asker=me&wait=20 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
        )
        sock.sendall(head.encode())
        assert behind.jobs.begun.wait(60)
        assert not behind.jobs.given_up.is_set()
    assert behind.jobs.given_up.wait(60)


def test_a_server_that_is_not_there_is_told(make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    status, said = make(Hashserver(f"http://127.0.0.1:{port}", None, None)).ask("GET", "/counts")
    assert status == 503
    assert b"the hashserver does not answer: " in said


def test_an_answer_that_breaks_off_is_not_taken_for_all(make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        behind = make(Hashserver(f"http://127.0.0.1:{server.getsockname()[1]}", None, None))
        with pytest.raises(ServiceUnavailable):
            behind.ask("GET", "/counts", replay=False)
        thread.join()
