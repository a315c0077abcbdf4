"""What waits in a worker has its documents, code and look-up done meanwhile."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hashserver.checksum import Checksum, hash_bytes
from hashserver.client.database import DatabaseClient
from seamless_dask.config import load
from seamless_dask.context import Context
from seamless_dask.execution.placement import Placement
from seamless_dask.execution.workdir import RunDirectory
from seamless_dask.model.transformation import Description, ResultSpec, Value
from seamless_dask.worker import prefetch
from seamless_dask.worker.metered_store import MeteredStore
from seamless_dask.worker.prefetch import Prefetch, Small

from .conftest import wait_until


def test_documents_and_code_are_at_hand_and_misses_known_for_a_moment(lab: Any) -> None:
    keys = [lab.store(f"echo {number}") for number in range(3)]
    small = Small()
    fetching = Prefetch(lab.context, small, lambda task: task != "gone")
    for key, task in zip(keys, ["waits", "waits", "gone"], strict=True):
        fetching.add(task, key)
    wait_until(lambda: keys[1] in fetching._misses)
    codes = [hash_bytes(f"echo {number}".encode()) for number in range(3)]
    assert small.lacking([*keys, *codes]) == [keys[2], codes[2]]
    assert [fetching.is_unknown(keys[0]) for _ in range(2)] == [True, False]
    fetching.close()


def test_what_was_looked_up_too_long_ago_is_looked_up_again_with_those_that_are_next(
    lab: Any, monkeypatch: Any
) -> None:
    keys = [lab.store(f"echo {number}") for number in range(6)]
    waiting = {f"task {number}": number + 1 for number in range(6)}
    fetching = Prefetch(lab.context, Small(), waiting.get)
    for task in reversed(waiting):  # not in the order in which they are to run
        fetching.add(task, keys[waiting[task] - 1])
    wait_until(lambda: len(fetching._misses) == 6)
    assert fetching.is_unknown(keys[0])
    now = time.monotonic()
    monkeypatch.setattr(prefetch, "time", SimpleNamespace(monotonic=lambda: now + 2 * prefetch.MOMENT))
    asked: list[list[Checksum]] = []
    look_up = lab.context.database.lookup_many
    monkeypatch.setattr(
        lab.context.database, "lookup_many", lambda keys: asked.append(list(keys)) or look_up(keys)
    )
    lab.context.database.put(keys[2], "file", keys[2])  # by somebody else, in the meantime
    del waiting["task 4"]
    assert fetching.is_unknown(keys[1])
    assert asked == [[keys[1], keys[2], keys[3]]]  # one was told before: two more
    assert [fetching.is_unknown(key) for key in keys[1:4]] == [False, False, True]
    assert len(asked) == 1
    monkeypatch.setattr(prefetch, "time", SimpleNamespace(monotonic=lambda: now + 4 * prefetch.MOMENT))
    monkeypatch.setattr(lab.context.database, "lookup_many", lambda keys: 1 / 0)
    assert not fetching.is_unknown(keys[5])  # the task meets that itself, and is told
    fetching.close()


def test_one_request_does_where_one_server_has_it_all(hashserver: dict[str, object], tmp_path: Path) -> None:
    with Context(load(hashserver, str(tmp_path))) as context:
        codes = [context.store.put(f"echo {number}".encode()) for number in range(3)]
        tasks = [Description("bash", code, ResultSpec(stdout=True)).canonical() for code in codes]
        keys = [context.store.put(task) for task in tasks]
        context.database.put(keys[2], "file", keys[2])
        assert isinstance(context.database, DatabaseClient)
        small = Small()
        fetching = Prefetch(context, small, lambda task: True)
        fetching.add("absent", Checksum("1" * 64))
        fetching.add("no document", codes[0])
        for key in keys:
            fetching.add("waits", key)
        wait_until(lambda: keys[1] in fetching._misses)
        assert small.lacking([*keys, *codes]) == [keys[2], codes[2]]
        assert [fetching.is_unknown(key) for key in keys] == [True, True, False]
        fetching.close()
        text = context.database._transport.request("GET", "/metrics").read().decode()
        assert 'route="buffer",' not in text.replace('route="buffer",status="201"', "")
        assert 'route="pack"' not in text


def test_small_inputs_are_at_hand_and_the_store_is_not_asked_for_them(
    hashserver: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Context(load(hashserver, str(tmp_path))) as context:
        store = context.__dict__["store"] = MeteredStore(context.store)
        data = {"small": b"s" * prefetch.INPUT, "large": b"l" * (prefetch.INPUT + 1)}
        inputs = {name: Value("file", store.put(part)) for name, part in data.items()}
        task = Description("bash", store.put(b"cat small large"), ResultSpec(stdout=True), dict(inputs))
        fetching = Prefetch(context, store.small, lambda task: True)
        fetching.add("waits", store.put(task.canonical()))
        wait_until(lambda: store.at_hand(inputs["small"].checksum) >= 0)
        fetching.close()
        asked: list[Checksum] = []
        has = store._store.has
        monkeypatch.setattr(store._store, "has", lambda checksums: asked.extend(checksums) or has(checksums))
        for expected in ([inputs["large"].checksum], []):  # of a second run that needs it, too
            asked.clear()
            with RunDirectory() as directory:
                Placement(context, directory.layout, False, False).place(task, ())
                for name, part in data.items():
                    assert Path(directory.layout.path(name)).read_bytes() == part
            assert asked == expected


def test_what_cannot_be_fetched_is_left_to_the_task(lab: Any) -> None:
    small = Small()
    fetching = Prefetch(lab.context, small, lambda task: True)
    fetching.add("absent", Checksum("1" * 64))
    good = lab.store("echo good")
    wait_until(lambda: fetching._tasks.empty())
    fetching.add("good", good)
    wait_until(lambda: not small.lacking([good]))
    assert not fetching.is_unknown(Checksum("1" * 64))
    fetching.close()


def test_it_ends_though_something_waits(lab: Any) -> None:
    keys = [lab.store(f"echo {number}") for number in range(3)]
    busy = threading.Event()
    fetching = Prefetch(lab.context, Small(), lambda task: busy.wait(60))
    for key in keys[:2]:
        fetching.add("waits", key)
    fetching.add("last", keys[2])
    fetching.close()
    busy.set()
    fetching._thread.join(60)
    assert not fetching._thread.is_alive()


def test_small_buffers_are_kept_within_bounds(monkeypatch: Any) -> None:
    monkeypatch.setattr(prefetch, "ROOM", 10)
    small = Small()
    names = [Checksum(f"{number}" * 64) for number in range(3)]
    for name in names[:2]:
        small.put(name, b"12345")
    assert small.get(names[0]) == b"12345"
    small.put(names[2], b"12345")
    assert [small.get(name) is None for name in names] == [False, True, False]
    small.put(names[1], bytes(prefetch.LARGEST + 1))
    assert small.get(names[1]) is None


def test_a_counted_store_counts_and_keeps_what_is_small(lab: Any) -> None:
    store = MeteredStore(lab.context.store)
    checksum = store.put(b"small")
    lab.context.store.delete(checksum)
    store.small.put(checksum, b"small")
    assert store.get(checksum) == b"small"
    assert (store.stored, store.fetched) == (5, 0)
    large = store.put(bytes(prefetch.LARGEST + 1))
    assert store.get(large) == store.get(large)
    assert store.fetched == 2 * (prefetch.LARGEST + 1)
