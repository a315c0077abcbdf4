"""A scheduler with our plugin, workers in this process, and our client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import dask
import pytest
from distributed import LocalCluster

from seamless_dask import Client
from seamless_dask.graph import handles
from seamless_dask.scheduler import SeamlessScheduler


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SEAMLESS_CACHE", str(tmp_path_factory.mktemp("shared")))
        environment.setenv("SEAMLESS_ISOLATION", "none")
        with (
            dask.config.set({"distributed.scheduler.active-memory-manager.start": False}),
            LocalCluster(
                n_workers=2, threads_per_worker=1, processes=False, protocol="tcp://", dashboard_address=":0"
            ) as found,
        ):
            yield found


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    with Client(cluster) as found:
        found.register_plugin(SeamlessScheduler())
        yield found


@pytest.fixture
def other(cluster: LocalCluster, client: Client) -> Iterator[Client]:
    """A second client, which is not the one of this process."""
    del client
    with Client(cluster, set_as_default=False) as found:
        yield found


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many keys each request has looked up that a client made."""
    from seamless_dask.graph import lazy_graph

    numbers: list[int] = []
    ask = lazy_graph.LookUps.ask

    def counted(self: lazy_graph.LookUps, keys: list[Any]) -> None:
        numbers.extend([len(keys)] if keys else [])
        ask(self, keys)

    monkeypatch.setattr(lazy_graph.LookUps, "ask", counted)
    return numbers


@pytest.fixture
def sent(client: Client, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The operations of what a client has told its scheduler, but for heartbeats."""
    operations: list[Any] = []
    send = client._send_to_scheduler_safe

    def counted(message: Any) -> None:
        if not message["op"].startswith("heartbeat"):
            operations.append(message["op"])
        send(message)

    monkeypatch.setattr(client, "_send_to_scheduler_safe", counted)
    return operations


@pytest.fixture
def nothing_is_stored(client: Client) -> Callable[[], AbstractContextManager[None]]:
    """Makes blocks in which nothing is written into the store of this process."""
    del client
    return _nothing_is_stored


@contextmanager
def _nothing_is_stored() -> Iterator[None]:
    store = handles.default_context().store

    def refused(*_: Any) -> Any:
        raise AssertionError("something is stored")

    with pytest.MonkeyPatch.context() as patch:
        for name in ("writer", "put", "put_many", "put_named"):
            if hasattr(store, name):
                patch.setattr(store, name, refused)
        yield
