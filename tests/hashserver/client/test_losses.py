"""Connections that a server, or something on the way to it, closes or loses: real servers behind a proxy."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hashserver.checksum import Checksum
from hashserver.client import transport
from hashserver.client.connection import Connection
from hashserver.client.database import connect_database
from hashserver.client.store import StoreClient, connect
from hashserver.client.transport import Patience
from hashserver.errors import ServiceUnavailable
from hashserver.results.database import Database

from .test_tls import Start, certificate, start

__all__ = ["start"]
MANY = [Checksum(f"{number:064x}") for number in range(3000)]
"""Too many to be sent before a closed connection says so."""


class Proxy:
    """Forwards connections, and closes those that there are when it is told to."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self._open: list[tuple[socket.socket, socket.socket]] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        self.cut_after: int | None = None
        """How many bytes of answers still arrive before their connection is closed."""

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.create_connection(("127.0.0.1", self._port))
                self._open.append((client, server))
                for pair in ((client, server), (server, client)):
                    thread = threading.Thread(target=self._forward, args=pair)
                    self._threads.append(thread)
                    thread.start()

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if self.cut_after is not None and target in (client for client, _ in self._open):
                    if len(data) > self.cut_after:
                        target.sendall(data[: self.cut_after])
                        self.cut_after = None
                        break
                    self.cut_after -= len(data)
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """Close what is open, as seen from both sides."""
        pairs, self._open = self._open, []
        for pair in pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(30)


@pytest.fixture(params=["http", "https"])
def served(
    request: pytest.FixtureRequest, start: Start, tmp_path: Path
) -> Iterator[tuple[str, str, str | None, Proxy]]:
    """Address by way of a proxy, token file, certificate, and the proxy."""
    pem = certificate(tmp_path / "server.pem") if request.param == "https" else None
    proxy = Proxy(int(start(pem).rpartition(":")[2]))
    yield (
        f"{request.param}://127.0.0.1:{proxy.port}",
        str(tmp_path / "tokens"),
        str(pem) if pem else None,
        proxy,
    )
    proxy.close()


def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the other side close a connection just when it has been looked at."""
    monkeypatch.setattr(Connection, "alive", lambda connection: True)


@pytest.mark.parametrize("seen", [True, False], ids=["closed before", "closed meanwhile"])
def test_a_large_look_up_after_idleness_is_answered(
    served: tuple[str, str, str | None, Proxy], seen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, *credentials, proxy = served
    with connect_database(url, *credentials) as database:
        assert database.get(MANY[0]) is None
        if not seen:
            blind(monkeypatch)
        proxy.cut()
        assert database.lookup_many(MANY) == {}


def test_many_stale_connections_are_not_tried_one_after_the_other(
    served: tuple[str, str, str | None, Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, *credentials, proxy = served
    with connect(url, *credentials) as client:
        together = threading.Barrier(8)

        def ask() -> None:
            connection = client.transport._connect()
            together.wait()
            client.transport.put_back(connection)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        blind(monkeypatch)
        proxy.cut()
        assert client.has(MANY) == [-1] * len(MANY)


def test_a_pack_that_is_lost_on_its_way_is_sent_again(
    served: tuple[str, str, str | None, Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, *credentials, proxy = served
    buffers = [b"%d" % number * 5000 for number in range(200)]
    with connect(url, *credentials) as client:
        real, begun = client.transport.begin, []

        def begin(method: str, path: str) -> object:
            upload = real(method, path)
            proxy.cut()
            begun.append(path)
            return upload

        monkeypatch.setattr(client.transport, "begin", begin)
        found = client.put_many(buffers)
        assert client.has(found) == list(map(len, buffers))
    assert begun


def test_a_buffer_that_breaks_off_is_asked_for_again(served: tuple[str, str, str | None, Proxy]) -> None:
    url, *credentials, proxy = served
    data = bytes(range(256)) * 2000
    with connect(url, *credentials) as client:
        checksum = client.put(data)
        client.has([checksum])
        proxy.cut_after = 1000
        assert client.get(checksum) == data
        assert proxy.cut_after is None


def test_the_rest_of_a_pack_that_breaks_off_is_asked_for_again(
    served: tuple[str, str, str | None, Proxy],
) -> None:
    url, *credentials, proxy = served
    with connect(url, *credentials) as client:
        buffers = [bytes([number]) * 20_000 for number in range(100)]
        checksums = client.put_many(buffers)
        client.has(checksums)
        proxy.cut_after = 60_000
        assert dict(client.get_many(checksums)) == dict(zip(checksums, buffers, strict=True))
        assert proxy.cut_after is None


def test_a_whole_answer_is_asked_for_again_when_it_breaks_off(
    served: tuple[str, str, str | None, Proxy],
) -> None:
    url, *credentials, proxy = served
    with connect(url, *credentials) as client:
        client.has(MANY[:1])
        proxy.cut_after = 40
        assert client.has(MANY) == [-1] * len(MANY)
        assert proxy.cut_after is None


def test_who_is_patient_waits_for_a_server_that_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "SILENT", 0.0)
    place = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{place.getsockname()[1]}"
    place.close()
    told: list[str] = []
    waits = threading.Event()

    def tell(line: str) -> None:
        told.append(line)
        waits.set()

    found: list[object] = []
    with StoreClient(url, patience=Patience(60.0, tell)) as client:
        thread = threading.Thread(target=lambda: found.append(client.has(MANY[:1])))
        thread.start()
        assert waits.wait(60)
        with answering(int(url.rpartition(":")[2]), b"[-1]"):
            thread.join(60)
    assert found == [[-1]]
    (line,) = told
    assert line == f"no connection to {url}: Connection refused; trying again (Ctrl-C gives up)"


def test_who_is_patient_does_not_wait_for_what_will_not_change(tmp_path: Path, start: Start) -> None:
    url = start(certificate(tmp_path / "server.pem"))
    patience = Patience(1e9, pytest.fail)
    with (
        StoreClient(url, patience=patience) as client,
        pytest.raises(ServiceUnavailable, match="not trusted"),
    ):
        client.has(MANY[:1])


def test_a_contest_is_not_repeated_when_its_answer_is_lost(
    served: tuple[str, str, str | None, Proxy], tmp_path: Path
) -> None:
    url, *credentials, proxy = served
    tf, first, second = MANY[1:4]
    with Database(str(tmp_path / "db")) as database:
        database.put(tf, "file", first)
        database.contest(tf)
        database.put(tf, "file", second)
        database.contest(tf)
        with connect_database(url, *credentials) as client:
            client.counts()
            proxy.cut_after = 0
            with pytest.raises(ServiceUnavailable):
                client.contest(tf, undo=True)
        # by TLS it was the handshake that was cut, before anything was asked
        assert len(database.irreproducible(tf)) == (2 if url.startswith("https") else 1)


@contextlib.contextmanager
def answering(port: int, body: bytes) -> Iterator[None]:
    """A server at `port` that answers everything with `body`."""
    listener = socket.create_server(("127.0.0.1", port))

    def work() -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                with sock:
                    head = b""
                    while b"\r\n\r\n" not in head:
                        head += sock.recv(1 << 12)
                    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def test_a_connection_that_nobody_used_for_long_is_not_used_again(
    served: tuple[str, str, str | None, Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, *credentials, _ = served
    with connect(url, *credentials) as client:
        client.has(MANY[:1])
        (kept,) = client.transport._idle
        client.has(MANY[:1])
        assert client.transport._idle == [kept]
        kept.used -= transport.KEPT_SECONDS
        client.has(MANY[:1])
        assert client.transport._idle != [kept]
        assert kept.sock.fileno() == -1
