"""Requests that make no sense, or come from somebody who may not make them."""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from hashserver.checksum import Checksum
from hashserver.protocol import pack

from .conftest import AS_NOBODY, World

if TYPE_CHECKING:
    from collections.abc import Iterator

UNKNOWN = "0" * 64
HELLO = hashlib.sha256(b"hello\n").hexdigest()
OTHER = hashlib.sha256(b"other\n").hexdigest()
THIRD = "1" * 64
TAKE_A_CHECKSUM = ["seamless-resolve", "seamless-fingertip", "seamless-run-transformation"]


@pytest.mark.parametrize("command", TAKE_A_CHECKSUM)
def test_not_a_checksum(world: World, command: str) -> None:
    for text in ("xyz", HELLO.upper(), HELLO[:-1], "../" + HELLO):
        done = world(command, text, status=1 if command == "seamless-run-transformation" else 2)
        assert text.strip()[:20] in done.error
        assert done.stdout == b""


def test_not_a_checksum_in_a_request(served: World) -> None:
    for path in ("/xyz", "/" + HELLO.upper(), "/result/xyz", "/verify/xyz"):
        method = "POST" if "verify" in path else "GET"
        assert served.request(method, path).status == 400


@pytest.mark.parametrize("command", TAKE_A_CHECKSUM)
def test_an_unknown_checksum(world: World, command: str) -> None:
    done = world(command, UNKNOWN, status=1)
    assert UNKNOWN in done.error
    assert done.stdout == b""
    if world.server:
        assert world.request("GET", f"/{UNKNOWN}").status == 404


def test_wrong_bytes(served: World) -> None:
    assert served.request("PUT", f"/{HELLO}", b"jello\n").status == 400
    assert HELLO in served("seamless-resolve", HELLO, status=1).error
    assert not served.buffer(HELLO).exists()
    served.write("a.txt", "hello\n")
    served("seamless-upload", "a.txt")
    assert served("seamless-resolve", HELLO).stdout == b"hello\n"


def test_a_truncated_upload(served: World) -> None:
    address = urlsplit(served.url)
    data = b"x" * 100_000
    checksum = hashlib.sha256(data).hexdigest()
    head = f"PUT /{checksum} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {served.secrets()[0]}\r\n"
    with socket.create_connection((str(address.hostname), int(address.port or 0))) as sock:
        sock.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data[:50_000])
        sock.shutdown(socket.SHUT_WR)
        sock.recv(1 << 16)
    assert served.request("HEAD", f"/{checksum}").status == 404
    served.write("x", data)
    served("seamless-upload", "x")
    assert served("seamless-resolve", checksum).stdout == data


def test_an_oversized_body(tmp_path: Path) -> None:
    world = World(tmp_path).serve("--max-size", "64K")
    try:
        world.write("large", b"x" * 70_000)
        world.write("huge", os.urandom(3 << 20))
        for name in ("large", "huge"):
            assert "65536 bytes" in world("seamless-upload", name, status=1).error
            assert not (world.work / f"{name}.CHECKSUM").exists()
        assert world.request("POST", "/buffers", b"x" * 70_000).status == 413
        # a result that is too large is no result, and the next run computes it anew
        for _ in range(2):
            done = world("seamless-run", "-cp", ":out", "head -c 70000 /dev/zero", status=1)
            assert "65536 bytes" in done.error
            assert not list(world.work.glob("out*"))
        world.kill_server()
        world.serve()
        world("seamless-run", "-cp", ":out", "head -c 70000 /dev/zero")
        assert (world.work / "out").read_bytes() == bytes(70_000)
    finally:
        world.close()


def test_a_bad_range(served: World) -> None:
    served.write("a.txt", "hello\n")
    served("seamless-upload", "a.txt")
    for text in ("bytes=6-", "bytes=9-10", "bytes=x", "bytes=4-2"):
        reply = served.request("GET", f"/{HELLO}", Range=text)
        assert reply.status == 416, text
        assert reply.headers["content-range"] == "bytes */6"
    assert served.request("GET", f"/{HELLO}", Range="bytes=1-3").body == b"ell"


