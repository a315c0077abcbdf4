"""A disk without any room: what is known is still told.

https://github.com/aptly-dev/aptly/issues/398: with the disk full no operation at all is possible, not even
one that only lists what is there or that would make room, since opening the database writes to it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..hazards.conftest import Mounts, World, mounts

__all__ = ["mounts"]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")


def fill(path: Path) -> None:
    """Leave no room at all."""
    for size in (1 << 16, 1 << 12, 1):
        with open(path, "ab", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                pass


@pytest.fixture(params=["embedded", "served"])
def full(
    request: pytest.FixtureRequest, tmp_path: Path, mounts: Callable[[str], Mounts]
) -> Iterator[tuple[World, Path]]:
    """A cache that knows a result, on a disk that is full; and the file that fills it."""
    world = World(tmp_path)
    world.cache.mkdir(mode=0o700)
    mounted = mounts(f"mount -t tmpfs -o size=4m,mode=700 none {world.cache}")
    world.prefix = world.server_prefix = mounted.inside(world.work)
    if request.param == "served":
        world.serve()
    world("seamless-run", "--capture", ":out", "echo known")
    filler = mounted.seen(world.cache / "filler")
    fill(filler)
    yield world, filler
    filler.unlink(missing_ok=True)
    world.close()


@pytest.fixture
def checksum(full: tuple[World, Path]) -> str:
    """What is known."""
    return (full[0].work / "out.CHECKSUM").read_text().strip()


@pytest.mark.parametrize("options", [(), ("-q",), ("-v",), ("--fingertip",), ("--dry-run",)])
def test_what_is_known_is_told(full: tuple[World, Path], checksum: str, options: tuple[str, ...]) -> None:
    world, _ = full
    done = world("seamless-run", *options, "echo known")
    assert (checksum.encode() if "--dry-run" in options else b"known\n") in done.stdout
    assert "no room" not in done.stderr
    assert "No space" not in done.stderr


def test_it_is_told_by_its_checksum(full: tuple[World, Path], checksum: str) -> None:
    world, _ = full
    assert checksum.encode() in world("seamless-run", "--json", "echo known").stdout
    for command in ("seamless-resolve", "seamless-fingertip"):
        assert world(command, checksum).stdout == b"known\n"
        assert world(command, "-q", checksum).stdout == b"known\n"


def test_it_is_delivered(full: tuple[World, Path], checksum: str) -> None:
    world, _ = full
    for options in ((), ("-q",)):
        (world.work / "out").unlink()
        world("seamless-download", *options, "out")
        assert (world.work / "out").read_text() == "known\n"
    (world.work / "out").unlink()
    world("seamless-run", "--capture", ":out", "echo known")
    assert (world.work / "out").read_text() == "known\n"


@pytest.mark.parametrize("options", [(), ("-q",), ("--json",)])
def test_the_status_is_shown(full: tuple[World, Path], options: tuple[str, ...]) -> None:
    world, _ = full
    done = world("seamless-status", *options)
    assert done.stdout
    assert "--json" not in options or json.loads(done.stdout)


@pytest.mark.parametrize("full", ["served"], indirect=True)
def test_a_server_that_starts_there_tells_it(full: tuple[World, Path], checksum: str) -> None:
    world, _ = full
    world.kill_server()
    world.serve()
    assert world("seamless-run", "echo known").stdout == b"known\n"
    assert world("seamless-resolve", checksum).stdout == b"known\n"


def test_what_is_not_known_says_why_and_works_when_there_is_room(full: tuple[World, Path]) -> None:
    world, filler = full
    world.hasten()
    assert "no room" in world("seamless-run", "--retries", "0", "echo new", status=1).last
    filler.unlink()
    assert world("seamless-run", "echo new").stdout == b"new\n"
