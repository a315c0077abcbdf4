"""Many who ask for nothing, and one who asks for everything, keep nobody else waiting."""

from __future__ import annotations

import contextlib
import json
import resource
import select
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hashserver.checksum import hash_bytes
from hashserver.protocol import MOST_ASKED
from hashserver.server import application, connection

from .conftest import UNKNOWN, Running, receive

HALF = b"GET /healthcheck HTTP/1.1\r\nHost: x\r\n"


@contextlib.contextmanager
def less_files(
    server: contextlib.AbstractContextManager[Running], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Running]:
    real = subprocess.Popen
    limited = ["prlimit", "--nofile=200:200"]
    monkeypatch.setattr(subprocess, "Popen", lambda words, **options: real([*limited, *words], **options))
    with server as running:
        monkeypatch.setattr(subprocess, "Popen", real)
        yield running


@pytest.fixture
def poor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    with less_files(started(tmp_path), monkeypatch) as running:
        yield running


@contextlib.contextmanager
def started(directory: Path) -> Iterator[Running]:
    running = Running(directory)
    yield running
    running.clients.close()
    if running.process.poll() is None:
        running.stop()


@contextlib.contextmanager
def changed(
    monkeypatch: pytest.MonkeyPatch, directory: Path, module: str, **values: float
) -> Iterator[Running]:
    """A server that has less patience."""
    hasty = directory / "hasty"
    hasty.mkdir()
    lines = [f"module.{name} = {value}" for name, value in values.items()]
    text = "\n".join([f"import hashserver.server.{module} as module", *lines, ""])
    (hasty / "sitecustomize.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(hasty))
    running = Running(directory)
    try:
        yield running
    finally:
        running.stop()


def test_half_sent_heads_leave_room_for_whole_ones(poor: Running) -> None:
    """More connections than files: each new one takes the place of the longest silent."""
    small = poor.put(b"small")
    with contextlib.ExitStack() as stack:
        for _ in range(290):
            stack.enter_context(poor.connect()).sendall(HALF)
            if _ % 50 == 0:
                assert poor.ask("GET", "/healthcheck").status == 200
        for _ in range(20):
            assert poor.ask("GET", "/healthcheck").status == 200
            assert poor.ask("GET", f"/{small}").body == b"small"
        assert poor.client().has([small]) == [5]
        assert poor.stop() == 0
    assert "Traceback" not in poor.rest
    assert len(poor.rest) < 1000


def test_requests_under_way_are_not_ended_for_new_connections(poor: Running) -> None:
    with contextlib.ExitStack() as stack:
        uploads = []
        for number in range(40):
            sock = stack.enter_context(poor.connect())
            data = b"%d" % number
            head = poor.head("PUT", f"/{hash_bytes(data)}", Content_Length=len(data), Expect="100-continue")
            sock.sendall(head)
            assert receive(sock).status == 100
            uploads.append((sock, data))
        for _ in range(200):
            stack.enter_context(poor.connect()).sendall(HALF)
        assert poor.ask("GET", "/healthcheck").status == 200
        for sock, data in uploads:
            sock.sendall(data)
            assert receive(sock).status == 201


def test_a_server_may_open_as_many_files_as_the_system_lets_it(own: Running) -> None:
    soft, hard = resource.prlimit(own.process.pid, resource.RLIMIT_NOFILE)
    assert soft == min(hard, 65536)


def test_a_connection_that_never_asks_is_closed_soon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert connection.HEAD_SECONDS < application.KEEP_ALIVE_SECONDS
    with (
        changed(monkeypatch, tmp_path, "connection", HEAD_SECONDS=0.3) as running,
        running.connect() as silent,
        running.connect() as half,
        running.connect() as whole,
    ):
        half.sendall(HALF)
        whole.sendall(running.head("GET", "/healthcheck"))
        assert receive(whole).status == 200
        assert silent.recv(1) == b""
        assert half.recv(1) == b""
        whole.sendall(running.head("GET", "/healthcheck"))
        assert receive(whole).status == 200, "it has asked before: it may take its time"


def test_an_aiohttp_that_is_not_known_is_served_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What keeps idle connections from being in the way steps aside; the server does not."""
    assert connection.IS_KNOWN
    assert not connection.knows(type("Changed", (), {"_waiter": None}))
    with changed(monkeypatch, tmp_path, "connection", IS_KNOWN=False) as running:
        assert running.ask("GET", "/healthcheck").status == 200


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/has"), ("GET", "/has"), ("POST", "/pack"), ("POST", "/results")]
)
@pytest.mark.parametrize("count", [MOST_ASKED + 1, 900_000])
def test_a_list_that_is_too_long_is_413(server: Running, method: str, path: str, count: int) -> None:
    body = b"[" + b",".join([b'"%s"' % UNKNOWN.encode()] * count) + b"]"
    request = server.head(method, path, Content_Length=len(body)) + body
    with server.connect() as sock:
        sender = threading.Thread(target=_send, args=(sock, request))
        sender.start()
        reply = receive(sock)
        sock.shutdown(socket.SHUT_RDWR)
        sender.join()
    assert reply.status == 413
    assert reply.error == f"a request may name {MOST_ASKED} checksums at most: send several"


def _send(sock: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):
        sock.sendall(data)


def test_clients_split_what_is_longer(server: Running) -> None:
    small = server.put(b"small")
    many = [small, *(hash_bytes(b"%d" % number) for number in range(MOST_ASKED + 1)), small]
    lengths = server.client().has(many)
    assert [number for number, length in enumerate(lengths) if length >= 0] == [0, len(many) - 1]
    assert server.database().get_many(many) == {}


def test_others_are_answered_while_a_long_list_is(server: Running) -> None:
    small = server.put(b"small")
    body = json.dumps([hash_bytes(b"%d" % number) for number in range(MOST_ASKED)]).encode()
    with server.connect() as long:
        long.sendall(server.head("POST", "/has", Content_Length=len(body)) + body)
        long.setblocking(False)
        answered = 0
        while True:
            assert server.ask("GET", f"/{small}").status == 200
            try:
                assert long.recv(1, socket.MSG_PEEK)
                break
            except BlockingIOError:
                answered += 1
        long.setblocking(True)
        assert receive(long).json == [-1] * MOST_ASKED
    assert answered > 3


def test_uploads_that_stand_still_keep_nobody_waiting(server: Running) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            sock = stack.enter_context(server.connect())
            sock.sendall(server.head("PUT", f"/{UNKNOWN}", Content_Length=1000) + b"x")
        assert server.put(b"honest") == hash_bytes(b"honest")


@pytest.mark.parametrize("framing", [{"Content_Length": 1 << 40}, {"Transfer_Encoding": "chunked"}])
def test_a_body_that_drips_comes_to_an_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, framing: dict[str, str]
) -> None:
    with changed(monkeypatch, tmp_path, "uploads", IDLE_SECONDS=0.3) as running, running.connect() as sock:
        sock.sendall(running.head("PUT", f"/{UNKNOWN}", **framing))
        while not select.select([sock], [], [], 0.05)[0]:
            sock.sendall(b"1\r\nx\r\n" if "Transfer_Encoding" in framing else b"x")
        reply = receive(sock)
    assert (reply.status, reply.error) == (400, "the body came too slowly: send it again")


def test_bodies_of_refused_requests_leave_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    patient = less_files(changed(monkeypatch, tmp_path, "application", _LINGER_SECONDS=1000), monkeypatch)
    with patient as running, contextlib.ExitStack() as stack:
        for _ in range(150):
            sock = stack.enter_context(running.connect())
            sock.sendall(running.head("PUT", f"/{UNKNOWN}", token=None, Content_Length=1 << 40) + b"x")
            assert receive(sock).status == 401


def test_who_takes_nothing_of_an_answer_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hasty = less_files(changed(monkeypatch, tmp_path, "accepting", STALLED_SECONDS=1), monkeypatch)
    with hasty as running, contextlib.ExitStack() as stack:
        request = running.head("GET", f"/{running.put(bytes(16 << 20))}")
        for _ in range(100):
            stack.enter_context(running.connect()).sendall(request)
        assert running.ask("GET", "/healthcheck").status == 200


def test_a_burst_is_not_taken_all_at_once(poor: Running) -> None:
    """What waits in the queue is accepted without a pause, before any of it has been begun with."""
    request = poor.head("GET", f"/{poor.put(bytes(16 << 20))}")
    poor.process.send_signal(signal.SIGSTOP)
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(poor.connect()) for _ in range(120)]
        for sock in readers:
            sock.sendall(request)
        poor.process.send_signal(signal.SIGCONT)
        for sock in readers[:60]:
            assert sock.recv(12) == b"HTTP/1.1 200"
    assert poor.stop() == 0
    assert "Traceback" not in poor.rest
