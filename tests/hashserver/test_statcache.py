"""The stat cache: trusts only what cannot have changed, and never fails a run."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hashserver import filesystem, statcache
from hashserver.checksum import Checksum, hash_bytes
from hashserver.errors import FileChanged
from hashserver.hashing import Hashed, hash_stable
from hashserver.statcache import NullStatCache, StatCache, checksum_of, is_racy, stat_cache

ONE, TWO = hash_bytes(b"one"), hash_bytes(b"two")
SECOND = 1_000_000_000


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[StatCache]:
    cache = StatCache(tmp_path / "cache" / "stat.db")
    yield cache
    cache.close()


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "data" / "file"
    path.parent.mkdir()
    path.write_bytes(b"one")
    return str(path)


def later(status: os.stat_result) -> int:
    """A moment at which a file of that state was long settled."""
    return max(status.st_mtime_ns, status.st_ctime_ns) + 100 * SECOND


def put(cache: StatCache, path: str, checksum: Checksum = ONE) -> os.stat_result:
    status = os.stat(path)
    cache.put(path, status, checksum, later(status))
    return status


def reopen(cache: StatCache) -> StatCache:
    cache.close()
    return StatCache(cache._path)


class TestKey:
    def test_unchanged(self, cache: StatCache, file: str) -> None:
        put(cache, file)
        assert cache.get(file, os.stat(file)) == ONE
        again = reopen(cache)
        assert again.get(file, os.stat(file)) == ONE
        again.close()

    def test_unknown(self, cache: StatCache, file: str) -> None:
        assert cache.get(file, os.stat(file)) is None
        assert not os.path.exists(cache._path)

    def test_another_path_of_the_same_inode(self, cache: StatCache, file: str) -> None:
        os.link(file, file + "2")
        put(cache, file)
        assert cache.get(file + "2", os.stat(file + "2")) is None

    def test_another_size(self, cache: StatCache, file: str) -> None:
        put(cache, file)
        Path(file).write_bytes(b"longer")
        assert cache.get(file, os.stat(file)) is None

    def test_a_restored_mtime_is_betrayed_by_ctime(self, cache: StatCache, file: str) -> None:
        before = put(cache, file)
        while os.stat(file).st_ctime_ns == before.st_ctime_ns:  # the clock of the file system ticks
            Path(file).write_bytes(b"two")
            os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert os.stat(file).st_mtime_ns == before.st_mtime_ns
        assert cache.get(file, os.stat(file)) is None

    def test_a_replaced_file_is_betrayed_by_its_inode(self, cache: StatCache, file: str) -> None:
        put(cache, file)
        Path(file + "2").write_bytes(b"two")
        os.replace(file + "2", file)
        assert cache.get(file, os.stat(file)) is None

    def test_a_link_is_known_by_its_target(self, cache: StatCache, file: str) -> None:
        link = file + ".link"
        Path(file + "2").write_bytes(b"two")
        os.symlink("file", link)
        put(cache, link)
        assert cache.get(link, os.stat(link)) == ONE
        os.unlink(link)
        os.symlink("file2", link)
        assert cache.get(link, os.stat(link)) is None

    def test_relative_paths_are_those_of_the_working_directory(
        self, cache: StatCache, file: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(cache, file)
        monkeypatch.chdir(os.path.dirname(file))
        assert cache.get("file", os.stat("file")) == ONE
        assert cache.get("./file", os.stat("file")) == ONE

    def test_names_of_every_kind(self, cache: StatCache, tmp_path: Path) -> None:
        for name in ("a\nb", "é", '"', os.fsdecode(b"\xff")):
            path = f"{tmp_path}/{name}"
            Path(path).write_bytes(b"one")
            put(cache, path)
            assert cache.get(path, os.stat(path)) == ONE


class TestYouth:
    @pytest.mark.parametrize("age", [-SECOND, 0, 1, 5_000_000])
    def test_too_young_is_not_trusted(self, cache: StatCache, file: str, age: int) -> None:
        status = os.stat(file)
        cache.put(file, status, ONE, max(status.st_mtime_ns, status.st_ctime_ns) + age)
        cache.put_many(os.path.dirname(file), [("file", Hashed(ONE, status, status.st_ctime_ns + age))])
        assert cache.get(file, status) is None

    def test_a_young_ctime_counts_too(self, cache: StatCache, file: str) -> None:
        os.utime(file, ns=(SECOND, SECOND))
        status = os.stat(file)
        cache.put(file, status, ONE, status.st_ctime_ns + 1)
        assert cache.get(file, status) is None

    def test_an_mtime_in_the_future_is_not_trusted(self, cache: StatCache, file: str) -> None:
        future = time.time_ns() + 1000 * SECOND
        os.utime(file, ns=(future, future))
        status = os.stat(file)
        cache.put(file, status, ONE, status.st_ctime_ns + 100 * SECOND)
        assert cache.get(file, status) is None

    def test_whole_seconds_mean_a_coarse_clock(self, file: str) -> None:
        os.utime(file, ns=(SECOND, SECOND))
        fields = list(os.stat(file))
        status = os.stat_result(fields, {"st_mtime_ns": 7 * SECOND, "st_ctime_ns": 7 * SECOND})
        assert is_racy(status, 8 * SECOND, 1)
        assert not is_racy(status, 10 * SECOND, 1)

    def test_a_file_written_right_after_hashing_is_read_again(self, cache: StatCache, file: str) -> None:
        for _ in range(200):  # many of these changes fall into one tick of the file system's clock
            Path(file).write_bytes(b"one")
            assert checksum_of(file, cache)[0] == ONE
            Path(file).write_bytes(b"two")
            assert checksum_of(file, cache)[0] == TWO


class TestLinking:
    def test_an_entry_from_before_the_link_is_lost(self, cache: StatCache, file: str) -> None:
        before = put(cache, file)
        while os.stat(file).st_ctime_ns == before.st_ctime_ns:
            os.link(file, file + "2")
            os.unlink(file + "2")
        assert cache.get(file, os.stat(file)) is None

    def test_an_entry_written_after_it_holds(self, cache: StatCache, file: str) -> None:
        before = os.stat(file)
        os.link(file, file + "2")
        cache.put_linked(file, before, ONE, later(before))
        assert cache.get(file, os.stat(file)) == ONE

    def test_but_not_if_the_file_was_written_meanwhile(self, cache: StatCache, file: str) -> None:
        before = os.stat(file)
        Path(file).write_bytes(b"longer")
        os.link(file, file + "2")
        cache.put_linked(file, before, ONE, later(before))
        assert cache.get(file, os.stat(file)) is None

    def test_nor_if_it_was_too_young_or_is_gone(self, cache: StatCache, file: str) -> None:
        before = os.stat(file)
        cache.put_linked(file, before, ONE, before.st_ctime_ns)
        assert cache.get(file, os.stat(file)) is None
        os.unlink(file)
        cache.put_linked(file, before, ONE, later(before))


class TestTrees:
    def test_many_at_once(self, cache: StatCache, tmp_path: Path) -> None:
        names = ["a", "sub/b", "sub/deep/é\n", "x.y"]
        root = tmp_path / "tree"
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(name)
        states = [(name, os.stat(root / name)) for name in names]
        cache.put_many(
            str(root),
            [(name, Hashed(hash_bytes(name.encode()), status, later(status))) for name, status in states],
        )
        expected = {name: hash_bytes(name.encode()) for name in names}
        assert cache.get_tree(str(root), states) == expected
        assert cache.get_tree(f"{root}/", states) == expected
        assert cache.get(f"{root}/sub/b", states[1][1]) == expected["sub/b"]
        (root / "a").write_text("changed")
        states[0] = ("a", os.stat(root / "a"))
        del expected["a"]
        assert cache.get_tree(str(root), states) == expected

    def test_neighbours_with_a_common_prefix_are_not_mixed_up(self, cache: StatCache, tmp_path: Path) -> None:
        for folder in ("set", "set2", "set-a", "set0"):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "x").write_text(folder)
            put(cache, f"{tmp_path}/{folder}/x", hash_bytes(folder.encode()))
        for folder in ("set", "set2", "set-a", "set0"):
            found = cache.get_tree(f"{tmp_path}/{folder}", [("x", os.stat(tmp_path / folder / "x"))])
            assert found == {"x": hash_bytes(folder.encode())}


class TestTrouble:
    @pytest.mark.parametrize("content", [b"garbage" * 1000, b"SQLite format 3\0" + b"\xff" * 5000])
    def test_a_corrupt_file_is_made_anew(self, cache: StatCache, file: str, content: bytes) -> None:
        os.makedirs(os.path.dirname(cache._path))
        Path(cache._path).write_bytes(content)
        assert cache.get(file, os.stat(file)) is None
        put(cache, file)
        assert cache.get(file, os.stat(file)) == ONE

    def test_corruption_within_is_survived(self, cache: StatCache, tmp_path: Path) -> None:
        for number in range(300):
            (tmp_path / f"f{number}").write_bytes(b"one")
            put(cache, f"{tmp_path}/f{number}")
        cache.close()
        with open(cache._path, "r+b") as db:
            db.seek(4096)
            db.write(b"\xff" * (os.path.getsize(cache._path) - 4096))
        states = [(f"f{number}", os.stat(tmp_path / f"f{number}")) for number in range(300)]
        assert cache.get_tree(str(tmp_path), states) == {}
        put(cache, f"{tmp_path}/f0")
        assert cache.get_tree(str(tmp_path), states) == {"f0": ONE}

    def test_a_flipped_bit_is_not_believed(self, cache: StatCache, file: str) -> None:
        put(cache, file)
        with sqlite3.connect(cache._path) as db:
            ((entry,),) = db.execute("SELECT entry FROM files_1").fetchall()
            db.execute("UPDATE files_1 SET entry = ?", (entry[:50] + bytes([entry[50] ^ 1]) + entry[51:],))
        db.close()
        assert cache.get(file, os.stat(file)) is None
        assert cache.get_tree(os.path.dirname(file), [("file", os.stat(file))]) == {}

    def test_a_corrupt_file_is_kept_while_others_have_it_open(self, cache: StatCache, file: str) -> None:
        put(cache, file)
        cache.close()
        assert cache.get(file, os.stat(file)) == ONE
        other = StatCache(cache._path)
        with open(cache._path, "r+b") as db:
            db.write(b"garbage" * 100)
        inode = os.stat(cache._path).st_ino
        assert other.get(file, os.stat(file)) is None
        assert os.stat(cache._path).st_ino == inode
        cache.close()
        put(other, file)
        assert other.get(file, os.stat(file)) == ONE
        other.close()

    def test_somebody_elses_table_is_not_ours(self, cache: StatCache, file: str) -> None:
        os.makedirs(os.path.dirname(cache._path))
        with sqlite3.connect(cache._path) as db:
            db.execute("CREATE TABLE other (x)")
        db.close()
        assert cache.get(file, os.stat(file)) is None
        put(cache, file)
        assert cache.get(file, os.stat(file)) == ONE

    def test_a_place_that_cannot_be_written(self, file: str) -> None:
        cache = StatCache(f"{file}/cache/stat.db")  # below a file: not even root can
        put(cache, file)
        assert cache.get(file, os.stat(file)) is None
        cache.close()

    def test_a_directory_in_its_place(self, cache: StatCache, file: str) -> None:
        os.makedirs(cache._path)
        put(cache, file)
        assert cache.get(file, os.stat(file)) is None

    def test_a_locked_file_is_passed_over(
        self, cache: StatCache, file: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(cache, file)
        cache.close()
        monkeypatch.setattr(statcache, "BUSY", 0.01)
        with sqlite3.connect(cache._path, isolation_level=None) as db:
            db.execute("BEGIN IMMEDIATE")
            put(cache, file, TWO)
            assert cache.get(file, os.stat(file)) == ONE
            db.execute("ROLLBACK")
        db.close()
        put(cache, file, TWO)
        assert cache.get(file, os.stat(file)) == TWO

    def test_one_that_has_grown_too_large_is_begun_anew(
        self, cache: StatCache, file: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(cache, file)
        cache.close()
        monkeypatch.setattr(statcache, "SIZE_LIMIT", 100)
        put(cache, os.path.dirname(cache._path) + "/../data/file", TWO)
        assert cache.get(file, os.stat(file)) == TWO
        inode = os.stat(cache._path).st_ino
        put(cache, file)
        assert os.stat(cache._path).st_ino == inode

    def test_only_the_user_may_read_it(self, cache: StatCache, file: str) -> None:
        put(cache, file)
        assert stat.S_IMODE(os.stat(cache._path).st_mode) == 0o600


WRITER = """
import os, sys
from hashserver.checksum import hash_bytes
from hashserver.statcache import StatCache
_, path, folder, first = sys.argv
cache = StatCache(path)
for number in range(int(first), int(first) + 40):
    name = f"{folder}/{number}"
    with open(name, "w") as file:
        file.write(str(number))
    status = os.stat(name)
    cache.put(name, status, hash_bytes(str(number).encode()), status.st_ctime_ns + 10**11)
    assert cache.get(name, status) == hash_bytes(str(number).encode()), number
