"""The files of the queue."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hashserver.checksum import Checksum
from seamless_dask.jobs.entries import QueueDelivery, QueueEntry
from seamless_dask.jobs.queue import CANCELLED, STRANGE, NoQueue, QueueStore
from seamless_dask.jobs.request import JobRequest
from seamless_dask.model.options import Options

REQUEST = JobRequest(Checksum("0" * 64), Options(priority=2, fresh=True), need_bytes=True)
ENTRY = QueueEntry(REQUEST, QueueDelivery("/", [["a", "a.txt"]], [True]), "true", {}, {"A": "1"}, ["1" * 64])


@pytest.fixture
def queue_store(tmp_path: Path) -> QueueStore:
    return QueueStore(str(tmp_path / "cache"))


@pytest.fixture
def taken(queue_store: QueueStore) -> Iterator[QueueStore]:
    """One that has a queue: this process."""
    lock = queue_store.take(2)
    assert lock is not None
    yield queue_store
    os.close(lock)


def test_nothing_is_made_by_looking(queue_store: QueueStore) -> None:
    assert queue_store.queue() is None
    assert queue_store.facts() is None
    assert queue_store.cancel("0" * 64) == []
    assert not os.path.exists(queue_store.path)


def test_an_entry_comes_back_as_it_was(taken: QueueStore) -> None:
    name = taken.add(ENTRY)
    assert taken.read(name) == ENTRY._replace(id=name)
    assert os.stat(os.path.join(taken.path, "entries", f"{name}.json")).st_mode & 0o777 == 0o600


def test_a_file_of_earlier_versions_is_read(taken: QueueStore) -> None:
    members = ["0" * 64, "true", "/", '{"fresh":true,"priority":2}', 2, [["a", "a.txt"]], [True], True]
    written = json.dumps([*members, {}, {"A": "1"}, ["1" * 64], "7"])
    Path(taken.path, "entries", "7.json").write_text(written)
    assert taken.read("7") == ENTRY._replace(id="7")
    assert ENTRY._replace(id="7").to_file().decode() == written


def test_entries_keep_their_order(taken: QueueStore) -> None:
    names = [taken.add(ENTRY) for _ in range(20)]
    assert taken.ids() == names


def test_many_at_a_time(taken: QueueStore) -> None:
    with ThreadPoolExecutor(8) as threads:
        names = list(threads.map(lambda _: taken.add(ENTRY), range(64)))
    assert sorted(names) == taken.ids()


def test_one_queue_at_a_time(taken: QueueStore) -> None:
    assert taken.take(1) is None
    assert (taken.queue() or {})["pid"] == os.getpid()


def test_no_entry_comes_in_behind_the_queue(queue_store: QueueStore) -> None:
    lock = queue_store.take(1)
    assert lock is not None
    name = queue_store.add(ENTRY)
    assert not queue_store.release(lock)
    queue_store.remove(name)
    assert queue_store.release(lock)
    with pytest.raises(NoQueue, match="seamless-queue"):
        queue_store.add(ENTRY)
    assert queue_store.ids() == []


def test_the_bell_rings(taken: QueueStore) -> None:
    bell = taken.open_bell()
    taken.add(ENTRY)
    assert os.read(bell, 64) == b"."
    os.close(bell)


def test_a_failure_takes_the_place_of_its_entry(taken: QueueStore) -> None:
    name = taken.add(ENTRY)
    failure = taken.fail(ENTRY._replace(id=name), "it failed", 3)
    assert taken.ids() == []
    assert taken.failures() == [failure]
    assert taken.failure(name) == failure
    assert taken.facts() == {"running": taken.queue(), "entries": 0, "failed": 1}
    taken.forget(name)
    assert taken.failures() == []


def test_a_failure_of_another_version_is_still_one(taken: QueueStore) -> None:
    taken.fail(ENTRY._replace(id="1"), "it failed")
    Path(taken.path, "failed", "1.json").write_text('{"not": "ours"}')
    assert [failure.message for failure in taken.failures()] == [STRANGE]
    taken.forget("1")
    assert taken.failures() == []


def test_cancelled_are_those_of_the_key(taken: QueueStore) -> None:
    other = taken.add(ENTRY._replace(request=REQUEST._replace(key=Checksum("2" * 64))))
    name = taken.add(ENTRY)
    assert [entry.id for entry in taken.cancel(ENTRY.key)] == [name]
    assert taken.ids() == [other]
    assert [failure.message for failure in taken.failures()] == [CANCELLED]


def test_logs_are_kept_as_long_as_they_tell_something(queue_store: QueueStore) -> None:
    lock = queue_store.take(1)
    assert lock is not None
    names = [queue_store.add(ENTRY) for _ in range(3)]
    for name in names:
        Path(queue_store.log(name)).write_text("said")
    queue_store.fail(ENTRY._replace(id=names[0]), "it failed")
    queue_store.remove(names[1])
    os.close(lock)
    assert queue_store.take(1) is not None
    assert [os.path.exists(queue_store.log(name)) for name in names] == [True, False, True]


def test_a_queue_store_that_is_removed_is_gone(queue_store: QueueStore) -> None:
    lock = queue_store.take(1)
    assert lock is not None
    assert not queue_store.is_gone(lock)
    os.rename(queue_store.path, f"{queue_store.path}-away")
    assert queue_store.is_gone(lock)
