"""The node cache: one fetch for all, bounded, and never wrong after somebody wrote through a link."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hashserver.checksum import Checksum, hash_bytes
from hashserver.errors import BufferCorrupt, BufferMissing
from hashserver.storage.cache import NodeCache
from hashserver.storage.directory import LocalStore

KIB = 1024


@pytest.fixture
def upstream(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def cache(tmp_path: Path, upstream: LocalStore) -> NodeCache:
    return NodeCache(tmp_path / "cache", 10 * KIB, upstream)


def fill(upstream: LocalStore, number: int, size: int = 3 * KIB) -> list[Checksum]:
    return [upstream.put(bytes([index]) * size) for index in range(number)]


def cached(cache: NodeCache, checksums: list[Checksum]) -> list[bool]:
    return [cache.unchanged(checksum) for checksum in checksums]


def test_gives_a_verified_read_only_copy(cache: NodeCache, upstream: LocalStore) -> None:
    checksum = upstream.put(b"data")
    path = cache.fetch(checksum)
    assert Path(path).read_bytes() == b"data"
    assert os.stat(path).st_mode & 0o777 == 0o444
    assert not os.path.samefile(path, upstream.local_path(checksum) or "")


def test_a_program_can_be_executed(cache: NodeCache, upstream: LocalStore) -> None:
    path = cache.fetch(upstream.put(b"#!/bin/sh\necho done\n"))
    assert subprocess.run([path], capture_output=True, check=True).stdout == b"done\n"


def test_the_second_time_nothing_is_fetched(cache: NodeCache, upstream: LocalStore) -> None:
    checksum = upstream.put(b"data")
    path = cache.fetch(checksum)
    upstream.delete(checksum)
    assert cache.fetch(checksum) == path


def test_what_upstream_does_not_have(cache: NodeCache) -> None:
    with pytest.raises(BufferMissing):
        cache.fetch(hash_bytes(b"absent"))
    assert leftovers(cache) == []


def test_corrupt_bytes_are_not_admitted(cache: NodeCache, upstream: LocalStore) -> None:
    checksum = upstream.put(b"data")
    path = Path(upstream.local_path(checksum) or "")
    path.unlink()
    path.write_bytes(b"evil")
    with pytest.raises(BufferCorrupt):
        cache.fetch(checksum)
    assert not cache.unchanged(checksum)
    assert leftovers(cache) == []


@pytest.mark.parametrize("what", ["bytes", "mode", "time"])
def test_a_change_through_a_link_is_noticed_and_mended(
    cache: NodeCache, upstream: LocalStore, tmp_path: Path, what: str
) -> None:
    checksum = upstream.put(b"data")
    link = tmp_path / "link"
    os.link(cache.fetch(checksum), link)
    assert cache.unchanged(checksum)
    if what == "time":
        os.utime(link, ns=(0, 1))
    else:
        link.chmod(0o644)
    if what == "bytes":
        link.write_bytes(b"evil")
        link.chmod(0o444)
        os.utime(link, ns=(0, 1))
    assert not cache.unchanged(checksum)
    assert Path(cache.fetch(checksum)).read_bytes() == b"data"
    assert cache.unchanged(checksum)


def test_drop_forgets(cache: NodeCache, upstream: LocalStore) -> None:
    checksum = upstream.put(b"data")
    path = cache.fetch(checksum)
    cache.drop(checksum)
    assert not os.path.exists(path)
    assert cache.size() == 0
    cache.drop(checksum)


def test_the_least_recently_used_goes_first(cache: NodeCache, upstream: LocalStore) -> None:
    checksums = fill(upstream, 4)
    for checksum in [*checksums[:3], checksums[0], checksums[3]]:
        cache.fetch(checksum)
    assert cached(cache, checksums) == [True, False, True, True]
    assert cache.size() <= cache.limit


def test_what_is_pinned_stays(cache: NodeCache, upstream: LocalStore) -> None:
    checksums = fill(upstream, 6)
    with cache.pin(checksums[0]) as pin:
        for checksum in checksums[1:]:
            cache.fetch(checksum)
        assert Path(pin.path).exists()
    for checksum in checksums[1:4]:
        cache.fetch(checksum)
    assert not cache.unchanged(checksums[0])


def test_one_buffer_over_the_limit_works(cache: NodeCache, upstream: LocalStore) -> None:
    small, large = upstream.put(b"small"), upstream.put(bytes(20 * KIB))
    cache.fetch(small)
    assert os.stat(cache.fetch(large)).st_size == 20 * KIB
    cache.fetch(small)
    assert cache.size() <= cache.limit


COUNT = """
import sys
from hashserver.storage.cache import NodeCache
from hashserver.checksum import Checksum
from hashserver.storage.directory import LocalStore
class Counting(LocalStore):
    def get_file(self, checksum, path, executable=None):
        super().get_file(checksum, path, executable)
        print("fetched", flush=True)
cache = NodeCache(sys.argv[1], 1 << 30, Counting(sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()
cache.fetch(Checksum(sys.argv[3]))
"""


def test_many_processes_fetch_once(cache: NodeCache, upstream: LocalStore) -> None:
    checksum = upstream.put(bytes(5 << 20))
    command = [sys.executable, "-c", COUNT, cache.directory, upstream.root, checksum]
    askers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    for asker in askers:
        assert asker.stdout is not None
        assert asker.stdout.readline() == "ready\n"
    for asker in askers:
        assert asker.stdin is not None
        asker.stdin.write("go\n")
        asker.stdin.flush()
    assert "".join(asker.communicate()[0] for asker in askers) == "fetched\n"
    assert all(asker.returncode == 0 for asker in askers)


DIE = """
import os, signal, sys
from hashserver.storage.cache import NodeCache
from hashserver.checksum import Checksum
from hashserver.storage.directory import LocalStore
class Dying(LocalStore):
    def get_file(self, checksum, path, executable=None):
        super().get_file(checksum, path, executable)
        os.kill(os.getpid(), signal.SIGKILL)
cache = NodeCache(sys.argv[1], 1 << 30, Dying(sys.argv[2]))
held = cache.pin(Checksum(sys.argv[4]))
cache.fetch(Checksum(sys.argv[3]))
"""


def test_a_killed_process_leaves_no_lock_no_pin_and_no_file(cache: NodeCache, upstream: LocalStore) -> None:
    pinned, wanted = upstream.put(b"pinned"), upstream.put(b"wanted")
    cache.fetch(pinned)
    command = [sys.executable, "-c", DIE, cache.directory, upstream.root, wanted, pinned]
    assert subprocess.run(command, check=False).returncode < 0
    assert len(leftovers(cache)) == 2
    NodeCache(cache.directory, 1 << 30, upstream)
    assert leftovers(cache) == []
    assert Path(cache.fetch(wanted)).read_bytes() == b"wanted"
    for checksum in fill(upstream, 5):
        cache.fetch(checksum)
    assert not cache.unchanged(pinned)


def test_the_directory_is_private(cache: NodeCache) -> None:
    assert os.stat(cache.directory).st_mode & 0o777 == 0o700


def leftovers(cache: NodeCache) -> list[str]:
    return os.listdir(f"{cache.directory}/.incoming") + os.listdir(f"{cache.directory}/.fetching")
