"""A real server process, and a way to talk to it with nothing but sockets."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import pytest

from hashserver.auth import create_token_file, read_token_file
from hashserver.checksum import Checksum, hash_bytes
from hashserver.client.database import DatabaseClient, connect_database
from hashserver.client.store import StoreClient, connect
from hashserver.storage.directory import PREFIX_MARKER

UNKNOWN = hash_bytes(b"unknown")


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        text = self.json["error"]
        assert isinstance(text, str)
        assert "\n" not in text
        return text


class NotStarted(Exception):
    """A server has ended instead of listening; what it said."""


class Running:
    """A server process and a plain way to talk to it."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory
        self.store, self.ready = directory / "store", directory / "ready"
        self.token_file = str(directory / "tokens")
        if not os.path.exists(self.token_file):
            create_token_file(self.token_file)
        self.writing, self.reading = (token.secret for token in read_token_file(self.token_file))
        self.options = options
        self.clients = contextlib.ExitStack()
        self.start()

    def start(self, port: int = 0) -> None:
        command = [
            sys.executable,
            "-m",
            "hashserver",
            "--store",
            str(self.store),
            "--token-file",
            self.token_file,
        ]
        command += ["--database", str(self.directory / "seamless.db"), "--ready-file", str(self.ready)]
        self.process = subprocess.Popen(
            [*command, "--port", str(port), *self.options], stderr=subprocess.PIPE, text=True
        )
        assert self.process.stderr is not None
        self.lines = []
        for line in self.process.stderr:
            self.lines.append(line)
            if "listening" in line:
                break
        if not self.lines or "listening" not in self.lines[-1]:
            self.process.wait()
            self.process.stderr.close()
            raise NotStarted(self.lines)
        self.url = self.lines[-1].split()[-1]
        self.port = int(self.url.rpartition(":")[2])

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.clients.close()
        self.process.send_signal(number)
        assert self.process.stderr is not None
        self.rest = self.process.stderr.read()
        self.process.stderr.close()
        return self.process.wait()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def head(self, method: str, path: str, token: str | None = "", **headers: str | int) -> bytes:
        lines = [f"{method} {path} HTTP/1.1", "Host: x"]
        if token is not None:
            lines.append(f"Authorization: Bearer {token or self.writing}")
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def ask(
        self, method: str, path: str, body: bytes | None = None, token: str | None = "", **headers: str | int
    ) -> Reply:
        if body is not None:
            headers["Content_Length"] = len(body)
        with self.connect() as sock:
            sock.sendall(self.head(method, path, token, **headers) + (body or b""))
            return receive(sock, method)

    def put(self, data: bytes) -> Checksum:
        checksum = hash_bytes(data)
        assert self.ask("PUT", f"/{checksum}", data).status in (200, 201)
        return checksum

    def client(self) -> StoreClient:
        return self.clients.enter_context(connect(self.url, self.token_file))

    def database(self) -> DatabaseClient:
        return self.clients.enter_context(connect_database(self.url, self.token_file))

    def files(self) -> set[str]:
        found = {p.name for p in self.store.rglob("*") if p.is_file()} if self.store.exists() else set()
        return found - {PREFIX_MARKER}


def receive(sock: socket.socket, method: str = "GET") -> Reply:
    with sock.makefile("rb") as file:
        return parse(file, method)


def parse(file: BinaryIO, method: str) -> Reply:
    first = file.readline()
    assert first.startswith(b"HTTP/1."), first
    headers = {}
    while (line := file.readline().strip()) != b"":
        name, _, value = line.decode().partition(":")
        headers[name.lower()] = value.strip()
    status, body = int(first.split()[1]), b""
    if "chunked" in headers.get("transfer-encoding", ""):
        while size := int(file.readline(), 16):
            body += file.read(size)
            file.readline()
    elif method != "HEAD" and status not in (100, 204, 304):
        body = file.read(int(headers["content-length"]))
    return Reply(status, headers, body)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(tmp_path_factory.mktemp("server"), "--max-size", "4M")
    yield running
    assert running.stop() == 0
    assert "Traceback" not in running.rest
    assert "[Errno" not in running.rest, "the system has refused something, and nobody had foreseen that"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Running]:
    """A server that the test may end."""
    running = Running(tmp_path)
    yield running
    running.clients.close()
    if running.process.poll() is None:
        running.stop(signal.SIGKILL)
