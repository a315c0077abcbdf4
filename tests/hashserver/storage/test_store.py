"""What every store does, whatever keeps the bytes: one suite over all of them."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hashserver.checksum import Checksum, hash_bytes
from hashserver.errors import (
    BufferCorrupt,
    BufferMissing,
    FileChanged,
    InvalidRequest,
    LinkRefused,
    ServiceUnavailable,
)
from hashserver.opening import open_store
from hashserver.storage.store import Store

HELLO = b"hello\n"
LARGE = hashlib.shake_128(b"large").digest(3 << 20) + b"end"
ABSENT = hash_bytes(b"nobody has this")


class TestPut:
    def test_returns_the_checksum_and_gives_the_bytes_back(self, store: Store) -> None:
        checksum = store.put(HELLO)
        assert checksum == hashlib.sha256(HELLO).hexdigest()
        assert isinstance(checksum, Checksum)
        assert store.get(checksum) == HELLO

    def test_takes_the_empty_buffer(self, store: Store) -> None:
        checksum = store.put(b"")
        assert store.has([checksum]) == [0]
        assert store.get(checksum) == b""

    def test_twice_is_no_error(self, store: Store) -> None:
        assert store.put(HELLO) == store.put(HELLO)

    def test_is_laid_out_as_in_seamless(self, store: Store, backend: Any) -> None:
        checksum = store.put(HELLO)
        assert f"{checksum.prefix}/{checksum}" in backend.names()

    def test_at_once_from_many_writers(self, store: Store, backend: Any) -> None:
        failures: list[BaseException] = []

        def write() -> None:
            try:
                with backend.open() as other:
                    other.put_stream([LARGE[: 1 << 20], LARGE[1 << 20 :]], hash_bytes(LARGE))
            except BaseException as error:  # reported below
                failures.append(error)

        threads = [threading.Thread(target=write) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        assert store.get(hash_bytes(LARGE)) == LARGE


class TestPutFile:
    @pytest.mark.parametrize("data", [b"", HELLO, LARGE], ids=["empty", "small", "large"])
    def test_stores_the_file(self, store: Store, tmp_path: Path, data: bytes) -> None:
        path = tmp_path / "input"
        path.write_bytes(data)
        assert store.put_file(path) == (hash_bytes(data), len(data))
        assert store.get(hash_bytes(data)) == data

    @pytest.mark.parametrize("data", [HELLO, LARGE], ids=["small", "large"])
    def test_refuses_a_file_that_is_another(
        self, store: Store, backend: Any, tmp_path: Path, data: bytes
    ) -> None:
        path = tmp_path / "input"
        path.write_bytes(data)
        with pytest.raises(FileChanged, match=str(path)):
            store.put_file(path, ABSENT)
        assert store.has([ABSENT, hash_bytes(data)]) == [-1, -1]
        assert buffers(backend) == []

    def test_of_a_file_that_is_not_there_names_it(self, store: Store, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="nothing"):
            store.put_file(tmp_path / "nothing")

    def test_of_a_directory_is_an_error(self, store: Store, tmp_path: Path) -> None:
        with pytest.raises(IsADirectoryError):
            store.put_file(tmp_path)

    def test_of_many_keeps_their_order(self, store: Store, tmp_path: Path) -> None:
        contents = [f"content {number}".encode() for number in range(20)] + [LARGE]
        for number, data in enumerate(contents):
            (tmp_path / str(number)).write_bytes(data)
        names = [(tmp_path / str(number), None) for number in range(len(contents))]
        assert store.put_files(names) == [hash_bytes(data) for data in contents]
        assert store.has([hash_bytes(data) for data in contents]) == [len(data) for data in contents]

    def test_of_many_refuses_one_that_is_another(self, store: Store, tmp_path: Path) -> None:
        (tmp_path / "good").write_bytes(HELLO)
        (tmp_path / "bad").write_bytes(b"other")
        with pytest.raises(FileChanged, match="bad"):
            store.put_files([(tmp_path / "good", hash_bytes(HELLO)), (tmp_path / "bad", ABSENT)])
        assert store.has([ABSENT]) == [-1]


class TestPutStream:
    def test_stores_what_arrives(self, store: Store) -> None:
        parts = [LARGE[: 2 << 20], LARGE[2 << 20 :]]
        assert store.put_stream(parts) == (hash_bytes(LARGE), len(LARGE))
        assert store.get(hash_bytes(LARGE)) == LARGE

    def test_of_wrong_bytes_keeps_nothing(self, store: Store, backend: Any) -> None:
        with pytest.raises(BufferCorrupt):
            store.put_stream([HELLO], ABSENT)
        assert store.has([ABSENT, hash_bytes(HELLO)]) == [-1, -1]
        assert buffers(backend) == []

    def test_that_breaks_off_keeps_nothing(self, store: Store, backend: Any) -> None:
        def broken() -> Iterator[bytes]:
            yield LARGE
            raise ConnectionResetError

        with pytest.raises(ConnectionResetError):
            store.put_stream(broken(), hash_bytes(LARGE))
        assert store.has([hash_bytes(LARGE)]) == [-1]
        assert buffers(backend) == []

    def test_by_a_writer_is_visible_only_when_committed(self, store: Store) -> None:
        with store.writer() as writer:
            writer.write(LARGE)
            assert store.has([hash_bytes(LARGE)]) == [-1]
            assert writer.commit(hash_bytes(LARGE)) == (hash_bytes(LARGE), len(LARGE))
        assert store.has([hash_bytes(LARGE)]) == [len(LARGE)]


class TestHas:
    def test_answers_in_order_with_lengths(self, store: Store) -> None:
        checksums = [store.put(b"x" * length) for length in range(1, 4)]
        asked = [checksums[2], ABSENT, checksums[0], checksums[1]]
        assert store.has(asked) == [3, -1, 1, 2]

    def test_of_nothing_is_nothing(self, store: Store) -> None:
        assert store.has([]) == []

    def test_sees_what_another_has_stored_since(self, store: Store, backend: Any) -> None:
        assert store.has([hash_bytes(HELLO)]) == [-1]
        with backend.open() as other:
            other.put(HELLO)
        assert store.has([hash_bytes(HELLO)]) == [6]

    def test_sees_what_another_has_deleted(self, store: Store, backend: Any) -> None:
        checksum = store.put(HELLO)
        assert store.has([checksum]) == [6]
        with backend.open() as other:
            other.delete(checksum)
        assert store.has([checksum]) == [-1]


class TestGet:
    def test_of_what_is_not_there(self, store: Store) -> None:
        with pytest.raises(BufferMissing, match=ABSENT) as info:
            store.get(ABSENT)
        assert info.value.checksum == ABSENT

    @pytest.mark.parametrize("planted", [b"wrong\n", b"hell", b""], ids=["changed", "short", "empty"])
    def test_never_gives_wrong_bytes(self, store: Store, backend: Any, planted: bytes) -> None:
        checksum = hash_bytes(HELLO)
        backend.plant(checksum, planted)
        with pytest.raises((BufferCorrupt, BufferMissing)):
            store.get(checksum)

    def test_many(self, store: Store) -> None:
        contents = {store.put(str(number).encode()): str(number).encode() for number in range(40)}
        assert dict(store.get_many(contents)) == contents

    def test_many_names_the_missing_at_the_end(self, store: Store) -> None:
        checksum, got = store.put(HELLO), {}
        with pytest.raises(BufferMissing, match=ABSENT) as info:
            got.update(item for item in store.get_many([ABSENT, checksum]))
        assert got == {checksum: HELLO}
        assert info.value.missing == [ABSENT]

    def test_many_never_gives_wrong_bytes(self, store: Store, backend: Any) -> None:
        backend.plant(hash_bytes(HELLO), b"wrong\n")
        with pytest.raises(BufferCorrupt) as info:
            list(store.get_many([hash_bytes(HELLO)]))
        assert info.value.checksum == hash_bytes(HELLO)


class TestGetFile:
    @pytest.mark.parametrize("data", [b"", HELLO, LARGE], ids=["empty", "small", "large"])
    def test_writes_the_bytes(self, store: Store, tmp_path: Path, data: bytes) -> None:
        store.get_file(store.put(data), tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == data

    def test_replaces_a_file(self, store: Store, tmp_path: Path) -> None:
        (tmp_path / "out").write_bytes(b"old")
        store.get_file(store.put(HELLO), tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == HELLO

    @pytest.mark.parametrize(
        ("data", "executable", "mode"),
        [
            (HELLO, None, 0o640),
            (b"#!/bin/sh\n", None, 0o750),
            (b"\x7fELF....", None, 0o750),
            (b"#!/bin/sh\n", False, 0o640),
            (HELLO, True, 0o750),
        ],
    )
    def test_sets_the_mode(
        self, store: Store, tmp_path: Path, data: bytes, executable: bool | None, mode: int
    ) -> None:
        before = os.umask(0o027)
        try:
            store.get_file(store.put(data), tmp_path / "out", executable)
        finally:
            os.umask(before)
        assert (tmp_path / "out").stat().st_mode & 0o777 == mode

    def test_of_what_is_not_there_leaves_the_old_file(self, store: Store, tmp_path: Path) -> None:
        target = tmp_path / "target"
        target.mkdir()
        (target / "out").write_bytes(b"old")
        with pytest.raises(BufferMissing):
            store.get_file(ABSENT, target / "out")
        assert [(path.name, path.read_bytes()) for path in target.iterdir()] == [("out", b"old")]

    @pytest.mark.parametrize("planted", [b"wrong\n", LARGE], ids=["small", "large"])
    def test_of_corrupt_bytes_leaves_the_old_file(
        self, store: Store, backend: Any, tmp_path: Path, planted: bytes
    ) -> None:
        target = tmp_path / "target"
        target.mkdir()
        (target / "out").write_bytes(b"old")
        backend.plant(hash_bytes(HELLO), planted)
        with pytest.raises(BufferCorrupt):
            store.get_file(hash_bytes(HELLO), target / "out")
        assert [(path.name, path.read_bytes()) for path in target.iterdir()] == [("out", b"old")]

    def test_into_no_directory_names_the_file(self, store: Store, tmp_path: Path) -> None:
        checksum = store.put(HELLO)
        with pytest.raises(OSError, match="nowhere"):
            store.get_file(checksum, tmp_path / "nowhere" / "out")


class TestRead:
    def test_gives_all_bytes(self, store: Store) -> None:
        assert b"".join(store.read(store.put(LARGE))) == LARGE

    @pytest.mark.parametrize(("start", "length"), [(0, 5), (10, None), (1 << 20, 1 << 20), (5, 1 << 30)])
    def test_gives_a_range(self, store: Store, start: int, length: int | None) -> None:
        checksum = store.put(LARGE)
        end = None if length is None else start + length
        assert b"".join(store.read(checksum, start, length)) == LARGE[start:end]

    def test_of_what_is_not_there_fails_at_once(self, store: Store) -> None:
        with pytest.raises(BufferMissing):
            store.read(ABSENT)

    def test_given_up_lets_go(self, store: Store) -> None:
        chunks = iter(store.read(store.put(LARGE)))
        assert next(chunks)

    def test_as_an_open_file(self, store: Store) -> None:
        with store.open(store.put(HELLO)) as file:
            assert os.pread(file.fileno(), 100, 0) == HELLO
            assert file.read() == HELLO


class TestVerify:
    def test_finds_good_bytes_good(self, store: Store) -> None:
        checksum = store.put(HELLO)
        assert store.verify(checksum)
        assert store.get(checksum) == HELLO

    def test_quarantines_what_is_corrupt(self, store: Store, backend: Any) -> None:
        checksum = hash_bytes(HELLO)
        backend.plant(checksum, b"wrong\n")
        assert store.verify(checksum) is False
        assert store.has([checksum]) == [-1]
        with pytest.raises(BufferMissing):
            store.get(checksum)
        assert store.put(HELLO) == checksum
        assert store.get(checksum) == HELLO

    def test_is_asked_for_by_a_reader_of_wrong_bytes(
        self, store: Store, backend: Any, tmp_path: Path
    ) -> None:
        checksum = hash_bytes(HELLO)
        for read in (store.get, lambda checksum: store.get_file(checksum, tmp_path / "out")):
            backend.plant(checksum, b"wrong\n")
            with pytest.raises(BufferCorrupt):
                read(checksum)
            assert store.has([checksum]) == [-1]

    def test_of_what_is_not_there(self, store: Store) -> None:
        with pytest.raises(BufferMissing):
            store.verify(ABSENT)


class TestDelete:
    def test_forgets(self, store: Store) -> None:
        checksum = store.put(HELLO)
        store.delete(checksum)
        assert store.has([checksum]) == [-1]

    def test_of_what_is_not_there_is_no_error(self, store: Store) -> None:
        store.delete(ABSENT)


class TestManners:
    @pytest.mark.parametrize("backend", ["local", "memory", "s3", "sftp"], indirect=True)
    def test_a_put_mends_a_buffer_of_the_wrong_length(self, store: Store, backend: Any) -> None:
        backend.plant(hash_bytes(HELLO), b"hel")
        store.put(HELLO)
        assert store.get(hash_bytes(HELLO)) == HELLO

    def test_clean_keeps_buffers(self, store: Store) -> None:
        checksum = store.put(HELLO)
        assert store.clean() == 0
        assert store.get(checksum) == HELLO

    def test_a_directory_that_is_called_like_a_buffer_is_none(self, store: Store, backend: Any) -> None:
        if backend.kind not in ("local", "sftp", "webdav", "http"):
            pytest.skip("it has no directories")
        (backend.folder / ABSENT.prefix / ABSENT).mkdir(parents=True)
        assert store.has([ABSENT]) == [-1]
        with pytest.raises(BufferMissing):
            store.get(ABSENT)

    def test_only_a_store_of_this_host_has_paths(self, store: Store, backend: Any) -> None:
        path = store.local_path(store.put(HELLO))
        assert (path is not None) == (backend.kind == "local")

    def test_a_link_or_reference_elsewhere_is_refused(
        self, store: Store, backend: Any, tmp_path: Path
    ) -> None:
        if backend.kind == "local":
            pytest.skip("it can be had there: see test_local.py")
        (tmp_path / "input").write_bytes(HELLO)
        with pytest.raises(LinkRefused):
            store.link_file(tmp_path / "input", hash_bytes(HELLO))
        with pytest.raises(InvalidRequest):
            store.reference(tmp_path / "input", hash_bytes(HELLO))

    def test_it_says_where_it_is(self, store: Store, backend: Any) -> None:
        assert store.url
        assert store.writable
        assert store.url in repr(store)


def test_a_url_of_an_unknown_kind_is_an_error() -> None:
    with pytest.raises(ServiceUnavailable, match="nonsense"):
        open_store("nonsense://place").has([ABSENT])


def test_a_path_and_a_file_url_are_one_place(tmp_path: Path) -> None:
    checksum = open_store(tmp_path / "store").put(HELLO)
    assert open_store(f"file://{tmp_path}/store").get(checksum) == HELLO


def buffers(backend: Any) -> list[str]:
    """Return what is in the place but for what the store itself needs."""
    return [name for name in backend.names() if not name.startswith(".")]
