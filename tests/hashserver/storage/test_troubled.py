"""Stores that answer nothing, refuse whoever writes, or are not there: real servers behind a proxy."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import fsspec
import pytest

from hashserver.checksum import hash_bytes
from hashserver.errors import HashserverError, ReadOnly, ServiceUnavailable
from hashserver.storage.chain import StoreChain
from hashserver.storage.directory import LocalStore
from hashserver.storage.fsspec import FsspecStore
from hashserver.storage.store import Store

from ...conftest import http_server
from ..conftest import at_last, use_s3

BIN = Path(sys.executable).parent
FRESH: dict[str, Any] = {"skip_instance_cache": True}
"""Storage options by which no connection of another test is used again."""
ABSENT = hash_bytes(b"absent")
DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


@pytest.fixture
def read_only(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket whose server refuses whatever changes it."""
    use_s3(monkeypatch, s3_endpoint)
    bucket = f"bucket-{uuid.uuid4().hex}"
    fsspec.filesystem("s3", use_listings_cache=False, skip_instance_cache=True).mkdir(bucket)
    there = s3_endpoint.removeprefix("http://")

    class Proxy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            with closing(http.client.HTTPConnection(there, timeout=60)) as connection:
                connection.request(self.command, self.path, headers=dict(self.headers))
                answer = connection.getresponse()
                body = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def refuse(self) -> None:
            self.close_connection = True
            self.send_response(403)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(DENIED)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(DENIED)

        do_GET = do_HEAD = forward  # noqa: N815 - the library's names
        do_PUT = do_POST = do_DELETE = refuse  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http_server(Proxy) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        yield f"s3://{bucket}/x"


def written(store: Store, path: Path) -> Any:
    with store.writer() as writer:
        writer.write(path.read_bytes())
        return writer.commit()


WAYS: dict[str, Callable[[Store, Path], Any]] = {
    "put": lambda store, path: store.put(path.read_bytes()),
    "put_many": lambda store, path: store.put_many(iter([path.read_bytes()])),
    "put_file": lambda store, path: store.put_file(path),
    "put_files": lambda store, path: store.put_files(iter([(path, None)])),
    "put_stream": lambda store, path: store.put_stream(iter([path.read_bytes()])),
    "writer": written,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [1000, 3 << 20], ids=["small", "large"])
def test_the_first_write_goes_to_the_first_place_that_takes_it(
    read_only: str, tmp_path: Path, way: str, size: int
) -> None:
    path = tmp_path / "data"
    path.write_bytes(os.urandom(size))
    with LocalStore(tmp_path / "second") as second:
        places = StoreChain([FsspecStore(read_only, **FRESH), second])
        WAYS[way](places, path)
        assert second.get(hash_bytes(path.read_bytes())) == path.read_bytes()
        assert places.has([ABSENT]) == [-1]


def test_a_read_only_webdav_server_is_passed_over(webdav: Any, tmp_path: Path) -> None:
    with FsspecStore("webdav://there/x", **webdav.options) as store:
        checksum = store.put(b"there")
    with LocalStore(tmp_path / "second") as second:
        remote = FsspecStore("webdav://there/x", **webdav.options | {"base_url": f"{webdav.url}/read-only"})
        places = StoreChain([remote, second])
        assert places.get(checksum) == b"there"
        assert places.put(b"new") == hash_bytes(b"new")
        assert second.get(hash_bytes(b"new")) == b"new"
        assert not remote.writable
        remote.close()


def test_a_server_that_speaks_no_webdav_is_said_to_be_none(plain: str) -> None:
    with (
        FsspecStore("webdav://x", base_url=plain) as store,
        pytest.raises(ServiceUnavailable, match=r"501|405"),
    ):
        store.has([ABSENT])


@pytest.fixture
def plain() -> Iterator[str]:
    """A server that knows no method at all."""
    with http_server(BaseHTTPRequestHandler) as url:
        yield url


def test_where_no_place_takes_it_that_is_said(read_only: str) -> None:
    with pytest.raises(ReadOnly, match=read_only):
        StoreChain([FsspecStore(read_only, **FRESH)]).put(b"x")


