"""Connecting to a daskserver with what there is of it: name, connection file, address."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import distributed
import pytest
from distributed import Security

import seamless_dask
from hashserver.auth import read_token_file
from hashserver.client.transport import Transport
from seamless_dask import connection, direct
from seamless_dask.client.security import security_of
from seamless_dask.connection import ConnectionFile
from seamless_dask.errors import UsageError

pytestmark = pytest.mark.filterwarnings("ignore:.*different version")


def add(x: int, y: int) -> int:
    return x + y


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def started(cache: Path) -> Iterator[ConnectionFile]:
    """A daskserver with one worker, and TLS."""
    command = [str(Path(sys.executable).parent / "seamless"), "daskserver"]
    environment = os.environ | {"SEAMLESS_CACHE": str(cache), "HOME": str(cache)}

    def run(*words: str) -> None:
        done = subprocess.run(
            [*command, *words], env=environment, capture_output=True, text=True, timeout=100
        )
        assert done.returncode == 0, done

    run("start", "--name", "there", "--workers", "1:1")
    try:
        yield connection.read(file_of(cache))
    finally:
        run("stop", "--name", "there")


def file_of(cache: Path) -> str:
    return str(Path(connection.directory_of(str(cache), "there")) / connection.FILE)


@pytest.fixture(params=["configuration", "name", "file", "address"])
def way(
    request: pytest.FixtureRequest, cache: Path, started: ConnectionFile, monkeypatch: pytest.MonkeyPatch
) -> str | None:
    monkeypatch.setenv("SEAMLESS_CACHE", str(cache))
    if request.param == "configuration":
        monkeypatch.setenv("SEAMLESS_DASKSERVER", file_of(cache))
        return None
    return {"name": "there", "file": file_of(cache), "address": started.scheduler}[request.param]


def test_all_ways_lead_to_the_same(way: str | None, started: ConnectionFile) -> None:
    with seamless_dask.connect(way) as client:
        assert type(client) is seamless_dask.Client
        future = client.submit(direct(add), 1, y=2)
        assert future.result(60) == 3
        assert client.places.config.hashserver == started.hashserver
        assert client.gather(client.map(direct(add), [1, 2], [2, 3])) == [3, 5]
        assert client.compute(direct(add).delayed(1, 2)).result(60) == 3
        assert direct(add)(1, 2) == 3


def test_the_dashboard_opens(started: ConnectionFile, cache: Path) -> None:
    with seamless_dask.connect(file_of(cache)) as client:
        base, _, path = client.dashboard_link.rpartition("/")
    token = read_token_file(started.token_file)[0].secret
    transport = Transport(base, token, started.ca_file)
    with closing(transport), transport.request("GET", f"/{path}") as answer:
        assert answer.status == 200


def test_a_stock_client_takes_the_connection_file(started: ConnectionFile, cache: Path) -> None:
    assert started.ca_file is not None
    with distributed.Client(scheduler_file=file_of(cache)) as client:
        assert client.submit(sum, [1, 2]).result(60) == 3
        port = started.jobserver.rpartition(":")[2]
        assert client.dashboard_link == f"http://127.0.0.1:{port}/status"  # which is sent on to https


def test_a_stock_client_with_security(started: ConnectionFile) -> None:
    with distributed.Client(started.scheduler, security=security_of(started)) as client:
        assert client.submit(direct(add), 1, y=2).result(60) == 3


@pytest.mark.parametrize("make", [seamless_dask.connect, seamless_dask.Client])
def test_missing_certificates_are_told_in_one_line(started: ConnectionFile, make: Any) -> None:
    with pytest.raises(
        UsageError, match=r"^a tls:// address takes certificates: security=.*connect\(\)"
    ) as told:
        make(started.scheduler)
    assert "\n" not in str(told.value)


def test_security_that_is_given_is_used(started: ConnectionFile) -> None:
    given = security_of(started)
    assert isinstance(given, Security)
    with seamless_dask.connect(started.scheduler, security=given) as client:
        assert client.submit(sum, [1, 2]).result(60) == 3


def test_a_name_is_no_file_that_happens_to_lie_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive that was unpacked here may hold one with that name, mode 0600 and all."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "default").write_text("{}")
    (tmp_path / "default").chmod(0o600)
    with pytest.raises(UsageError, match=r"^no daskserver called 'default' runs here: .* \(\./default"):
        seamless_dask.connect("default")
    with pytest.raises(UsageError, match="is not a connection file"):
        seamless_dask.connect("./default")


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the configuration names no daskserver"):
        seamless_dask.connect()
    with pytest.raises(UsageError, match=r"no daskserver called 'nobody' runs here: .* --name nobody"):
        seamless_dask.connect("nobody")
    with pytest.raises(UsageError, match="is not there; seamless-daskserver start writes one"):
        seamless_dask.connect(tmp_path / "connection.json")