"""


def test_many_processes_at_once(tmp_path: Path) -> None:
    path = tmp_path / "new" / "stat.db"  # they race to make it, too
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(tmp_path), str(first)])
        for first in range(0, 240, 40)
    ]
    assert [writer.wait() for writer in writers] == [0] * 6
    cache = StatCache(path)
    states = [(str(number), os.stat(tmp_path / str(number))) for number in range(240)]
    assert len(cache.get_tree(str(tmp_path), states)) == 240
    cache.close()


def test_many_threads_at_once(cache: StatCache, tmp_path: Path) -> None:
    def work(first: int) -> None:
        for number in range(first, first + 50):
            (tmp_path / str(number)).write_bytes(b"one")
            put(cache, f"{tmp_path}/{number}")

    threads = [threading.Thread(target=work, args=(first,)) for first in range(0, 200, 50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    states = [(str(number), os.stat(tmp_path / str(number))) for number in range(200)]
    assert len(cache.get_tree(str(tmp_path), states)) == 200


class TestChoice:
    def test_beside_the_other_things(self, tmp_path: Path) -> None:
        cache = stat_cache(tmp_path)
        assert isinstance(cache, StatCache)
        assert cache._path == f"{tmp_path}/stat.db"

    def test_on_this_host_when_the_cache_is_on_a_network(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "mounts").write_text(f"30 27 0:40 / {tmp_path}/home rw - nfs4 server:/home rw\n")
        monkeypatch.setattr(filesystem, "MOUNTS", str(tmp_path / "mounts"))
        monkeypatch.setattr(statcache, "local_directory", lambda: str(tmp_path / "local"))
        cache = stat_cache(tmp_path / "home" / "cache")
        assert isinstance(cache, StatCache)
        assert cache._path == f"{tmp_path}/local/stat.db"
        monkeypatch.setattr(statcache, "local_directory", lambda: None)
        assert type(stat_cache(tmp_path / "home" / "cache")) is NullStatCache

    def test_the_twin_remembers_nothing(self, file: str) -> None:
        twin = NullStatCache()
        status = os.stat(file)
        twin.put(file, status, ONE, later(status))
        twin.put_linked(file, status, ONE, later(status))
        twin.put_many(os.path.dirname(file), [("file", Hashed(ONE, status, later(status)))])
        assert twin.get(file, status) is None
        assert twin.get_tree(os.path.dirname(file), [("file", status)]) == {}
        twin.close()


class TestChecksumOf:
    def test_a_known_file_is_not_read(self, cache: StatCache, file: str) -> None:
        put(cache, file, TWO)  # a lie that only reading would find out
        assert checksum_of(file, cache) == (TWO, os.stat(file))

    def test_an_unknown_one_is_read_and_kept(
        self, cache: StatCache, file: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(statcache, "is_racy", lambda *_: False)
        assert checksum_of(file, cache) == (ONE, os.stat(file))
        assert cache.get(file, os.stat(file)) == ONE

    def test_what_is_no_file(self, cache: StatCache, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        for path, kind in (
            (tmp_path, IsADirectoryError),
            (tmp_path / "pipe", OSError),
            (tmp_path / "x", FileNotFoundError),
        ):
            with pytest.raises(kind):
                checksum_of(path, cache)

    def test_a_file_that_grows_while_it_is_read(self, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
        real = os.fstat

        def grow(fd: int) -> os.stat_result:
            status = real(fd)
            with open(file, "ab") as more:
                more.write(b"more")
            return status

        monkeypatch.setattr("hashserver.hashing.os.fstat", grow)
        with pytest.raises(FileChanged, match="changed while it was read"):
            hash_stable(file)
