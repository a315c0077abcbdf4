"""A disk without any room: what is known is still told.

https://github.com/aptly-dev/aptly/issues/398: with the disk full no operation at all is possible, not even
one that only lists what is there or that would make room, since opening the database writes to it.
"""

from __future__ import annotations

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


@pytest.fixture
def full(tmp_path: Path, mounts: Callable[[str], Mounts]) -> Iterator[tuple[World, Path]]:
    """A cache that knows a result, on a disk that is full; and the file that fills it."""
    world = World(tmp_path)
    world.cache.mkdir(mode=0o700)
    mounted = mounts(f"mount -t tmpfs -o size=4m,mode=700 none {world.cache}")
    world.prefix = mounted.inside(world.work)
    world("seamless-run", "--capture", ":out", "echo known")
    filler = mounted.seen(world.cache / "filler")
    fill(filler)
    yield world, filler
    filler.unlink(missing_ok=True)
    world.close()


def test_what_is_known_is_told(full: tuple[World, Path]) -> None:
    world, _ = full
    checksum = (world.work / "out.CHECKSUM").read_text().strip()
    assert world("seamless-run", "echo known").stdout == b"known\n"
    assert world("seamless-run", "-q", "echo known").stdout == b"known\n"
    assert checksum.encode() in world("seamless-run", "--json", "echo known").stdout
    assert world("seamless-resolve", checksum).stdout == b"known\n"
    assert world("seamless-status").stdout
    (world.work / "out").unlink()
    world("seamless-download", "out")
    assert (world.work / "out").read_text() == "known\n"


def test_what_is_not_known_says_why_and_works_when_there_is_room(full: tuple[World, Path]) -> None:
    world, filler = full
    world.hasten()
    assert "no room" in world("seamless-run", "--retries", "0", "echo new", status=1).last
    filler.unlink()
    assert world("seamless-run", "echo new").stdout == b"new\n"
