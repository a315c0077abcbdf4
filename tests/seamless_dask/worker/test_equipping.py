"""What a worker is told, and what it makes of it on its own host."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from seamless_dask.errors import UsageError
from seamless_dask.graph.task import PROTOCOL
from seamless_dask.version import __version__
from seamless_dask.worker import bootstrap
from seamless_dask.worker.data_locations import DataLocations
from seamless_dask.worker.plugin import Equipment

HERE = os.uname().nodename
PLACES = DataLocations(("/store", "https://server:1"), "https://server:1", "none", 1000, HERE)


def test_the_plugin_travels_as_places_and_text() -> None:
    data = pickle.dumps(Equipment(PLACES))
    assert b"cseamless" not in data  # nothing that an unpickler would have to import
    arrived = pickle.loads(data)
    assert isinstance(arrived, Equipment)
    assert arrived.places == PLACES


def reason(arrived: Any) -> str:
    """What a worker tells that nothing of ours can run on."""
    events: list[Any] = []

    class Worker:
        address = "tcp://worker:1"

        def log_event(self, topic: str, event: dict[str, str]) -> None:
            events.append((topic, event["action"], event["message"]))

    arrived.setup(Worker())
    [(topic, action, message)] = events
    assert (topic, action) == ("seamless", "unequipped")
    return str(message)


def test_another_protocol_is_told_with_both_versions() -> None:
    message = reason(bootstrap.arrive(PLACES.to_json(), "9.9", PROTOCOL + 1))
    assert (
        f"it has seamless-dask {__version__}, which speaks protocol {PROTOCOL}, the scheduler 9.9" in message
    )


def test_what_another_version_says_beyond_that_costs_nobody_the_worker() -> None:
    message = reason(bootstrap.arrive(PLACES.to_json() | {"news": 1}, "9.9", PROTOCOL))
    assert "install seamless-dask 9.9 there" in message


def test_on_the_same_host_paths_hold() -> None:
    config = PLACES.config({"HOME": "/nowhere"})
    assert config.stores == ("/store", "https://server:1")
    assert (config.database, config.isolation, config.node_cache_size) == ("https://server:1", "none", 1000)


def test_on_another_host_only_addresses_do() -> None:
    config = PLACES._replace(host="another").config({"HOME": "/nowhere"})
    assert config.stores == ("https://server:1",)


def test_on_a_shared_file_system_paths_hold_everywhere() -> None:
    assert PLACES._replace(host=None).config({"HOME": "/nowhere"}).stores[0] == "/store"


def test_the_workers_own_environment_comes_first() -> None:
    environment = {"HOME": "/nowhere", "SEAMLESS_STORE": "/near", "SEAMLESS_ISOLATION": "bubblewrap"}
    config = PLACES.config(environment)
    assert (config.stores, config.isolation) == (("/near",), "bubblewrap")
    assert config.database == "https://server:1"


def test_what_lies_on_another_host_only_cannot_be_used() -> None:
    places = DataLocations(("/store",), "/seamless.db", host="another")
    with pytest.raises(UsageError, match=r"cannot reach /seamless\.db on another: start a hashserver"):
        places.config({"HOME": "/nowhere"})


def test_a_project_file_in_the_workers_directory_is_not_read(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "seamless.toml").write_text("store = 'other'")
    monkeypatch.chdir(tmp_path)
    assert PLACES.config({"HOME": "/nowhere"}).stores[0] == "/store"
