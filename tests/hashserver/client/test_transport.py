"""The HTTP client against servers of a few lines, which misbehave on purpose."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hashserver.auth import READ, Token, create_token_file
from hashserver.checksum import hash_bytes
from hashserver.client.database import connect_database
from hashserver.client.store import StoreClient, connect
from hashserver.client.transport import Transport
from hashserver.errors import AuthenticationFailed, InvalidRequest, ServiceUnavailable

Script = Callable[[socket.socket, int], None]


@contextlib.contextmanager
def serving(script: Script) -> Iterator[str]:
    """A server that lets `script` handle one connection after the other (with its number)."""
    listener = socket.create_server(("127.0.0.1", 0))

    def work() -> None:
        number = 0
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            with sock, contextlib.suppress(OSError):
                script(sock, number)
            number += 1

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def request_head(sock: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        part = sock.recv(1)
        if not part:
            raise ConnectionError
        data += part
    return data


def test_chunks_are_put_together() -> None:
    def script(sock: socket.socket, _: int) -> None:
        request_head(sock)
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        for byte in head + b"3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n":
            sock.sendall(bytes([byte]))

    with serving(script) as url, contextlib.closing(Transport(url)) as transport:
        assert transport.request("GET", "/x").read() == b"abc0123456789"


def test_a_connection_that_went_stale_is_replaced() -> None:
    def script(sock: socket.socket, _: int) -> None:
        request_head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")

    with serving(script) as url, contextlib.closing(Transport(url)) as transport:
        for _ in range(3):
            assert transport.request("GET", "/x").read() == b"x"


@pytest.mark.parametrize(
    "answer", [b"", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", b"\xff" * 100_000]
)
def test_what_is_no_answer_is_unavailable(answer: bytes) -> None:
    def script(sock: socket.socket, _: int) -> None:
        request_head(sock)
        sock.sendall(answer)

    with serving(script) as url, pytest.raises(ServiceUnavailable, match=url):
        Transport(url).request("GET", "/x")


def test_a_body_that_is_cut_short_is_never_taken_for_whole() -> None:
    def script(sock: socket.socket, _: int) -> None:
        request_head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")

    with serving(script) as url:
        response = Transport(url).request("GET", "/x")
        with response, pytest.raises(ServiceUnavailable, match="closed"):
            response.read()


def test_a_download_goes_on_where_the_connection_broke(tmp_path: Path) -> None:
    data = bytes(range(256)) * 16384
    heads = []

    def script(sock: socket.socket, number: int) -> None:
        heads.append(request_head(sock))
        start = 0 if number == 0 else int(heads[-1].partition(b"bytes=")[2].partition(b"-")[0])
        status = b"200 OK" if number == 0 else b"206 Partial Content"
        sock.sendall(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n" % (status, len(data) - start))
        sock.sendall(data[start : start + (3 << 19)])

    with serving(script) as url, StoreClient(url) as client:
        client.get_file(hash_bytes(data), tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == data
    assert len(heads) == 3


def test_a_token_goes_to_another_host_only_by_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    def script(sock: socket.socket, _: int) -> None:
        request_head(sock)

    monkeypatch.setattr("hashserver.client.transport._is_loopback", lambda address: False)
    with serving(script) as url, pytest.raises(InvalidRequest, match="https"):
        StoreClient(url, Token(READ, "secret-secret-secret")).has([hash_bytes(b"")])


def test_a_token_goes_to_no_server_that_it_was_not_named_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_token_file(str(tmp_path / "tokens"))
    monkeypatch.setenv("SEAMLESS_TOKEN_FILE", str(tmp_path / "tokens"))
    heads = []

    def script(sock: socket.socket, _: int) -> None:
        heads.append(request_head(sock))
        sock.sendall(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n")

    with serving(script) as url, connect(url) as client, connect_database(url) as database:
        with pytest.raises(AuthenticationFailed):
            client.has([hash_bytes(b"")])
        with pytest.raises(AuthenticationFailed):
            database.counts()
    assert len(heads) == 2
    assert b"authorization" not in b"".join(heads).lower()


@pytest.mark.parametrize("url", ["http://", "ftp://x", "http://x:y", "http://user:pass@host:80", "x"])
def test_what_is_no_address_is_refused_and_not_quoted(url: str) -> None:
    with pytest.raises(InvalidRequest, match="HOST:PORT") as caught:
        Transport(url)
    assert "pass" not in str(caught.value)


def test_the_client_loads_nothing_that_is_slow() -> None:
    slow = (
        "dataclasses pathlib subprocess shutil tempfile random uuid asyncio ssl http urllib logging inspect"
    )
    slow += " concurrent multiprocessing fsspec aiohttp dask socket"
    code = (
        "import sys; before = set(sys.modules); import hashserver.client.store, hashserver.client.database;"
    )
    code += f"print(sorted(set({slow.split()!r}) & (set(sys.modules) - before)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff", b"[" * 3000])
def test_an_answer_that_is_no_json_is_told_in_one_line(body: bytes) -> None:
    def script(sock: socket.socket, _: int) -> None:
        request_head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    with serving(script) as url, connect(url) as client, connect_database(url) as database:
        for ask in (lambda: client.has([hash_bytes(b"")]), database.counts):
            with pytest.raises(ServiceUnavailable, match="does not answer as a hashserver does"):
                ask()
