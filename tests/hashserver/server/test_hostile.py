"""Clients that send nonsense, stall, read slowly or know older HTTP; and servers that die or meet."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import threading
from pathlib import Path

import pytest

from hashserver.checksum import Checksum, hash_bytes
from hashserver.errors import ServiceUnavailable
from hashserver.protocol import pack
from hashserver.results.database import Database

from .conftest import UNKNOWN, Reply, Running, parse, receive

DATA = b"0123456789"
TEN = hash_bytes(DATA)
CHUNKED = "Transfer-Encoding: chunked\r\n"


def heads(*lines: str) -> str:
    return "".join(f"{line}\r\n" for line in lines)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (heads("Content-Length: 10", "Transfer-Encoding: chunked"), b"a\r\n0123456789\r\n0\r\n\r\n"),
        (heads("Content-Length: 10", "Content-Length: 5"), DATA),
        (heads("Content-Length: -1"), DATA),
        (heads("Content-Length: 10, 10"), DATA),
        (heads("Content-Length: 99999999999999999999"), DATA),
        (heads("Transfer-Encoding: xchunked"), b"a\r\n0123456789\r\n0\r\n\r\n"),
        (CHUNKED, b"zz\r\n0123456789\r\n0\r\n\r\n"),
        (CHUNKED, b"-1\r\n0123456789\r\n0\r\n\r\n"),
        (CHUNKED, b"fffffffffffffffffff\r\n0123456789\r\n0\r\n\r\n"),
        (CHUNKED, b"5\r\n0123456789\r\n0\r\n\r\n"),
        (heads("X: " + "y" * 100_000), b""),
        (heads("X : y"), b""),
        (heads("X: a", " folded"), b""),
    ],
    ids=range(13),
)
def test_a_malformed_request_is_400_in_one_line_without_its_words(
    own: Running, headers: str, body: bytes
) -> None:
    head = f"PUT /{TEN} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {own.writing}\r\n{headers}\r\n"
    with own.connect() as sock:
        sock.sendall(head.encode() + body)
        with sock.makefile("rb") as file:
            reply = parse(file, "PUT")
            assert file.read() == b"", "the connection is closed"
    assert reply.status == 400
    assert reply.error
    assert own.writing not in reply.error
    assert own.ask("GET", "/healthcheck", token=None).status == 200
    assert own.ask("GET", f"/{TEN}").status == 404
    own.stop()
    assert own.rest == ""


@pytest.mark.parametrize(
    "sent", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"hello\r\n\r\n", b"\0" * 999]
)
def test_what_is_no_http_at_all_is_400(server: Running, sent: bytes) -> None:
    with server.connect() as sock:
        sock.sendall(sent)
        assert receive(sock).status == 400


def test_a_token_in_a_malformed_header_is_not_echoed(server: Running) -> None:
    with server.connect() as sock:
        sock.sendall(f"GET /has HTTP/1.1\r\nAuthorization: Bearer {server.writing}\x01\r\n\r\n".encode())
        answer = b"".join(iter(lambda: sock.recv(1 << 16), b""))
    assert b" 400 " in answer
    assert server.writing.encode() not in answer


def test_a_client_of_http_1_0_gets_a_pack_without_chunks(server: Running) -> None:
    checksum = server.put(DATA)
    body = json.dumps([checksum]).encode()
    lines = heads(f"Authorization: Bearer {server.reading}", f"Content-Length: {len(body)}")
    head = f"POST /pack HTTP/1.0\r\n{lines}\r\n"
    with server.connect() as sock:
        sock.sendall(head.encode() + body)
        answer = b"".join(iter(lambda: sock.recv(1 << 16), b""))
    assert answer.partition(b"\r\n\r\n")[2] == b"".join(pack([(checksum, DATA)]))


@pytest.mark.parametrize("asked", ["bytes=0-" + "9" * 30, "BYTES=0-9", "bytes=-" + "9" * 30])
def test_a_range_may_reach_as_far_as_it_likes(server: Running, asked: str) -> None:
    reply = server.ask("GET", f"/{server.put(DATA)}", Range=asked)
    assert (reply.status, reply.body) == (206, DATA)


@pytest.mark.parametrize("asked", ["bytes=0-", "bytes=-5", "bytes=0-0"])
def test_no_range_lies_in_an_empty_buffer(server: Running, asked: str) -> None:
    reply = server.ask("GET", f"/{server.put(b'')}", Range=asked)
    assert (reply.status, reply.headers["content-range"]) == (416, "bytes */0")


# ---------------------------------------------------------------------- damaged copies


def send(server: Running, how: str, data: bytes) -> Reply:
    """Upload in one of the ways there are."""
    path, chunks = f"/{hash_bytes(data)}", b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data)
    if how == "plain":
        return server.ask("PUT", path, data)
    method, path = ("POST", "/buffers") if how.startswith("post") else ("PUT", path)
    with server.connect() as sock, sock.makefile("rb") as file:
        if how.endswith("chunked"):
            sock.sendall(server.head(method, path, Transfer_Encoding="chunked") + chunks)
            return parse(file, method)
        sock.sendall(server.head(method, path, Content_Length=len(data), Expect="100-continue"))
        reply = parse(file, method)
        if reply.status == 100:
            sock.sendall(data)
            reply = parse(file, method)
        return reply


@pytest.mark.parametrize("how", ["plain", "chunked", "asked", "post-chunked", "post-asked"])
def test_a_copy_of_the_wrong_length_is_mended_and_a_sound_one_was_there(server: Running, how: str) -> None:
    data = os.urandom(1000)
    assert send(server, how, data).status == 201
    assert send(server, how, data).status == 200
    path = server.store / hash_bytes(data)[:2] / hash_bytes(data)
    path.chmod(0o600)
    path.write_bytes(data[:500])
    path.chmod(0o444)
    assert send(server, how, data).status == 201
    assert server.ask("GET", f"/{hash_bytes(data)}").body == data


# ---------------------------------------------------------------------- many, and slow ones


def test_stalled_uploads_keep_nobody_waiting(own: Running) -> None:
    small, tf = own.put(DATA), hash_bytes(b"transformation")
    own.database().put(tf, "file", small)
    with contextlib.ExitStack() as stack:
        for number in range(140):
            sock = stack.enter_context(own.connect())
            path = f"/{hash_bytes(b'%d' % number)}"
            sock.sendall(own.head("PUT", path, Content_Length=10, Expect="100-continue"))
            assert receive(sock).status == 100
            sock.sendall(b"x")
        assert own.client().has([small, UNKNOWN]) == [10, -1]
        assert dict(own.client().get_many([small])) == {small: DATA}
        assert own.database().lookup(tf) is not None
        assert own.stop() == 0
    assert "Traceback" not in own.rest
    assert own.files() == {small}


def resident(process: int) -> int:
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("way", ["GET", "pack"])
def test_memory_stays_bounded_under_slow_readers(own: Running, way: str) -> None:
    checksum, _ = own.client().put_stream(bytes(1 << 20) for _ in range(64))
    body = json.dumps([checksum]).encode()
    request = own.head("GET", f"/{checksum}")
    if way == "pack":
        request = own.head("POST", "/pack", Content_Length=len(body)) + body
    before = resident(own.process.pid)
    with contextlib.ExitStack() as stack:
        for _ in range(50):  # who read a thousand bytes and no more
            sock = stack.enter_context(own.connect())
            sock.sendall(request)
            assert sock.recv(1000)
        assert own.ask("GET", "/healthcheck").status == 200
        assert resident(own.process.pid) - before < 200 << 20  # the readers together ask for 3.2 GB


# ---------------------------------------------------------------------- bad documents


@pytest.mark.parametrize(
    "change",
    [
        {"members": 5},
        {"members": [5]},
        {"members": "abc"},
        {"members": {TEN: 1}},
        {"format": "\ud800"},
        {"record": {"stderr": "\udcff"}},
        {"record": []},
    ],
)
def test_a_result_that_cannot_be_recorded_is_400(server: Running, change: dict[str, object]) -> None:
    tf = hash_bytes(os.urandom(8))
    body = json.dumps({"format": "file", "checksum": TEN, **change}).encode()
    assert server.ask("PUT", f"/result/{tf}", body).status == 400
    assert server.ask("GET", f"/result/{tf}").status == 404


@pytest.mark.parametrize("upstream", [None, 1, [1], [[TEN]], [["x", "file", TEN]], {"a": 1}])
def test_a_deferred_key_that_makes_no_sense_is_400(server: Running, upstream: object) -> None:
    body = json.dumps({"transformation": TEN, "upstream": upstream}).encode()
    assert server.ask("PUT", f"/deferred/{UNKNOWN}", body).status == 400


# ---------------------------------------------------------------------- deaths and meetings


def test_a_server_killed_in_the_middle_of_a_pack_has_whole_members_only(own: Running) -> None:
    """As many small ones as the server syncs together, and half of a large one."""
    small, large = [os.urandom(100) for _ in range(256)], os.urandom(4 << 20)
    names, last = list(map(hash_bytes, small)), hash_bytes(large)
    body = b"".join(pack([*zip(names, small, strict=True), (last, large)]))
    client = own.client()
    with own.connect() as sock:
        sock.sendall(own.head("PUT", "/pack", Content_Length=len(body)) + body[: 2 << 20])
        while -1 in client.has(names):
            pass  # each question is a round trip to the server
        own.stop(signal.SIGKILL)
    own.start()
    assert own.files() == set(names)
    assert own.client().has([*names, last]) == [100] * 256 + [-1]


def test_results_that_a_killed_server_has_acknowledged_are_there(own: Running) -> None:
    acknowledged: list[Checksum] = []
    some = threading.Event()

    def work(number: int) -> None:
        database = own.database()
        with contextlib.suppress(ServiceUnavailable):
            for turn in range(100_000):
                tf = hash_bytes(f"{number}-{turn}".encode())
                database.put(tf, "file", TEN, {"turn": turn})
                acknowledged.append(tf)
                if len(acknowledged) > 50:
                    some.set()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    assert some.wait(60)
    own.process.send_signal(signal.SIGKILL)
    for thread in threads:
        thread.join()
    own.stop(signal.SIGKILL)
    own.start()
    found = own.database().get_many(acknowledged)
    assert set(found) == set(acknowledged)
    own.stop()
    with Database(own.directory / "seamless.db") as database:
        record = database.get(acknowledged[-1])
        assert record is not None
        assert record.checksum == TEN


def test_two_servers_of_one_store_and_one_database_agree(own: Running) -> None:
    other = Running(own.directory)
    try:
        checksum, tf = own.put(DATA), hash_bytes(b"transformation")
        assert other.ask("GET", f"/{checksum}").body == DATA
        own.database().put(tf, "file", checksum)
        assert other.database().get_many([tf])[tf].checksum == checksum
        own.stop()  # which leaves the ready file to the one that wrote it last
        assert json.loads(other.ready.read_text())["pid"] == other.process.pid
    finally:
        assert other.stop() == 0
    assert not re.search("Traceback|error", own.rest + other.rest)


def test_a_server_that_is_read_only_changes_nothing_on_disk(own: Running) -> None:
    tf, checksum = hash_bytes(b"transformation"), own.put(DATA)
    own.database().put(tf, "file", checksum)
    own.stop()
    before = {path: path.stat().st_mtime_ns for path in own.directory.rglob("*") if path.is_file()}
    own.options = ("--read-only",)
    own.start()
    assert own.ask("GET", f"/result/{tf}").json["present"]
    for method, path in [
        ("PUT", f"/{UNKNOWN}"), ("POST", "/buffers"), ("PUT", "/pack"), ("DELETE", f"/{checksum}"),
        ("PUT", f"/result/{tf}"), ("POST", f"/result/{tf}/contest"), ("PUT", f"/deferred/{tf}"),
        ("PUT", f"/failure/{tf}"), ("POST", f"/verify/{checksum}"),
    ]:  # fmt: skip
        assert own.ask(method, path, b"").status == 403, path
    own.stop()
    after = {path: path.stat().st_mtime_ns for path in own.directory.rglob("*") if path.is_file()}
    assert after == before


def test_a_socket_that_is_closed_at_once_leaves_no_trace(own: Running) -> None:
    for _ in range(50):
        with own.connect() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            sock.sendall(own.head("GET", f"/{UNKNOWN}"))
    assert own.ask("GET", "/healthcheck").status == 200
    own.stop()
    assert own.rest == ""
