"""Stores and databases are opened when they are used, with the mode they should have."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from hashserver.checksum import hash_bytes
from hashserver.client.database import DatabaseClient
from hashserver.storage.chain import StoreChain
from hashserver.storage.directory import LocalStore
from seamless_dask.config import load
from seamless_dask.context import Context
from seamless_dask.model.transformation import Value

TF, X = hash_bytes(b"tf"), Value("file", hash_bytes(b"x"))


def test_nothing_is_made_before_it_is_used(home: Path, tmp_path: Path) -> None:
    with Context(load({}, str(tmp_path))) as context:
        assert context.embedded
        assert not (home / "cache").exists()
        context.store.put(b"x")
        assert stat.S_IMODE(os.stat(home / "cache").st_mode) == 0o700


def test_the_embedded_default_keeps_buffers_and_results(home: Path) -> None:
    with Context() as context:
        checksum = context.store.put(b"hello")
        context.database.put(checksum, "file", checksum)
    with Context() as context:
        found = context.database.get(checksum)
        assert found is not None
        assert context.store.get(found.checksum) == b"hello"
        assert context.node_cache.fetch(checksum).startswith(str(home / "cache" / "node"))


def test_several_stores_are_places(tmp_path: Path) -> None:
    with Context(load({"store": ["a", "b"]}, str(tmp_path))) as context:
        assert isinstance(context.store, StoreChain)
        checksum = context.store.put(b"x")
    assert LocalStore(tmp_path / "a").get(checksum) == b"x"


def test_a_server_is_not_embedded(tmp_path: Path) -> None:
    context = Context(load({"hashserver": "http://localhost:1"}, str(tmp_path)))
    assert not context.embedded
    assert context.database.path == "http://localhost:1"
    context.close()


def test_a_token_is_for_its_own_server_only(tmp_path: Path) -> None:
    options = {
        "hashserver": "http://ours:1",
        "store": ["http://ours:1", "http://theirs:1"],
        "token_file": "t",
    }
    context = Context(load(options, str(tmp_path)))
    assert context.config.credential("http://ours:1").token_file == str(tmp_path / "t")
    assert context.config.credential("http://theirs:1").token_file is None
    assert context.config.credential("s3://bucket").token_file is None


def test_without_a_server_of_its_own_a_token_is_for_the_database(tmp_path: Path) -> None:
    options = {"database": "http://ours:1", "store": ["http://theirs:1", "http://ours:1"], "token_file": "t"}
    context = Context(load(options, str(tmp_path)))
    assert context.config.credential("http://ours:1").token_file == str(tmp_path / "t")
    assert context.config.credential("http://theirs:1").token_file is None


def test_a_further_database_is_asked_too(tmp_path: Path) -> None:
    with Context(load({"database": "theirs.db"}, str(tmp_path))) as context:
        checksum = context.store.put(b"x")
        context.database.put(checksum, "file", checksum)
    with Context(load({"databases": ["theirs.db"]}, str(tmp_path))) as context:
        found = context.database.get(checksum)
        assert found is not None
        assert found.source == str(tmp_path / "theirs.db")


def test_a_cached_look_up_imports_nothing_heavy() -> None:
    code = (
        "import sys; before = set(sys.modules)\n"
        "from seamless_dask.context import Context; from seamless_dask.model.transformation import parse\n"
        "from hashserver.checksum import hash_bytes\n"
        "c = Context(); c.database.get(hash_bytes(b'')); c.store.has([hash_bytes(b'')]); c.stat_cache\n"
        "heavy = {'dataclasses', 'pathlib', 'subprocess', 'shutil', 'tempfile', 'random', 'uuid',\n"
        "         'asyncio', 'ssl', 'http', 'urllib', 'logging', 'inspect', 'concurrent', 'fsspec',\n"
        "         'multiprocessing', 'aiohttp', 'dask', 'click', 'tomllib'}\n"
        "print(*sorted((set(sys.modules) - before) & heavy))"
    )
    # without the packages that an editable installation imports at start-up
    words = [sys.executable, "-S", "-c", code]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    run = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    assert run.stdout.split() == []


def test_a_hashserver_that_has_moved_is_found_at_its_new_address(tmp_path: Path) -> None:
    before, now = "http://127.0.0.1:1", "http://127.0.0.1:2"
    config = load({"hashserver": before, "store": [str(tmp_path / "b"), before]}, str(tmp_path))
    with Context(config) as context:
        first = context.database
        context.move(before, now)
        assert context.config.stores == (str(tmp_path / "b"), now)
        assert context.config.hashserver == context.config.database == now
        assert context.database is not first


def requests(context: Context) -> dict[str, int]:
    """Return how many requests of each kind the server has answered."""
    assert isinstance(context.database, DatabaseClient)
    with context.database._transport.request("GET", "/metrics") as answer:
        text = answer.read().decode()
    found = re.findall(r'^hashserver_requests_total{route="(\w+)",.*} (\d+)$', text, re.MULTILINE)
    return {route: int(count) for route, count in found if route != "metrics"}


@pytest.mark.parametrize("more", [[], ["here"]])
def test_a_result_and_its_small_buffers_are_one_request_to_the_server_that_keeps_both(
    hashserver: dict[str, object], tmp_path: Path, more: list[str]
) -> None:
    options = hashserver | {"store": [hashserver["hashserver"], *more]}
    with Context(load(options, str(tmp_path))) as context:
        context.record(TF, X, {}, (), [b"x"])
        assert requests(context) == {"result": 1}
        assert context.store.get(X.checksum) == b"x"
        assert context.database.get(TF) is not None


def test_buffers_go_to_the_first_place_when_that_is_not_where_results_are(
    hashserver: dict[str, object], tmp_path: Path
) -> None:
    options = hashserver | {"store": ["here", hashserver["hashserver"]]}
    with Context(load(options, str(tmp_path))) as context:
        context.record(TF, X, {}, (), [b"x"])
        assert context.database.get(TF) is not None
    assert LocalStore(tmp_path / "here").get(X.checksum) == b"x"
    assert LocalStore(tmp_path / "store").has([X.checksum]) == [-1]


def test_an_embedded_result_is_recorded_with_its_buffers(home: Path) -> None:
    with Context() as context:
        context.record(TF, X, {"wall": 1}, (), [b"x"])
        found = context.database.get(TF)
        assert found is not None
        assert (found.record, context.store.get(found.checksum)) == ({"wall": 1}, b"x")