def test_a_pack_with_one_bad_member(served: World) -> None:
    members = [(Checksum(HELLO), b"hello\n"), (Checksum(THIRD), b"bad"), (Checksum(OTHER), b"other\n")]
    reply = served.request("PUT", "/pack", b"".join(pack(members)))
    assert THIRD in reply.body.decode()
    assert served("seamless-resolve", HELLO).stdout == b"hello\n"
    assert served("seamless-resolve", OTHER).stdout == b"other\n"
    assert THIRD in served("seamless-resolve", THIRD, status=1).error


@pytest.fixture
def wrong_token(served: World) -> Iterator[Path]:
    path = served.base / "wrong"
    path.write_text("read-write " + "5" * 64 + "\n")
    path.chmod(0o600)
    yield path
    path.unlink()


COMMANDS = [
    ("seamless-upload", "a.txt"),
    ("seamless-run", "cat", "a.txt"),
    ("seamless-run", "-cp", "out", "cp a.txt out"),
    ("seamless-download", "b.txt"),
    ("seamless-resolve", HELLO),
    ("seamless-fingertip", HELLO),
    ("seamless-run-transformation", HELLO),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: "-".join(command[:2]))
def test_a_missing_or_wrong_token(served: World, wrong_token: Path, command: tuple[str, ...]) -> None:
    served.write("a.txt", "hello\n")
    served.write("b.txt.CHECKSUM", HELLO + "\n")
    before = sorted(os.listdir(served.work))
    wrong = served(*command, status=1, SEAMLESS_TOKEN_FILE=str(wrong_token))
    assert "token" in wrong.error
    assert "5555" not in wrong.stderr
    missing = served(*command, status=1, SEAMLESS_TOKEN_FILE="")
    assert "token" in missing.error
    assert wrong.stdout + missing.stdout == b""
    assert sorted(os.listdir(served.work)) == before
    assert list(served.store.glob("??/*")) == []
    assert served.request("GET", f"/{HELLO}", token="").status == 401
    assert served.request("GET", f"/{HELLO}", token="5" * 64).status == 401


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
def test_another_user_of_the_same_host(open_directory: Path) -> None:
    old = os.umask(0)
    world = World(open_directory)
    world.temporary.chmod(0o1777)
    try:
        world.write("a.txt", "secret\n")
        world("seamless-run", "cat a.txt > b.txt")
        world.serve()
        world("seamless-run", "cat a.txt b.txt > c.txt")
        find = ["find", world.cache, world.tokens, world.temporary, "-type", "f", "-readable"]
        assert subprocess.run([*AS_NOBODY, *find], capture_output=True, check=False).stdout == b""
        port = world.url.rpartition(":")[2]
        ask = (
            f"exec 3<>/dev/tcp/127.0.0.1/{port}; printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' >&3; head -1 <&3"
        )
        reply = subprocess.run([*AS_NOBODY, "bash", "-c", ask], capture_output=True, check=True)
        assert b" 401 " in reply.stdout
        # what everybody can see of a process holds no secret
        assert world.server is not None
        shown = Path(f"/proc/{world.server.pid}/cmdline").read_text()
        assert not any(secret in shown for secret in world.secrets())
        assert stat.S_IMODE(world.tokens.stat().st_mode) == 0o600
        # an interpreter below root's home is not theirs to start
        if (
            subprocess.run(
                [*AS_NOBODY, sys.executable, "-c", ""], capture_output=True, check=False
            ).returncode
            == 0
        ):
            done = world("seamless-status", status=1, prefix=AS_NOBODY)
            assert b"Permission denied" in done.stdout
    finally:
        os.umask(old)
        world.close()