def test_a_command_passes_it_over_too(read_only: str, tmp_path: Path, home: Path) -> None:
    (tmp_path / "f").write_text("text\n")
    done = subprocess.run(
        [BIN / "seamless-upload", "f"],
        cwd=tmp_path,
        env=os.environ | {"SEAMLESS_STORE": f"{read_only} {tmp_path}/second"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    with LocalStore(tmp_path / "second") as second:
        assert second.get(hash_bytes(b"text\n")) == b"text\n"


# ---------------------------------------------------------------------- silence


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that accepts connections and never says a word."""
    listener = socket.create_server(("127.0.0.1", 0))
    held: list[socket.socket] = []

    def accept() -> None:
        with suppress(OSError):
            while True:
                held.append(listener.accept()[0])

    thread = threading.Thread(target=accept)
    thread.start()
    yield f"127.0.0.1:{listener.getsockname()[1]}"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()
    for connection in held:
        connection.close()


USES: dict[str, Callable[[Store], Any]] = {
    "has": lambda store: store.has([ABSENT]),
    "get": lambda store: store.get(ABSENT),
    "put": lambda store: store.put(b"x"),
    "put large": lambda store: store.put(bytes(3 << 20)),
    "delete": lambda store: store.delete(ABSENT),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("kind", ["s3", "sftp"])
def test_nothing_waits_for_ever(
    silent: str, monkeypatch: pytest.MonkeyPatch, home: Path, kind: str, use: str
) -> None:
    use_s3(monkeypatch, f"http://{silent}")
    url = "s3://bucket/x" if kind == "s3" else f"sftp://me@{silent}/x"
    store = FsspecStore(url, seconds=1.0, **(FRESH if kind == "s3" else {}))
    with closing(store), pytest.raises(HashserverError, match=f"{kind}://"):
        USES[use](store)


def test_a_server_of_ssh_that_is_stopped_in_the_middle(sshd: Any, home: Path, tmp_path: Path) -> None:
    sshd.accept(home)
    (tmp_path / "store").mkdir()
    with closing(FsspecStore(sshd.url(tmp_path / "store"), seconds=1.0)) as store:
        checksum = at_last(lambda: store.put(b"there"))
        with stopped(sshd), pytest.raises(ServiceUnavailable, match=r"sftp://.* does not answer"):
            store.get(checksum)


@contextmanager
def stopped(sshd: Any) -> Iterator[None]:
    """Halt a server with all that serve its connections."""
    found = subprocess.run(["pgrep", "-f", str(sshd.keys / "config")], capture_output=True, text=True)
    processes = {int(line) for line in found.stdout.split()}
    for parent in list(processes):  # those that serve connections have another command line
        inner = subprocess.run(["pgrep", "-P", str(parent)], capture_output=True, text=True).stdout
        processes |= {int(line) for line in inner.split()}
    try:
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        yield
    finally:
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)


@pytest.mark.parametrize(
    "command", [["seamless-upload", "f"], ["seamless-run", "cat < f"]], ids=["upload", "run"]
)
def test_a_command_says_which_place_is_silent(
    silent: str, monkeypatch: pytest.MonkeyPatch, home: Path, tmp_path: Path, command: list[str]
) -> None:
    use_s3(monkeypatch, f"http://{silent}")
    (tmp_path / "f").write_text("text")
    (home / ".config" / "seamless").mkdir(parents=True)
    (home / ".config" / "seamless" / "config.toml").write_text("store-timeout = 1\n")
    done = subprocess.run(
        [BIN / command[0], *command[1:]],
        cwd=tmp_path,
        env=os.environ | {"SEAMLESS_STORE": "s3://bucket/x"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 1
    assert "s3://bucket/x" in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_a_missing_bucket_is_no_missing_buffer(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use_s3(monkeypatch, s3_endpoint)
    store = FsspecStore(f"s3://{uuid.uuid4().hex}/x", **FRESH)
    for use in (lambda: store.get(ABSENT), lambda: store.has([ABSENT])):
        with pytest.raises(ServiceUnavailable, match="create it first"):
            use()


@pytest.mark.parametrize(
    "url",
    [
        *("zip://x.zip", "reference://", "dir::s3://bucket", "simplecache::s3://bucket/x", "memory://x"),
        *("dir::x", "dir::/data", "zip::x.zip"),
        "dask://127.0.0.1:9/x",  # whose client unpickles what it is sent
    ],
)
def test_what_cannot_be_a_store_is_refused_in_one_line(url: str, tmp_path: Path, home: Path) -> None:
    (tmp_path / "f").write_text("text")
    done = subprocess.run(
        [BIN / "seamless-upload", "f"],
        cwd=tmp_path,
        env=os.environ | {"SEAMLESS_STORE": url},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode in (1, 2)
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert os.listdir(tmp_path) == ["f"]
