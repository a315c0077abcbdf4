"""The routes of the server, asked with nothing but sockets, over a real process."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import threading
from base64 import b64encode
from pathlib import Path

import pytest

from hashserver.checksum import hash_bytes
from hashserver.client.store import connect
from hashserver.errors import BufferMissing, Irreproducible, NoSpace, ServiceUnavailable, TooLarge
from hashserver.protocol import pack

from .conftest import UNKNOWN, Running, receive

# ---------------------------------------------------------------------- buffers


def test_a_buffer_comes_back_with_tag_and_caching_headers(server: Running) -> None:
    data = b"some bytes"
    checksum = server.put(data)
    reply = server.ask("GET", f"/{checksum}")
    assert (reply.status, reply.body) == (200, data)
    assert reply.headers["etag"] == f'"{checksum}"'
    assert "immutable" in reply.headers["cache-control"]
    assert reply.headers["accept-ranges"] == "bytes"
    assert not any(name.startswith("access-control") for name in reply.headers)
    head = server.ask("HEAD", f"/{checksum}")
    assert (head.status, head.headers["content-length"], head.body) == (200, str(len(data)), b"")
    assert server.ask("GET", f"/{checksum}", If_None_Match=f'"{checksum}"').status == 304


@pytest.mark.parametrize("size", [0, 1, 255 << 10, 257 << 10, 3 << 20])
def test_buffers_of_any_size_come_back(server: Running, size: int) -> None:
    data = os.urandom(size)
    assert server.ask("GET", f"/{server.put(data)}").body == data


@pytest.mark.parametrize("size", [1000, 1 << 20])
@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [("0-0", 0, 1), ("10-19", 10, 20), ("990-", 990, None), ("-10", -10, None), ("5-99999999", 5, None)],
)
def test_a_range_is_honoured(server: Running, size: int, asked: str, start: int, stop: int | None) -> None:
    data = os.urandom(size)
    reply = server.ask("GET", f"/{server.put(data)}", Range=f"bytes={asked}")
    assert (reply.status, reply.body) == (206, data[start:stop])
    first = start % size
    assert reply.headers["content-range"] == f"bytes {first}-{first + len(reply.body) - 1}/{size}"


@pytest.mark.parametrize(
    "asked", ["bytes=10-", "bytes=5-2", "bytes=-0", "bytes=-", "bytes=x-y", "bytes=99999-"]
)
def test_a_bad_range_is_416(server: Running, asked: str) -> None:
    reply = server.ask("GET", f"/{server.put(b'0123456789')}", Range=asked)
    assert reply.status == 416
    assert reply.headers["content-range"] == "bytes */10"
    assert reply.error


@pytest.mark.parametrize("asked", ["bytes=0-1,4-5", "rows=1-2", ""])
def test_several_ranges_or_another_unit_get_the_whole(server: Running, asked: str) -> None:
    reply = server.ask("GET", f"/{server.put(b'0123456789')}", Range=asked)
    assert (reply.status, reply.body) == (200, b"0123456789")


def test_an_unknown_checksum_is_404(server: Running) -> None:
    assert UNKNOWN in server.ask("GET", f"/{UNKNOWN}").error
    assert server.ask("HEAD", f"/{UNKNOWN}").status == 404


@pytest.mark.parametrize(
    "path",
    [
        "/abc",
        "/" + "A" * 64,
        "/" + "g" * 64,
        "/%2e%2e",
        "/..",
        "/" + "%00" * 20 + "0000",
        "/verify/x",
        "/result/x",
        "/*",
    ],
)
def test_what_is_not_a_checksum_is_400(server: Running, path: str) -> None:
    reply = server.ask("POST" if "verify" in path else "GET", path)
    assert reply.status == 400
    assert reply.error


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "//",
        "/../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/..%2f..%2fetc/passwd",
        "/./has",
        "/has/",
        "/result",
        f"/{UNKNOWN}/x",
    ],
)
def test_path_tricks_lead_nowhere(server: Running, path: str) -> None:
    reply = server.ask("GET", path)
    assert reply.status in (400, 404, 405)
    assert b"root:" not in reply.body


def test_a_nul_in_a_path_is_refused(server: Running) -> None:
    with server.connect() as sock:
        sock.sendall(server.head("GET", "/a\x00b"))
        assert receive(sock).status == 400
    assert server.ask("GET", "/healthcheck", token=None).status == 200


def test_put_stores_once(server: Running) -> None:
    data = os.urandom(5000)
    path = f"/{hash_bytes(data)}"
    assert server.ask("PUT", path, data).status == 201
    assert server.ask("PUT", path, data).status == 200


def test_put_answers_before_the_body_when_the_client_asks(server: Running) -> None:
    data = os.urandom(5000)
    path = f"/{hash_bytes(data)}"
    with server.connect() as sock:
        sock.sendall(server.head("PUT", path, Expect="100-continue", Content_Length=len(data)))
        assert receive(sock).status == 100
        sock.sendall(data)
        assert receive(sock).status == 201
    with server.connect() as sock:
        sock.sendall(server.head("PUT", path, Expect="100-continue", Content_Length=len(data)))
        assert receive(sock).status == 200


@pytest.mark.parametrize("there", [False, True])
def test_wrong_bytes_are_400_and_not_kept(server: Running, there: bool) -> None:
    data, wrong = os.urandom(3000), os.urandom(3000)
    if there:
        server.put(data)
    before = server.files()
    reply = server.ask("PUT", f"/{hash_bytes(data)}", wrong)
    assert reply.status == 400
    assert hash_bytes(data) in reply.error
    assert server.files() == before
    assert server.ask("GET", f"/{hash_bytes(wrong)}").status == 404


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_a_body_over_the_limit_is_413_before_it_is_sent(server: Running, method: str) -> None:
    path = "/buffers" if method == "POST" else f"/{UNKNOWN}"
    with server.connect() as sock:
        sock.sendall(server.head(method, path, Content_Length=5 << 20))
        assert receive(sock).status == 413


def test_a_body_of_unknown_length_over_the_limit_is_413(server: Running) -> None:
    with server.connect() as sock:
        sock.sendall(server.head("POST", "/buffers", Transfer_Encoding="chunked"))
        chunk = b"100000\r\n" + bytes(1 << 20) + b"\r\n"
        for _ in range(5):
            sock.sendall(chunk)
        assert receive(sock).status == 413
    assert server.ask("GET", f"/{hash_bytes(bytes(5 << 20))}").status == 404


@pytest.mark.parametrize("chunked", [False, True])
def test_post_names_the_checksum(server: Running, chunked: bool) -> None:
    data = os.urandom(2 << 20)
    for status in (201, 200):
        if chunked:
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data)
            with server.connect() as sock:
                sock.sendall(server.head("POST", "/buffers", Transfer_Encoding="chunked") + body)
                reply = receive(sock)
        else:
            reply = server.ask("POST", "/buffers", data)
        assert reply.status == status
        assert reply.json == {"checksum": hash_bytes(data), "length": len(data)}


@pytest.mark.parametrize("path", ["/buffers", "/named"])
def test_a_body_that_is_cut_short_is_not_kept(server: Running, path: str) -> None:
    data = os.urandom(2 << 20)
    method = "POST" if path == "/buffers" else "PUT"
    before = server.files()
    with server.connect() as sock:
        target = path if method == "POST" else f"/{hash_bytes(data)}"
        sock.sendall(server.head(method, target, Content_Length=len(data)) + data[: 1 << 20])
        sock.shutdown(socket.SHUT_WR)
        sock.settimeout(10)
        while sock.recv(1 << 16):
            pass
    assert server.client().has([hash_bytes(data), hash_bytes(data[: 1 << 20])]) == [-1, -1]
    assert server.files() == before


def test_two_writers_of_one_buffer_both_succeed(server: Running) -> None:
    data = os.urandom(2 << 20)
    head = server.head("PUT", f"/{hash_bytes(data)}", Content_Length=len(data))
    with server.connect() as first, server.connect() as second:
        for part in (head + data[: 1 << 20], data[1 << 20 :]):
            first.sendall(part)
            second.sendall(part)
        assert {receive(first).status, receive(second).status} <= {200, 201}
    assert server.ask("GET", f"/{hash_bytes(data)}").body == data


def test_has_answers_lengths_and_the_old_form_booleans(server: Running) -> None:
    body = json.dumps([server.put(b"12345"), UNKNOWN, server.put(b"")]).encode()
    assert server.ask("POST", "/has", body).json == [5, -1, 0]
    assert server.ask("GET", "/has", body).json == [True, False, True]


@pytest.mark.parametrize("body", [b"", b"{", b"{}", b"[1]", b'["x"]', b"[" * 100000])
@pytest.mark.parametrize("path", ["/has", "/pack", "/results"])
def test_a_body_that_is_no_list_of_checksums_is_400(server: Running, path: str, body: bytes) -> None:
    assert server.ask("POST", path, body).status == 400


def test_a_corrupt_buffer_is_quarantined(server: Running) -> None:
    checksum = server.put(b"to be damaged")
    path = server.store / checksum[:2] / checksum
    path.chmod(0o600)
    path.write_bytes(b"to be damagee")
    path.chmod(0o444)
    assert server.ask("POST", f"/verify/{checksum}").json == {"intact": False, "in_place": False}
    assert server.ask("GET", f"/{checksum}").status == 404
    assert server.ask("POST", f"/verify/{checksum}").status == 404
    assert server.ask("POST", f"/verify/{server.put(b'fine')}").json == {"intact": True, "in_place": False}


def test_a_buffer_can_be_deleted(server: Running) -> None:
    checksum = server.put(b"to be deleted")
    assert server.ask("DELETE", f"/{checksum}").status == 204
    assert server.ask("GET", f"/{checksum}").status == 404


# ---------------------------------------------------------------------- packs


def test_a_pack_with_one_bad_member_keeps_the_others(server: Running) -> None:
    good, other, bad = os.urandom(100), os.urandom(200), os.urandom(300)
    members = [(hash_bytes(good), good), (hash_bytes(bad), b"something else"), (hash_bytes(other), other)]
    reply = server.ask("PUT", "/pack", b"".join(pack(members)))
    assert reply.status == 200
    assert reply.json["stored"] == 2
    assert list(reply.json["rejected"]) == [hash_bytes(bad)]
    asked = json.dumps([hash_bytes(good), hash_bytes(bad), hash_bytes(other), hash_bytes(b"something else")])
    assert server.ask("POST", "/has", asked.encode()).json == [100, -1, 200, -1]


def test_a_truncated_pack_is_400_and_keeps_only_whole_members(server: Running) -> None:
    first, second = os.urandom(100), os.urandom(100)
    body = b"".join(pack([(hash_bytes(first), first), (hash_bytes(second), second)]))
    reply = server.ask("PUT", "/pack", body[:-70])
    assert reply.status == 400
    assert "cut short" in reply.error
    assert server.client().has([hash_bytes(second)]) == [-1]


def test_a_pack_says_what_it_lacks(server: Running) -> None:
    client, checksum = server.client(), server.put(b"here")
    seen = []
    with pytest.raises(BufferMissing, match=UNKNOWN):
        seen.extend(client.get_many([checksum, UNKNOWN]))
    assert seen == [(checksum, b"here")]


# ---------------------------------------------------------------------- tokens


@pytest.mark.parametrize("token", [None, "wrong", "Bearer"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", f"/{UNKNOWN}"),
        ("PUT", f"/{UNKNOWN}"),
        ("POST", "/has"),
        ("GET", "/metrics"),
        ("GET", "/nowhere/x"),
    ],
)
def test_without_a_right_token_everything_is_401(
    server: Running, token: str | None, method: str, path: str
) -> None:
    reply = server.ask(method, path, b"", token=token)
    assert reply.status == 401
    assert reply.headers["www-authenticate"] == "Bearer"
    assert server.writing not in reply.error


def test_a_reading_token_reads_only(server: Running) -> None:
    checksum = server.put(b"readable")
    assert server.ask("GET", f"/{checksum}", token=server.reading).status == 200
    for method, path in [
        ("PUT", f"/{checksum}"), ("POST", "/buffers"), ("PUT", "/pack"), ("DELETE", f"/{checksum}"),
        ("PUT", f"/result/{checksum}"), ("POST", f"/result/{checksum}/contest"),
    ]:  # fmt: skip
        reply = server.ask(method, path, b"", token=server.reading)
        assert reply.status == 403
        assert "only reads" in reply.error


def test_the_healthcheck_needs_no_token(server: Running) -> None:
    assert server.ask("GET", "/healthcheck", token=None).json == {"status": "ok"}


def test_no_secret_is_ever_shown(server: Running) -> None:
    shown = " ".join(server.lines) + server.ready.read_text() + repr(server.client().transport)
    shown += Path(f"/proc/{server.process.pid}/cmdline").read_text()
    shown += Path(f"/proc/{server.process.pid}/environ").read_text()
    assert server.writing not in shown
    assert server.reading not in shown


def test_other_methods_are_405_and_nothing_is_shared_across_origins(server: Running) -> None:
    reply = server.ask("OPTIONS", f"/{UNKNOWN}", Origin="http://evil.example")
    assert reply.status == 405
    assert "GET" in reply.headers["allow"]
    assert not any(name.startswith("access-control") for name in reply.headers)


def test_metrics_are_prometheus_text(server: Running) -> None:
    server.ask("GET", f"/{UNKNOWN}")
    reply = server.ask("GET", "/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = reply.body.decode().splitlines()
    assert any(line.startswith('hashserver_requests_total{route="buffer",status="404"} ') for line in lines)
    assert all(line.startswith("#") or float(line.rpartition(" ")[2]) >= 0 for line in lines)


# ---------------------------------------------------------------------- results


def test_a_result_is_recorded_once_and_never_overwritten(server: Running) -> None:
    tf, first, second = (hash_bytes(os.urandom(8)) for _ in range(3))
    path = f"/result/{tf}"
    assert server.ask("GET", path).status == 404
    body = {"format": "file", "checksum": first, "record": {"wall": 1.5}}
    for _ in range(2):
        assert server.ask("PUT", path, json.dumps(body).encode()).status == 200
    reply = server.ask("PUT", path, json.dumps({"format": "file", "checksum": second}).encode())
    assert (reply.status, reply.json["known"], reply.json["found"]) == (409, first, second)
    known = server.ask("GET", path).json
    assert (known["format"], known["checksum"], known["present"]) == ("file", first, False)
    assert known["record"] == {"wall": 1.5}
    assert [item["checksum"] for item in server.ask("GET", f"/irreproducible/{tf}").json] == [second]
    assert server.ask("POST", f"{path}/contest", b"").status == 200
    assert server.ask("GET", path).status == 404
    assert server.ask("POST", f"{path}/contest?undo=1", b"").status == 200
    assert server.ask("GET", path).json["checksum"] == first


def test_small_bytes_come_with_the_result(server: Running) -> None:
    tf, data = hash_bytes(os.urandom(8)), os.urandom(100)
    database = server.database()
    database.put(tf, "file", server.put(data))
    found, without = database.get_inline(tf, 100), database.get_inline(tf, 99)
    assert found is not None
    assert (found.present, found.data) == (True, data)
    assert without is not None
    assert (without.present, without.data) == (True, None)
    assert server.ask("GET", f"/result/{tf}?inline=x").status == 400


def test_small_buffers_are_stored_with_the_result_that_they_came_with(server: Running) -> None:
    tf, data = hash_bytes(os.urandom(8)), os.urandom(100)
    database = server.database()
    for _ in range(2):
        database.put(tf, "file", hash_bytes(data), {"wall": 1}, (), [data, b""])
    found = database.get_inline(tf, 100)
    assert found is not None
    assert (found.present, found.data, found.result.record) == (True, data, {"wall": 1})
    assert database.stored == 200
    other = os.urandom(100)
    with pytest.raises(Irreproducible):
        database.put(tf, "file", hash_bytes(other), None, (), [other])
    assert server.ask("GET", f"/{hash_bytes(other)}").body == other


@pytest.mark.parametrize(
    "buffers", [{UNKNOWN: "eA=="}, {UNKNOWN: "?"}, {UNKNOWN: 1}, {"x": ""}, ["eA=="], "eA=="]
)
def test_nothing_is_recorded_when_bytes_are_not_what_they_are_called(
    server: Running, buffers: object
) -> None:
    tf, good = hash_bytes(os.urandom(8)), os.urandom(10)
    if isinstance(buffers, dict):
        buffers = {hash_bytes(good): b64encode(good).decode()} | buffers
    body = {"format": "file", "checksum": UNKNOWN, "buffers": buffers}
    assert server.ask("PUT", f"/result/{tf}", json.dumps(body).encode()).status == 400
    assert server.ask("GET", f"/result/{tf}").status == 404
    assert server.ask("GET", f"/{hash_bytes(good)}").status == 404


def test_a_directory_is_present_when_its_members_are(server: Running) -> None:
    tf, member = hash_bytes(os.urandom(8)), os.urandom(20)
    index = json.dumps({"a": hash_bytes(member)}).encode()
    database = server.database()
    database.put(tf, "directory", server.put(index))
    assert [found.present for found in database.find_many([tf]).values()] == [False]
    server.put(member)
    assert [found.present for found in database.find_many([tf, UNKNOWN]).values()] == [True]


def test_with_look_ups_in_vain_come_the_documents_that_running_takes(server: Running) -> None:
    database = server.database()
    code, large = os.urandom(20), os.urandom(300)
    documents = [
        json.dumps({"code": hash_bytes(data), "x": os.urandom(4).hex()}).encode() for data in (code, large)
    ]
    keys = [server.put(document) for document in documents]
    server.put(code)
    server.put(large)
    no_documents = [server.put(text) for text in (b"[]", b'{"code": 1}', b"\xff", b'{"code": "x"}')]
    known, buffers = database.lookup_with_documents([*keys, *no_documents, UNKNOWN], 200)
    assert known == set()
    assert {hash_bytes(code), *keys} <= set(buffers)
    assert hash_bytes(large) not in buffers
    database.put(keys[0], "file", keys[0])
    assert database.lookup_with_documents(keys, 200) == ({keys[0]}, {keys[1]: documents[1]})
    assert server.ask("POST", "/results?documents=x", b"[]").status == 400


def test_with_many_results_come_objects_that_are_small(server: Running) -> None:
    database = server.database()
    small, large, file = (os.urandom(size) for size in (100, 101, 90))
    keys = [hash_bytes(os.urandom(8)) for _ in range(5)]
    for key, kind, data in zip(
        keys, ("bytes", "bytes", "file", "text"), (small, large, file, small), strict=False
    ):
        database.put(key, kind, server.put(data))
    database.put(keys[4], "bytes", UNKNOWN)
    values, objects = database.values_of([*keys, UNKNOWN], 100)
    assert values == {key: value[1][:2] for key, value in database.lookup_many(keys).items()}
    assert objects == {hash_bytes(small): small}
    assert [one.present for one in database.find_many(keys).values()].count(False) == 1


def test_objects_that_come_with_results_are_verified(server: Running) -> None:
    database = server.database()
    tf, data = hash_bytes(os.urandom(8)), os.urandom(50)
    database.put(tf, "bytes", checksum := server.put(data))
    path = server.directory / "store" / checksum[:2] / checksum
    path.chmod(0o600)
    path.write_bytes(bytes(50))
    assert database.values_of([tf], 100) == ({tf: ("bytes", checksum)}, {})


def test_deferred_keys_are_followed(server: Running) -> None:
    key, tf, up, result, found = (hash_bytes(os.urandom(8)) for _ in range(5))
    database = server.database()
    database.put(up, "file", result)
    database.put(tf, "file", found)
    database.put_deferred(key, tf, [(up, "file", result)])
    looked_up = database.lookup(key)
    assert looked_up is not None
    assert (looked_up[0], looked_up[1].checksum) == (tf, found)
    assert database.lookup_many([key])[key][0] == tf
    database.contest(up)
    assert database.lookup(key) is None
    assert database.producers(found) == [tf]


def test_failures_are_kept_beside_results(server: Running) -> None:
    tf, database = hash_bytes(os.urandom(8)), server.database()
    database.put_failure(tf, {"exit_status": 3})
    assert database.failures(tf) == [{"exit_status": 3}]
    assert database.get(tf) is None


def test_an_export_stands_alone(server: Running, tmp_path: Path) -> None:
    from hashserver.results.database import Database

    tf, result = hash_bytes(os.urandom(8)), hash_bytes(b"result")
    server.database().put(tf, "file", result)
    server.database().export(tmp_path / "copy.db")
    with Database(tmp_path / "copy.db", read_only=True) as copy:
        found = copy.get(tf)
        assert found is not None
        assert found.checksum == result


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"format": 1, "checksum": "x"}', b'{"format": "file", "checksum": "x"}']
)
def test_a_malformed_result_is_400(server: Running, body: bytes) -> None:
    assert server.ask("PUT", f"/result/{UNKNOWN}", body).status == 400


def test_many_results_are_recorded_with_their_bytes_or_none_of_them(server: Running) -> None:
    data, other = os.urandom(8), os.urandom(8)
    tf, contested = hash_bytes(os.urandom(8)), hash_bytes(os.urandom(8))
    first = {"transformation": tf, "format": "file", "checksum": hash_bytes(data), "record": {"wall": 1.5}}
    second = {"transformation": contested, "format": "file", "checksum": hash_bytes(other)}
    buffers = {hash_bytes(data): b64encode(data).decode()}
    for bad in ({"results": [first, {}]}, {"results": [first, 1]}, {"results": first}, {"buffers": buffers}):
        assert server.ask("PUT", "/results", json.dumps(bad).encode()).status == 400
    wrong = {"results": [first], "buffers": {hash_bytes(data): b64encode(other).decode()}}
    assert server.ask("PUT", "/results", json.dumps(wrong).encode()).status == 400
    assert server.ask("GET", f"/result/{tf}").status == 404
    server.database().put(contested, "file", hash_bytes(b"known"))
    good = {"results": [first, second], "buffers": buffers}
    for _ in range(2):
        reply = server.ask("PUT", "/results", json.dumps(good).encode())
        assert (reply.status, reply.json) == (200, [[contested, hash_bytes(b"known"), hash_bytes(other)]])
    known = server.ask("GET", f"/result/{tf}").json
    assert (known["checksum"], known["record"], known["present"]) == (hash_bytes(data), {"wall": 1.5}, True)


# ---------------------------------------------------------------------- deaths and limits


def test_a_server_killed_during_an_upload_leaves_nothing(own: Running) -> None:
    data = os.urandom(3 << 20)
    with own.connect() as sock:
        sock.sendall(own.head("POST", "/buffers", Content_Length=len(data)) + data[: 2 << 20])
        own.ask("GET", "/healthcheck")
        own.stop(signal.SIGKILL)
    own.start(own.port)
    assert own.client().has([hash_bytes(data)]) == [-1]
    assert own.files() == set()


def test_a_server_killed_during_a_download_is_unavailable_and_the_file_as_before(
    own: Running, tmp_path: Path
) -> None:
    size = 64 << 20
    checksum, _ = own.client().put_stream(bytes(1 << 20) for _ in range(size >> 20))
    target = tmp_path / "target"
    target.write_bytes(b"before")
    client = own.client()
    with client.fetch(checksum) as response:
        buffer = memoryview(bytearray(1000))
        assert response.readinto(buffer)
        own.stop(signal.SIGKILL)
        with pytest.raises(ServiceUnavailable, match=str(own.port)):
            response.read()
    with pytest.raises(ServiceUnavailable):
        client.get_file(checksum, target)
    assert target.read_bytes() == b"before"
    assert [p.name for p in tmp_path.iterdir() if "seamless-" in p.name] == []


def test_a_stop_during_an_upload_keeps_nothing_and_ends_well(own: Running) -> None:
    data = os.urandom(3 << 20)
    with own.connect() as sock:
        sock.sendall(own.head("POST", "/buffers", Content_Length=len(data)) + data[: 2 << 20])
        own.ask("GET", "/healthcheck")
        assert own.stop() == 0
    assert not own.ready.exists()
    assert own.files() == set()
    assert "Traceback" not in own.rest


def test_what_was_stored_survives_a_restart_and_the_client_with_it(own: Running) -> None:
    with connect(own.url, own.token_file) as client:
        checksum = client.put(b"kept")
        assert client.get(checksum) == b"kept"
        own.stop(signal.SIGKILL)
        own.start(own.port)
        assert client.get(checksum) == b"kept"


def test_an_unreachable_server_is_named(home: Path) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        with pytest.raises(ServiceUnavailable, match=url):
            connect(url).has([UNKNOWN])


def test_a_read_only_server_takes_nothing(own: Running) -> None:
    checksum = own.put(b"there")
    own.stop()
    own.options = ("--read-only",)
    own.start()
    assert own.ask("GET", f"/{checksum}").body == b"there"
    assert "read-only" in own.ask("PUT", f"/{UNKNOWN}", b"").error
    assert own.ask("PUT", f"/result/{UNKNOWN}", b"{}").status == 403


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system takes root")
def test_a_full_disk_is_507_and_keeps_nothing(tmp_path: Path) -> None:
    small = tmp_path / "store"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(small)], check=False)
    if mounted.returncode:
        pytest.skip("mounting is not permitted here")
    running = None
    try:
        running = Running(tmp_path)
        data = os.urandom(3 << 20)
        with pytest.raises(NoSpace):
            running.client().put(data)
        with pytest.raises(NoSpace):
            running.client().put_stream([data[: 1 << 20], data[1 << 20 :]])
        assert running.files() == set()
        assert running.client().get(running.put(b"small")) == b"small"
    finally:
        if running is not None:
            running.stop()
        subprocess.run(["umount", str(small)], check=True)


def test_a_store_elsewhere_is_served_too(tmp_path: Path) -> None:
    from fsspec.core import url_to_fs  # noqa: F401  (the server needs it)

    running = Running(tmp_path, "--store", "memory://served")
    try:
        client, data = running.client(), os.urandom(3 << 20)
        checksum = client.put(data)
        assert client.get(checksum) == data
        assert b"".join(client.read(checksum, 5, 10)) == data[5:15]
        assert dict(client.get_many([checksum])) == {checksum: data}
        assert client.verify(checksum)
        client.get_file(checksum, tmp_path / "out")
        assert hashlib.sha256((tmp_path / "out").read_bytes()).hexdigest() == checksum
    finally:
        assert running.stop() == 0


def test_many_clients_at_once(server: Running) -> None:
    client = server.client()
    failures = []

    def work(number: int) -> None:
        try:
            for turn in range(20):
                data = f"{number}-{turn}".encode() * 100
                assert client.get(client.put(data)) == data
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_the_client_is_told_of_the_limit_before_it_sends(server: Running, tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(bytes(5 << 20))
    with pytest.raises(TooLarge, match="4194304"):
        server.client().put_file(path)
