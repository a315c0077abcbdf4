"""A network between a client and its server that goes silent: every request ends, and the server is named."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from hashserver.checksum import Checksum, hash_bytes
from hashserver.client import transport
from hashserver.client.database import DatabaseClient, connect_database
from hashserver.client.store import StoreClient, connect
from hashserver.errors import ServiceUnavailable

from ..conftest import at_last
from ..stalling import Stalling
from .test_tls import certificate, starting

MIB = 1 << 20
SIZE = 24 * MIB
MIDDLE = 6 * MIB
TF = hash_bytes(b"a transformation")


class Server(NamedTuple):
    """Where it is, and what its clients need."""

    url: str
    token_file: str
    ca_file: str | None


class Far:
    """A server, by way of a network that may go silent; `near` is a client that is not on it, and patient."""

    def __init__(self, server: Server, near: StoreClient) -> None:
        self.near, self.network = near, Stalling(int(server.url.rpartition(":")[2]))
        scheme = server.url.partition(":")[0]
        self._server = server._replace(url=f"{scheme}://127.0.0.1:{self.network.port}")
        self.url = self._server.url

    def client(self) -> StoreClient:
        return connect(*self._server)

    def database(self) -> DatabaseClient:
        return connect_database(*self._server)


@pytest.fixture(params=["http", "https"], scope="module")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("server")
    pem = certificate(directory / "server.pem") if request.param == "https" else None
    with starting(directory) as begin:
        yield Server(begin(pem), str(directory / "tokens"), str(pem) if pem else None)


@pytest.fixture
def far(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Far]:
    with connect(*server) as near:
        near.put(b"text")  # it is connected before others lose their patience
        monkeypatch.setattr(transport, "IDLE_SECONDS", 1.0)
        monkeypatch.setattr(transport, "CONNECT_SECONDS", 1.0)
        made = Far(server, near)
        yield made
        made.network.close()


USES: dict[str, Callable[[StoreClient, Checksum, Path], object]] = {
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
    checksum = far.near.put(b"text")
    with far.client() as client:
        assert at_last(lambda: client.has([checksum])) == [4]
        far.network.hush()
        with pytest.raises(ServiceUnavailable, match=far.url):
            USES[use](client, checksum, tmp_path / "out")


def write(client: StoreClient, data: bytes, _: Path) -> None:
    with client.writer() as writer:
        for at in range(0, len(data), MIB):
            writer.write(data[at : at + MIB])
        writer.commit()


def put_file(client: StoreClient, data: bytes, directory: Path) -> None:
    (directory / "in").write_bytes(data)
    client.put_file(directory / "in")


UP: dict[str, Callable[[StoreClient, bytes, Path], object]] = {
    "put": lambda client, data, _: client.put(data),
    "put_file": put_file,
    "writer": write,
}
DOWN: dict[str, Callable[[StoreClient, bytes, Path], object]] = {
    "get": lambda client, data, _: client.get(hash_bytes(data)),
    "get_file": lambda client, data, directory: client.get_file(hash_bytes(data), directory / "out"),
    "read": lambda client, data, _: list(client.read(hash_bytes(data))),
}


@pytest.mark.parametrize("way", [*UP, *DOWN])
def test_a_transfer_that_stops_in_the_middle(far: Far, tmp_path: Path, way: str) -> None:
    data = os.urandom(SIZE)
    with far.client() as client:
        if way in DOWN:
            far.near.put(data)
            far.network.down = MIDDLE
        else:
            far.network.up = MIDDLE
        with pytest.raises(ServiceUnavailable, match=far.url):
            (UP | DOWN)[way](client, data, tmp_path)
        assert not (tmp_path / "out").exists()
        far.network.speak()
        assert at_last(lambda: client.get(client.put(data))) == data


def test_the_database_behind_it(far: Far) -> None:
    with far.database() as database:
        at_last(lambda: database.put(TF, "text", hash_bytes(b"text")))
        far.network.hush()
        uses: list[Callable[[], object]] = [
            lambda: database.lookup(TF),
            lambda: database.lookup_many([TF]),
            lambda: database.put(hash_bytes(b"another"), "text", hash_bytes(b"text")),
        ]
        for use in uses:
            with pytest.raises(ServiceUnavailable, match=far.url):
                use()
