"""A network between a client and its server that goes silent: every request ends, and the server is named."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hashserver.checksum import Checksum, hash_bytes
from hashserver.client import transport
from hashserver.client.database import DatabaseClient, connect_database
from hashserver.client.store import Client, connect
from hashserver.errors import ServiceUnavailable

from ..stalling import Stalling
from .test_tls import Start, certificate, start

__all__ = ["start"]
MIB = 1 << 20
SIZE = 24 * MIB
MIDDLE = 6 * MIB
TF = hash_bytes(b"a transformation")


class Far:
    """A server, by way of a network that may go silent."""

    def __init__(self, url: str, token_file: str, ca_file: str | None, network: Stalling) -> None:
        self.url, self.token_file, self.ca_file, self.network = url, token_file, ca_file, network

    def client(self) -> Client:
        return connect(self.url, self.token_file, ca_file=self.ca_file)

    def database(self) -> DatabaseClient:
        return connect_database(self.url, self.token_file, ca_file=self.ca_file)


@pytest.fixture(params=["http", "https"])
def far(
    request: pytest.FixtureRequest, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Far]:
    monkeypatch.setattr(transport, "IDLE_SECONDS", 1.0)
    monkeypatch.setattr(transport, "CONNECT_SECONDS", 1.0)
    pem = certificate(tmp_path / "server.pem") if request.param == "https" else None
    network = Stalling(int(start(pem).rpartition(":")[2]))
    url = f"{request.param}://127.0.0.1:{network.port}"
    yield Far(url, str(tmp_path / "tokens"), str(pem) if pem else None, network)
    network.close()


USES: dict[str, Callable[[Client, Checksum, Path], object]] = {
    "has": lambda client, checksum, _: client.has([checksum]),
    "get": lambda client, checksum, _: client.get(checksum),
    "get_many": lambda client, checksum, _: list(client.get_many([checksum])),
    "get_file": lambda client, checksum, path: client.get_file(checksum, path),
    "put": lambda client, checksum, _: client.put(b"other"),
    "put_many": lambda client, checksum, _: client.put_many(iter([b"one", b"another"])),
    "delete": lambda client, checksum, _: client.delete(checksum),
    "verify": lambda client, checksum, _: client.verify(checksum),
}


@pytest.mark.parametrize("use", USES)
def test_a_request_on_a_connection_that_became_silent(far: Far, tmp_path: Path, use: str) -> None:
    with far.client() as client:
        checksum = client.put(b"text")
        far.network.hush()
        with pytest.raises(ServiceUnavailable, match=far.url):
            USES[use](client, checksum, tmp_path / "out")


def write(client: Client, data: bytes, _: Path) -> None:
    with client.writer() as writer:
        for at in range(0, len(data), MIB):
            writer.write(data[at : at + MIB])
        writer.commit()


def put_file(client: Client, data: bytes, directory: Path) -> None:
    (directory / "in").write_bytes(data)
    client.put_file(directory / "in")


UP: dict[str, Callable[[Client, bytes, Path], object]] = {
    "put": lambda client, data, _: client.put(data),
    "put_file": put_file,
    "writer": write,
}
DOWN: dict[str, Callable[[Client, bytes, Path], object]] = {
    "get": lambda client, data, _: client.get(hash_bytes(data)),
    "get_file": lambda client, data, directory: client.get_file(hash_bytes(data), directory / "out"),
    "read": lambda client, data, _: list(client.read(hash_bytes(data))),
}


@pytest.mark.parametrize("way", [*UP, *DOWN])
def test_a_transfer_that_stops_in_the_middle(far: Far, tmp_path: Path, way: str) -> None:
    data = os.urandom(SIZE)
    with far.client() as client:
        if way in DOWN:
            client.put(data)
            far.network.down = MIDDLE
        else:
            far.network.up = MIDDLE
        with pytest.raises(ServiceUnavailable, match=far.url):
            (UP | DOWN)[way](client, data, tmp_path)
        assert not (tmp_path / "out").exists()
        far.network.speak()
        assert client.get(client.put(data)) == data


def test_the_database_behind_it(far: Far) -> None:
    with far.database() as database:
        database.put(TF, "text", hash_bytes(b"text"))
        far.network.hush()
        uses: list[Callable[[], object]] = [
            lambda: database.lookup(TF),
            lambda: database.lookup_many([TF]),
            lambda: database.put(hash_bytes(b"another"), "text", hash_bytes(b"text")),
        ]
        for use in uses:
            with pytest.raises(ServiceUnavailable, match=far.url):
                use()
