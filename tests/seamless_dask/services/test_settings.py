from __future__ import annotations

import json
import socket
import stat
from pathlib import Path

import pytest

from seamless_dask.errors import UsageError
from seamless_dask.services.daskserver import settings
from seamless_dask.services.daskserver.credentials import Credentials
from seamless_dask.services.daskserver.settings import DaskserverSettings, Ports


@pytest.fixture
def told(tmp_path: Path) -> DaskserverSettings:
    return DaskserverSettings(
        str(tmp_path), "default", "/cache", "/store", "/db", resources=(("GPU", 1.0),), queues=("a", "b")
    )


@pytest.fixture
def busy() -> socket.socket:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def test_what_is_written_is_read(told: DaskserverSettings) -> None:
    settings.write(told)
    assert settings.read(told.directory) == told
    assert stat.S_IMODE(Path(told.file(settings.FILE)).stat().st_mode) == 0o600


def test_settings_that_make_no_sense_say_what_writes_them(told: DaskserverSettings) -> None:
    with pytest.raises(UsageError, match="seamless-daskserver start"):
        settings.read(told.directory)
    Path(told.file(settings.FILE)).write_text(json.dumps({"unknown": 1}))
    with pytest.raises(UsageError, match="seamless-daskserver start"):
        settings.read(told.directory)


def test_a_directory_that_is_another_one_elsewhere_is_refused(
    told: DaskserverSettings, tmp_path: Path
) -> None:
    path = tmp_path / "store"
    told = told._replace(shared=settings.to_share(str(path), str(tmp_path)))
    settings.write(told)
    settings.refuse_unshared(settings.read(told.directory))
    path.rename(tmp_path / "old")
    path.mkdir()
    with pytest.raises(UsageError, match=f"{path} is another directory on"):
        settings.refuse_unshared(told)


def test_ports_are_any_at_first_and_the_same_later(told: DaskserverSettings) -> None:
    assert settings.free_ports(told, "127.0.0.1") == Ports(0, 0, 0)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        free = sock.getsockname()[1]
    settings.write_ports(told, Ports(free, 0, 0))
    assert settings.free_ports(told, "127.0.0.1") == Ports(free, 0, 0)


def test_a_port_that_one_on_its_way_out_still_holds_is_waited_for(
    told: DaskserverSettings, busy: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = busy.getsockname()[1]
    monkeypatch.setattr(settings.time, "sleep", lambda _: busy.close())
    settings.write_ports(told, Ports(0, port, 0))
    assert settings.free_ports(told, "127.0.0.1") == Ports(0, port, 0)


def test_a_port_that_somebody_took_meanwhile_is_given_up(
    told: DaskserverSettings, busy: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "PORT_SECONDS", 0.1)
    settings.write_ports(told, Ports(0, busy.getsockname()[1], 0))
    assert settings.free_ports(told, "127.0.0.1") == Ports(0, 0, 0)


def test_a_port_that_was_asked_for_is_not_given_up(told: DaskserverSettings, busy: socket.socket) -> None:
    port = busy.getsockname()[1]
    with pytest.raises(UsageError, match=f"port ({port - 1}|{port}) is in use"):
        settings.free_ports(told._replace(port=port - 1), "127.0.0.1")


def test_local_workers_need_loopback_only(told: DaskserverSettings) -> None:
    assert settings.address_of(told) == "127.0.0.1"
    assert settings.address_of(told._replace(interface="lo")) == "127.0.0.1"
    assert settings.address_of(told._replace(host="localhost")) in ("127.0.0.1", "::1")


def test_jobs_need_an_address_of_the_network(told: DaskserverSettings) -> None:
    import dask.config

    with dask.config.set({"jobqueue.slurm.scheduler-options": {"host": "127.0.0.9"}}):
        assert settings.address_of(told._replace(cluster="slurm")) == "127.0.0.9"
    with dask.config.set({"jobqueue.slurm.interface": "lo"}):
        assert settings.address_of(told._replace(cluster="slurm")) == "127.0.0.1"


@pytest.mark.parametrize("where", [{"host": "no.such.host.invalid"}, {"interface": "nosuch0"}])
def test_an_address_that_is_not_ours_is_told(told: DaskserverSettings, where: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=f"cannot listen at {next(iter(where.values()))}"):
        settings.address_of(told._replace(**where))


def test_workers_have_nothing_to_say_over_http_and_dask_requires_tls() -> None:
    found = settings.dask_settings(Credentials("/token", "/ca", "/cert", "/key"))
    assert found["distributed.worker.http.routes"] == []
    assert found["distributed.comm.require-encryption"] is True
    assert not [route for route in found["distributed.scheduler.http.routes"] if "proxy" in route]
    assert settings.dask_settings(Credentials("/token"))["distributed.comm.require-encryption"] is False
