"""Several stores as one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hashserver.checksum import Checksum, hash_bytes
from hashserver.errors import (
    BufferCorrupt,
    BufferMissing,
    OriginalChanged,
    ReadOnly,
    ServiceUnavailable,
)
from hashserver.opening import open_store
from hashserver.storage.chain import StoreChain
from hashserver.storage.directory import LocalStore

ABSENT = hash_bytes(b"absent")


@pytest.fixture
def first(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "first")


@pytest.fixture
def second(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "second")


class Forbidden(LocalStore):
    """A colleague's store."""

    writable = False


def corrupt(store: LocalStore, checksum: Checksum) -> None:
    path = Path(store.root, checksum.prefix, checksum)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"wrong")


def unreachable() -> object:
    return open_store("sftp://nobody@127.0.0.1:1/store")


def test_reads_from_the_first_that_has_it(first: LocalStore, second: LocalStore) -> None:
    one, two = first.put(b"one"), second.put(b"two")
    places = StoreChain([first, second])
    assert places.has([two, ABSENT, one]) == [3, -1, 3]
    assert (places.get(one), places.get(two)) == (b"one", b"two")
    assert dict(places.get_many([one, two])) == {one: b"one", two: b"two"}
    assert places.local_path(two) == second.local_path(two)


def test_writes_to_the_first_that_may_be_written(tmp_path: Path, second: LocalStore) -> None:
    places = StoreChain([Forbidden(tmp_path / "theirs"), second])
    checksum = places.put(b"new")
    assert second.has([checksum]) == [3]
    assert not (tmp_path / "theirs").exists()


def test_writing_where_none_may_be_written_says_so(tmp_path: Path) -> None:
    places = StoreChain([Forbidden(tmp_path / "theirs")])
    assert not places.writable
    with pytest.raises(ReadOnly, match="theirs"):
        places.put(b"new")


def test_a_mismatch_is_quarantined_and_the_next_place_tried(
    first: LocalStore, second: LocalStore, tmp_path: Path
) -> None:
    for read in ("get", "get_file", "get_many"):
        checksum = second.put(read.encode())
        corrupt(first, checksum)
        places = StoreChain([first, second])
        if read == "get_file":
            places.get_file(checksum, tmp_path / "out")
            assert (tmp_path / "out").read_bytes() == b"get_file"
        else:
            data = places.get(checksum) if read == "get" else dict(places.get_many([checksum]))[checksum]
            assert data == read.encode()
        assert first.has([checksum]) == [-1]
        assert Path(first.root, ".quarantine", checksum).exists()


def test_a_mismatch_among_many_costs_only_itself(first: LocalStore) -> None:
    good, bad = [first.put(str(number).encode()) for number in range(5)], hash_bytes(b"bad")
    corrupt(first, bad)
    got: dict[Checksum, bytes] = {}
    with pytest.raises(BufferCorrupt) as info:
        got.update(item for item in StoreChain([first]).get_many([*good[:2], bad, *good[2:]]))
    assert info.value.checksum == bad
    assert list(got) == good


def test_what_no_place_has_is_missing(first: LocalStore, second: LocalStore) -> None:
    places = StoreChain([first, second])
    with pytest.raises(BufferMissing, match=ABSENT):
        places.get(ABSENT)
    with pytest.raises(BufferMissing, match=ABSENT):
        list(places.get_many([ABSENT]))


def test_a_changed_original_is_named_unless_another_place_has_it(
    first: LocalStore, second: LocalStore, tmp_path: Path
) -> None:
    original = tmp_path / "original"
    original.write_bytes(b"data")
    checksum = hash_bytes(b"data")
    first.reference(original, checksum)
    os.utime(original, ns=(0, 1))
    places = StoreChain([first, second])
    for access in (places.get, places.local_path):
        with pytest.raises(OriginalChanged, match=str(original)):
            access(checksum)
    second.put(b"data")
    assert places.get(checksum) == b"data"


def test_an_unreachable_place_does_not_matter_when_another_has_it(second: LocalStore) -> None:
    checksum = second.put(b"data")
    places = StoreChain([unreachable(), second])  # type: ignore[list-item]
    assert places.get(checksum) == b"data"
    assert places.has([checksum, ABSENT]) == [4, -1]


def test_what_an_unreachable_place_may_have_is_not_said_to_be_missing(second: LocalStore) -> None:
    places = StoreChain([unreachable(), second])  # type: ignore[list-item]
    with pytest.raises(ServiceUnavailable):
        places.get(ABSENT)
    with pytest.raises(ServiceUnavailable):
        list(places.get_many([ABSENT]))
    with pytest.raises(ServiceUnavailable):
        StoreChain([unreachable()]).has([ABSENT])  # type: ignore[list-item]
