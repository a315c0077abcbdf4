"""Disks that are full, stores that cannot be written, and bytes that are not what they were."""

from __future__ import annotations

import os
import shutil
import sqlite3
from typing import TYPE_CHECKING

import pytest

from .conftest import NOBODY, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .conftest import Mounts

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")


@pytest.fixture(params=["embedded", "served"])
def full(
    request: pytest.FixtureRequest, tmp_path: Path, mounts: Callable[[str], Mounts]
) -> Iterator[tuple[World, Path]]:
    """A cache on a disk of a few megabytes, and the path of a file that takes most of it."""
    world = World(tmp_path)
    world.cache.mkdir(mode=0o700)
    mounted = mounts(f"mount -t tmpfs -o size=6m,mode=700 none {world.cache}")
    inside = mounted.inside(world.work)
    if request.param == "served":
        world.server_prefix = inside
        world.serve()
        world.environment["SEAMLESS_CACHE"] = str(tmp_path / "elsewhere")
        world.cache = tmp_path / "elsewhere"
    else:
        world.prefix = inside
        world("seamless-run", "echo begin")
    filler = mounted.seen(tmp_path / "cache" / "filler")
    yield world, filler
    filler.unlink(missing_ok=True)
    world.close()


def fill(path: Path) -> None:
    """Leave no room but a little."""
    with open(path, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError:
            file.truncate(max(0, file.tell() - (1 << 18)))


@root_only
def test_a_full_disk(full: tuple[World, Path]) -> None:
    world, filler = full
    world.hasten()
    world.write("large", os.urandom(2 << 20))
    world.write("set/a", os.urandom(400_000))
    world.write("set/b", "b\n")
    fill(filler)
    for path in ("large", "set"):
        assert "no room" in world("seamless-upload", path, status=1).error
    assert not list(world.work.rglob("*.CHECKSUM"))
    assert "no room" in world("seamless-run", "cksum < large", status=1).last
    text = "head -c 2000000 /dev/zero; date +%N"
    done = world("seamless-run", "--retries", "0", "-cp", ":out", text, status=1)
    assert "no room" in done.last
    assert not list(world.work.glob("out*"))
    filler.unlink()
    world("seamless-upload", "large", "set")
    world("seamless-run", "-cp", ":out", text)
    assert (world.work / "out").stat().st_size > 2_000_000


@root_only
def test_a_result_that_finds_no_room_is_not_computed_again(full: tuple[World, Path], tmp_path: Path) -> None:
    world, filler = full
    world.environment["SEAMLESS_ISOLATION"] = "none"
    fill(filler)
    runs = tmp_path / "runs"
    text = f"echo run >> {runs}; head -c 2000000 /dev/zero"
    done = world("seamless-run", "-cp", ":out", text, status=1)
    assert "the result could not be stored: no room" in done.last
    assert runs.read_text() == "run\n"


@root_only
def test_a_full_disk_under_temporary_files(tmp_path: Path, mounts: Callable[[str], Mounts]) -> None:
    world = World(tmp_path)
    mounted = mounts(f"mount -t tmpfs -o size=1m none {world.temporary}")
    world.prefix = mounted.inside(world.work)
    for text in ("head -c 3000000 /dev/zero > big; wc -c < big", "head -c 3000000 /dev/zero | tee big; true"):
        done = world("seamless-run", "--retries", "0", text, status=1)
        assert "no room left" in done.last
        assert "TMPDIR" in done.last
        assert world("seamless-run", text, prefix=()).stdout
    assert list(mounted.seen(world.temporary).iterdir()) == []
    world.close()


@root_only
@pytest.mark.parametrize("free", [0, 1 << 19])
def test_a_full_disk_under_temporary_files_is_tried_once(
    tmp_path: Path, mounts: Callable[[str], Mounts], free: int
) -> None:
    world = World(tmp_path)
    world.environment["SEAMLESS_ISOLATION"] = "none"
    mounted = mounts(f"mount -t tmpfs -o size=1m none {world.temporary}")
    world.prefix = mounted.inside(world.work)
    filler = mounted.seen(world.temporary / "filler")
    fill(filler)
    os.truncate(filler, os.path.getsize(filler) - free)
    runs = tmp_path / "runs"
    text = f"echo run >> {runs}; head -c 3000000 /dev/zero > big; wc -c < big"
    done = world("seamless-run", text, status=1)
    assert done.stderr.count("no room left in") == 1
    assert "set TMPDIR to another place" in done.last
    assert runs.read_text() == "run\n"
    filler.unlink()
    world.close()


@root_only
def test_a_full_disk_under_a_download(world: World, mounts: Callable[[str], Mounts]) -> None:
    world.write("small/large", os.urandom(2 << 20))
    world("seamless-upload", "small/large")
    side = (world.work / "small" / "large.CHECKSUM").read_text()
    mounted = mounts(f"mount -t tmpfs -o size=1m none {world.work}/small")
    inside = mounted.inside(world.work)
    mounted.seen(world.work / "small" / "large.CHECKSUM").write_text(side)
    done = world("seamless-download", "small/large", status=1, prefix=inside)
    assert f"no room left in {world.work}/small" in done.error
    assert os.listdir(mounted.seen(world.work / "small")) == ["large.CHECKSUM"]


def read_only(world: World, mounts: Callable[[str], Mounts]) -> None:
    """Make the cache read-only, for the server if there is one."""
    if world.server:
        world.kill_server()
        world.serve("--read-only")
    else:
        cache = world.cache
        world.prefix = mounts(f"mount --bind {cache} {cache}\nmount -o remount,bind,ro {cache}").inside(
            world.work
        )


@root_only
def test_a_read_only_store(world: World, mounts: Callable[[str], Mounts]) -> None:
    world.write("a.txt", "hello\n")
    world("seamless-upload", "a.txt")
    world("seamless-run", "cat", "a.txt")
    read_only(world, mounts)
    world.write("b.txt", "new\n")
    done = world("seamless-upload", "b.txt", status=1)
    assert "read-only" in done.error or "not be written" in done.error or "may not" in done.error
    assert not (world.work / "b.txt.CHECKSUM").exists()
    (world.work / "a.txt").unlink()
    world("seamless-download", "a.txt")
    assert world("seamless-run", "cat", "a.txt").stdout == b"hello\n"
    done = world("seamless-run", "-cp", ":out", "rev", "b.txt", status=1)
    assert done.error
    assert not list(world.work.glob("out*"))
    world.prefix = ()


def corrupt(path: Path) -> None:
    """Flip a bit behind the store's back."""
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    path.chmod(0o444)


@pytest.mark.parametrize("size", [100, 6 << 20])
def test_a_corrupt_buffer(world: World, size: int) -> None:
    content = os.urandom(size)
    path = world.write("a.bin", content)
    world("seamless-upload", "a.bin")
    checksum = (world.work / "a.bin.CHECKSUM").read_text().strip()
    buffer = world.buffer(checksum)
    path.unlink()
    for command in (
        ("seamless-resolve", checksum),
        ("seamless-download", "a.bin"),
        ("seamless-fingertip", checksum),
    ):
        corrupt(buffer)
        done = world(*command, status=1)
        assert checksum in done.error
        assert done.stdout == b""
        assert not path.exists()
        if world.server:
            assert not buffer.exists()  # reported to the server, which has put it aside
            assert world.request("GET", f"/{checksum}").status == 404
        path.write_bytes(content)
        world("seamless-upload", "a.bin")
        path.unlink()
        assert world("seamless-resolve", checksum).stdout == content
    corrupt(buffer)
    done = world("seamless-run", "cksum < a.bin", status=1)
    assert checksum in done.last
    path.write_bytes(content)
    world("seamless-upload", "a.bin")
    assert world("seamless-run", "cmp a.bin a.bin && wc -c < a.bin").stdout == b"%d\n" % size


@pytest.mark.parametrize("size", [100, 6 << 20])
def test_a_corrupt_result_is_computed_again(world: World, size: int) -> None:
    text = f"head -c {size} /dev/zero | tr '\\0' x"
    world("seamless-run", "-cp", ":out", text)
    checksum = (world.work / "out.CHECKSUM").read_text().strip()
    corrupt(world.buffer(checksum))
    (world.work / "out").unlink()
    (world.work / "out.CHECKSUM").unlink()
    done = world("seamless-run", "-cp", ":out", text)
    assert (world.work / "out").read_bytes() == b"x" * size, done
    assert world("seamless-resolve", checksum).stdout == b"x" * size


def test_an_original_that_changed_after_in_place(embedded: World) -> None:
    path = embedded.write("a.txt", "hello\n")
    embedded("seamless-upload", "--in-place", "a.txt")
    checksum = (embedded.work / "a.txt.CHECKSUM").read_text().strip()
    shutil.copy(embedded.work / "a.txt.CHECKSUM", embedded.work / "b.txt.CHECKSUM")
    path.write_text("changed\n")
    commands = [
        ("seamless-resolve", checksum),
        ("seamless-download", "b.txt"),
        ("seamless-run", "cat", "b.txt"),
    ]
    for command in commands:
        done = embedded(*command, status=1)
        assert str(path) in done.last
        assert "changed" in done.last
        assert done.stdout == b""
    assert "a.txt has changed" in embedded("seamless-run", "cat", "a.txt", status=1).error
    embedded("seamless-upload", "a.txt")
    assert embedded("seamless-run", "cat", "a.txt").stdout == b"changed\n"


def spoil(path: Path, how: str) -> str:
    """Make a database corrupt or newer; return a word of what is said then."""
    if how == "newer":
        with sqlite3.connect(path) as database:
            database.execute("pragma user_version = 99")
        database.close()
        return "version 99"
    for name in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
        name.unlink(missing_ok=True)
    path.write_bytes(b"not a database" * 1000)
    return "seamless.db"


@pytest.mark.parametrize("how", ["corrupt", "newer"])
def test_a_corrupt_or_newer_database(embedded: World, how: str) -> None:
    embedded.write("a.txt", "hello\n")
    embedded("seamless-run", "cat", "a.txt")
    good = embedded.base / "good.db"
    embedded("seamless-status", "--export-db", good)
    word = spoil(embedded.database, how)
    before = embedded.database.read_bytes()
    for command in (("seamless-run", "cat", "a.txt"), ("seamless-run", "-cp", "out", "cp a.txt out")):
        done = embedded(*command, status=1)
        assert word in done.error
        assert "seamless.db" in done.error
        assert done.stdout == b""
    assert embedded.database.read_bytes() == before  # it may still be mended
    assert os.listdir(embedded.work) == ["a.txt"]
    embedded("seamless-upload", "a.txt")  # takes no database
    shutil.copy(good, embedded.database)
    assert "was known" in embedded("seamless-run", "-v", "cat", "a.txt").stderr


@pytest.mark.parametrize("how", ["corrupt", "newer"])
def test_a_server_with_a_corrupt_or_newer_database(embedded: World, how: str) -> None:
    embedded("seamless-run", "echo hi")
    word = spoil(embedded.database, how)
    options = ["--store", embedded.store, "--database", embedded.database, "--port", "0"]
    done = embedded("hashserver", *options, "--token-file", embedded.tokens, status=1)
    assert word in done.last
    done = embedded("seamless-init", status=1)
    assert word in done.error
    embedded.database.unlink()


IN_PLACE = """
import os
kept = os.stat("large")
os.chmod("large", 0o600)
with open("large", "r+b", buffering=0) as file:
    file.write(b"poison")
os.utime("large", ns=(kept.st_atime_ns, kept.st_mtime_ns))
os.chmod("large", kept.st_mode)
"""


@pytest.mark.parametrize("through", ["embedded", "server"])
def test_a_command_that_writes_to_its_input_in_place_and_puts_everything_back(
    other_account: World, through: str
) -> None:
    """Bytes, times and mode: of a hard link to a cached file nothing would tell."""
    world = other_account
    if through == "server":
        world.cache.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(world.cache, NOBODY, NOBODY)
        world.server_prefix = world.prefix
        world.serve()
    world.environment["SEAMLESS_ISOLATION"] = "none"
    content = b"clean!" + os.urandom(5 << 20)
    world.write("large", content)
    world.write("poison.py", IN_PLACE)
    assert world("seamless-run", "cat large").stdout == content
    assert world("seamless-run", "python3 poison.py; head -c 6 large").stdout == b"poison"
    assert world("seamless-run", "head -c 6 large").stdout == b"clean!"
    assert world("seamless-run", "cat large | cat").stdout == content
    assert [path for path in world.cache.rglob("*") if path.is_file() and path.stat().st_nlink > 1] == []
